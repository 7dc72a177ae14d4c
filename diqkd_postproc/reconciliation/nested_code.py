"""A code whose syndrome is sent in parts, each of which makes the code before it stronger.

The whole syndrome is that of a code with m_J checks. The first m_1 bits are those of a code in which pairs of
its checks are added up; every further increment sends one check of some pairs, so that both are known. All
codes of the family have the columns of the last one, and the last is as good as one made for m_J alone. (A
code to which checks are added instead is hardly better with them: they reach too few columns.)

Pairs are whole rows of the quasi-cyclic base matrix, so every length is a multiple of the lifting.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import lost_test_probability
from diqkd_postproc.reconciliation import splitmix
from diqkd_postproc.reconciliation.ensemble import (
    ENSEMBLES,
    NESTED_ENSEMBLE_NAMES,
    DegreeEnsemble,
    conditional_entropy,
    equivalent_qber,
    information_variance,
)
from diqkd_postproc.reconciliation.ensemble_choice import MIN_QBER, lowest_threshold
from diqkd_postproc.reconciliation.syndrome_code import (
    SHORTEST_WEAK_CYCLE,
    SyndromeCode,
    build_code,
    code_for,
    design_of,
    ensemble_named,
    lifting_for,
)

PAIRING_SEED = 0x70616972696E67

SCHEDULE = (0.0, 0.8, 1.5, 2.2, 2.9, 3.7, 5.0, 9.0)
"""Syndrome lengths above the threshold's, in standard deviations of a block's information -log2 P(error). In
these units frames of all channels and lengths are much alike: a seventh decode with the first, two thirds
with the third, 98 % at 3.7 (docs/codes.md)."""
LONG_BLOCK = 1_000_000
"""Rounds from which the first length is left out: a quarter of the iterations for 0.1 % of the syndrome."""


@dataclass(frozen=True, eq=False, repr=False)
class NestedCode:
    """A family of codes for syndromes of m_1 < ... < m_J bits, each the beginning of the next.

    code: that of m_J checks. pairs: (p, 2) int32 base rows whose checks are added up in the first syndrome;
    they are told apart in this order.
    """

    code: SyndromeCode
    totals: tuple[int, ...]
    pairs: NDArray[np.int32]
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        digest = self.code.digest
        if len(self.totals) > 1:
            content = (
                f"diqkd nested code 1;{digest};{self.totals}".encode() + self.pairs.astype("<i4").tobytes()
            )
            digest = hashlib.sha256(content).hexdigest()
        object.__setattr__(self, "digest", digest)

    def __repr__(self) -> str:
        return f"NestedCode({self.totals} x {self.code.num_rounds}, digest={self.digest[:16]})"

    @property
    def _alone(self) -> NDArray[np.int32]:
        rows = np.arange(self.code.row_start.size - 1, dtype=np.int32)
        return np.setdiff1d(rows, self.pairs)

    @property
    def _rows(self) -> NDArray[np.int32]:
        """Base rows of the codes of the family: those in no pair, then the pairs."""
        return np.concatenate([self._alone, self.pairs.ravel()])

    def _num_split(self, total: int) -> int:
        if total not in self.totals:
            raise ParameterError(f"a syndrome of {total} bits is none of {self.totals}")
        return (total - self.totals[0]) // self.code.lifting

    def syndrome(self, bits: NDArray[np.uint8], is_test: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(m_J,) uint8: the whole syndrome in the order in which it is sent; see `SyndromeCode.syndrome`."""
        checks = self.code.syndrome(bits, is_test)
        if not self.pairs.size:
            return checks
        checks = checks.reshape(-1, self.code.lifting)
        first, second = self.pairs.T
        return np.concatenate([checks[self._alone], checks[first] ^ checks[second], checks[first]]).reshape(
            -1
        )

    def at(self, total: int) -> SyndromeCode:
        """The code that a syndrome of `total` bits belongs to. Raises ParameterError for other lengths.

        All have the same edges in the same order, so that the decoder's messages can be taken from one to the
        next: a pair that is told apart is the same edges in two rows.
        """
        split = self._num_split(total)
        if not self.pairs.size:
            return self.code
        start = self.code.row_start
        order = np.concatenate([np.arange(start[row], start[row + 1]) for row in self._rows])
        starts = np.concatenate(([0], np.cumsum(np.diff(start)[self._rows])))
        return replace(
            self.code,
            syndrome_bits=total,
            row_start=np.delete(starts, self._alone.size + 1 + 2 * np.arange(split, len(self.pairs))).astype(
                np.int32
            ),
            edge_column=self.code.edge_column[order],
            edge_shift=self.code.edge_shift[order],
        )

    def checks(self, sent: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Syndrome of `at(sent.size)`, from the bits that were sent so far: (m_j,) uint8 both."""
        split = self._num_split(sent.size)
        if not self.pairs.size:
            return sent
        rows = sent.reshape(-1, self.code.lifting)
        num_alone, num_first = self._alone.size, self.totals[0] // self.code.lifting
        sums, first = rows[num_alone:num_first], rows[num_first:]
        apart = np.stack([first, sums[:split] ^ first], axis=1)
        return np.concatenate([rows[:num_alone].ravel(), apart.ravel(), sums[split:].ravel()])


def best_ensemble(gamma: float, qber: float, test_error: float) -> tuple[DegreeEnsemble, float]:
    """The shipped ensemble with the lowest threshold on a channel, and that; a few seconds at first."""
    threshold, name = lowest_threshold(gamma, max(qber, MIN_QBER), test_error, NESTED_ENSEMBLE_NAMES)
    return ENSEMBLES[name], threshold / 1000


def rounded_totals(num_rounds: int, totals: tuple[int, ...]) -> tuple[int, ...]:
    """Syndrome lengths of a family near `totals`: multiples of the lifting, each once, rising."""
    if len(totals) < 2:
        return totals
    lifting = lifting_for(num_rounds, totals[0])
    return tuple(sorted({max(1, round(total / lifting)) * lifting for total in totals}))


def build_nested_code(
    num_rounds: int, totals: tuple[int, ...], gamma: float, design: DegreeEnsemble | str, seed: int
) -> NestedCode:
    """Construct the family for syndromes of `totals` bits; one length is the plain code of `build_code`.

    Deterministic. Raises ParameterError as `build_code`, for lengths that are not multiples of the lifting,
    and where the last is more than twice the first.
    """
    ensemble = ensemble_named(design) if isinstance(design, str) else design
    if len(totals) > 1 and ensemble.chain_length:
        raise ParameterError(f"the code design {ensemble.name!r} has no increments; take another")
    code = build_code(num_rounds, totals[-1], gamma, ensemble, seed)
    if len(totals) == 1:
        return NestedCode(code=code, totals=totals, pairs=np.empty((0, 2), dtype=np.int32))
    lifting = code.lifting
    if any(total % lifting for total in totals) or totals[-1] > 2 * totals[0]:
        raise ParameterError(
            f"syndrome lengths {totals} are not multiples of {lifting} within a factor of two; take "
            f"{rounded_totals(num_rounds, totals)}"
        )
    return NestedCode(code=code, totals=totals, pairs=_pairs(code, (totals[-1] - totals[0]) // lifting))


def schedule(
    num_rounds: int,
    gamma: float,
    chsh_score: float,
    qber: float,
    second_qber: float | None = None,
    num_parts: int = len(SCHEDULE),
    threshold: float | None = None,
) -> tuple[int, ...]:
    """Syndrome lengths m_1 < ... < m_J for a link: from where some frames decode to where nearly all do.

    threshold: that of the ensemble; None for the best shipped one's, a few seconds at first. Raises
    ParameterError where the first would not be shorter than the block.
    """
    channel = (gamma, max(equivalent_qber(qber, second_qber), MIN_QBER), lost_test_probability(chsh_score))
    if threshold is None:
        threshold = best_ensemble(*channel)[1]
    limit = num_rounds * conditional_entropy(*channel)
    deviation = math.sqrt(num_rounds * information_variance(*channel)) / limit
    rising = SCHEDULE[num_rounds >= LONG_BLOCK :]
    steps = rising[:num_parts] if num_parts > 1 else SCHEDULE[-2:-1]
    lengths = [math.ceil(limit * threshold * (1 + step * deviation)) for step in steps]
    totals = rounded_totals(num_rounds, tuple(lengths))
    fitting = tuple(total for total in totals if total < num_rounds and total <= 2 * totals[0])
    if not fitting:
        raise ParameterError(
            f"no shipped code serves {num_rounds} rounds with gamma={gamma:.4g}, S={chsh_score:g}, "
            f"Q={qber:g} by a syndrome shorter than the block: measure more rounds, or expect a better link"
        )
    return fitting


@lru_cache(maxsize=4)
def nested_code_for(parameters: ProtocolParameters) -> NestedCode:
    """The family that both parties use under these parameters; cached within the process.

    With one part it is `code_for`. With more, the ensemble is the one with the lowest threshold on the design
    channel, if none is named: its first codes lie near that threshold, and the last ones are for the frames
    that need more.
    """
    if not parameters.increments:
        code = code_for(parameters)
        return NestedCode(code=code, totals=(code.syndrome_bits,), pairs=np.empty((0, 2), dtype=np.int32))
    gamma, test_error = float(parameters.gamma), parameters.design_test_error
    if parameters.code_design is None:
        qber = equivalent_qber(parameters.design_qber, parameters.design_second_qber)
        design = best_ensemble(gamma, qber, test_error)[0]
    else:
        design = design_of(parameters.code_design)
    return build_nested_code(
        parameters.num_rounds, parameters.syndrome_totals, gamma, design, parameters.code_seed
    )


def _pairs(code: SyndromeCode, number: int) -> NDArray[np.int32]:
    """(number, 2) rows by chance, each with the one that is farthest and shares fewest columns with it.

    A path of columns of degree two from one check to the other is a cycle when they are added up: a codeword.
    """
    num_rows = code.row_start.size - 1
    has_column = np.zeros((num_rows, code.num_columns), dtype=bool)
    row_of_edge = np.repeat(np.arange(num_rows), np.diff(code.row_start))
    has_column[row_of_edge, code.edge_column] = True
    neighbours, partner = _weak_neighbours(code, row_of_edge), np.full(num_rows, -1)
    free = list(splitmix.permutation(code.seed ^ PAIRING_SEED, num_rows))
    pairs = np.empty((number, 2), dtype=np.int32)
    for pair in pairs:
        first = int(free.pop())
        distance = _weak_distances(first, neighbours, partner, code.lifting)[free]
        shared = (has_column[free] & has_column[first]).sum(axis=1)
        second = int(free.pop(int(np.lexsort((shared, -distance))[0])))
        pair[:] = first, second
        partner[first], partner[second] = second, first
    return pairs


def _weak_neighbours(code: SyndromeCode, row_of_edge: NDArray[np.int64]) -> list[list[tuple[int, int]]]:
    """Rows at the other end of each row's columns of degree two, and the offset of the check there."""
    neighbours: list[list[tuple[int, int]]] = [[] for _ in range(code.row_start.size - 1)]
    degree = np.bincount(code.edge_column, minlength=code.num_columns)
    for column in np.flatnonzero(degree == 2):
        one, other = np.flatnonzero(code.edge_column == column)
        offset = int(code.edge_shift[one] - code.edge_shift[other])
        neighbours[row_of_edge[one]].append((int(row_of_edge[other]), offset))
        neighbours[row_of_edge[other]].append((int(row_of_edge[one]), -offset))
    return neighbours


def _weak_distances(
    row: int, neighbours: list[list[tuple[int, int]]], partner: NDArray[np.int64], lifting: int
) -> NDArray[np.int64]:
    """(rows,) columns of degree two between check 0 of `row` and check 0 of each, up to the wanted cycle."""
    ends = [np.array(found, dtype=np.int64).reshape(-1, 2) for found in neighbours]
    distance = np.full(partner.size, SHORTEST_WEAK_CYCLE)
    met = np.zeros(partner.size * lifting, dtype=bool)
    level = np.array([row * lifting])
    met[level] = True
    for depth in range(1, SHORTEST_WEAK_CYCLE):
        rows, copies = np.divmod(level, lifting)
        reached = np.concatenate([ends[one] for one in rows])
        places = (np.repeat(copies, [len(ends[one]) for one in rows]) + reached[:, 1]) % lifting
        joined = partner[reached[:, 0]]
        checks = [reached[:, 0] * lifting + places, (joined * lifting + places)[joined >= 0]]
        level = np.unique(np.concatenate(checks))
        level = level[~met[level]]
        met[level] = True
        distance[level[level % lifting == 0] // lifting] = depth
        if not level.size:
            break
    return distance
