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
)
from diqkd_postproc.reconciliation.ensemble_choice import MIN_QBER, lowest_threshold
from diqkd_postproc.reconciliation.syndrome_code import (
    SyndromeCode,
    build_code,
    code_for,
    design_of,
    ensemble_named,
    lifting_for,
)

PAIRING_SEED = 0x70616972696E67

SCHEDULE = (5, 8, 11, 14, 18, 23, 30, 45)
"""Syndrome lengths above the threshold's, in units of 1 / sqrt(n): at 1e5 rounds some 70 % of the frames fail
with the first of them, 4 % at 18, none of 200 at 30."""


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
        """The code that a syndrome of `total` bits belongs to. Raises ParameterError for other lengths."""
        split = self._num_split(total)
        if not self.pairs.size:
            return self.code
        joined, apart = self.pairs[split:], self.pairs[:split]
        groups = [(row,) for row in self._alone] + [tuple(p) for p in joined]
        groups += [(row,) for row in apart[:, 0]] + [(row,) for row in apart[:, 1]]
        start, edges = self.code.row_start, []
        for rows in groups:
            edges.append(np.concatenate([np.arange(start[row], start[row + 1]) for row in rows]))
        order = np.concatenate(edges)
        return replace(
            self.code,
            syndrome_bits=total,
            row_start=np.concatenate(([0], np.cumsum([e.size for e in edges]))).astype(np.int32),
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
        parts = [rows[:num_alone], sums[split:], first, sums[:split] ^ first]
        return np.concatenate(parts).reshape(-1)


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
) -> tuple[int, ...]:
    """Syndrome lengths m_1 < ... < m_J for a link: from where some frames decode to where nearly all do.

    A few seconds at first, for the threshold on this channel. Raises ParameterError where the first would not
    be shorter than the block.
    """
    test_error = lost_test_probability(chsh_score)
    key_error = max(equivalent_qber(qber, second_qber), MIN_QBER)
    threshold = lowest_threshold(gamma, key_error, test_error, NESTED_ENSEMBLE_NAMES)[0] / 1000
    limit = num_rounds * conditional_entropy(gamma, key_error, test_error)
    steps = SCHEDULE[:num_parts] if num_parts > 1 else SCHEDULE[-2:-1]
    lengths = [math.ceil(limit * threshold * (1 + step / math.sqrt(num_rounds))) for step in steps]
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
        qber = max(equivalent_qber(parameters.design_qber, parameters.design_second_qber), MIN_QBER)
        design: DegreeEnsemble = ENSEMBLES[
            lowest_threshold(gamma, qber, test_error, NESTED_ENSEMBLE_NAMES)[1]
        ]
    else:
        design = design_of(parameters.code_design)
    return build_nested_code(
        parameters.num_rounds, parameters.syndrome_totals, gamma, design, parameters.code_seed
    )


def _pairs(code: SyndromeCode, number: int) -> NDArray[np.int32]:
    """(number, 2) rows by chance, each with the one that shares fewest columns: a shared one makes short
    cycles."""
    num_rows = code.row_start.size - 1
    has_column = np.zeros((num_rows, code.num_columns), dtype=bool)
    row_of_edge = np.repeat(np.arange(num_rows), np.diff(code.row_start))
    has_column[row_of_edge, code.edge_column] = True
    free = list(splitmix.permutation(code.seed ^ PAIRING_SEED, num_rows))
    pairs = np.empty((number, 2), dtype=np.int32)
    for pair in pairs:
        first = free.pop()
        shared = (has_column[free] & has_column[first]).sum(axis=1)
        pair[:] = first, free.pop(int(np.argmin(shared)))
    return pairs
