"""The linear code that reconciles the outcomes: construction from public parameters, positions, syndrome.

`code_for` is a pure function of the protocol parameters: both parties build the same matrix and compare its
digest. The matrix is quasi-cyclic with a partial last row, so the syndrome has exactly the m bits that the
key length was charged for, never more. Positions beyond n are known zeros.

The number of test rounds is random, the columns made for them are not. Rounds are shuffled by a public
permutation (noise comes in bursts), then stably sorted with tests first, and assigned to columns in order of
class and falling degree: a surplus of tests spills to the strongest key columns, a deficit is filled with
key rounds. Both parties know which rounds were tests, so both compute the same assignment; the decoder knows
the error rate of every position anyhow.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.reconciliation import belief_propagation, lifted_graph, splitmix
from diqkd_postproc.reconciliation.coupled_chain import grow_chain
from diqkd_postproc.reconciliation.ensemble import ENSEMBLES, DegreeEnsemble, equivalent_qber
from diqkd_postproc.reconciliation.ensemble_choice import choose_ensemble

PREFERRED_LIFTING = 512
"""The decoder's scratch space for one base row still fits a core's cache."""
MAX_LIFTING = 2048
MIN_COLUMNS_BEYOND = 4000
MIN_BASE_ROWS = 100
MIN_BASE_COLUMNS = 500
SEARCH_BUDGET = 15_000
"""Edges that a search may follow before an edge is placed: bounds the time of the construction."""
WEAK_SEARCH_BUDGET = 100_000
"""The same for columns of degree two, whose short cycles are codewords of low weight."""
ACE_BUDGET = 16_000
"""The same for cycles with few columns of degree three, before each of their edges is placed."""
SHORTEST_WEAK_CYCLE = 12
"""Columns wanted on every cycle of columns of degree two: the weight of the codeword that it is."""
WEAK_ATTEMPTS = 16


@dataclass(frozen=True, eq=False, repr=False)
class SyndromeCode:
    """A quasi-cyclic binary matrix, `syndrome_bits` x `num_rounds`, as row-major edge lists.

    Edge e of base row r (row_start[r] <= e < row_start[r + 1]) joins check r Z + z with position
    edge_column[e] Z + (z + edge_shift[e] mod Z). Base columns are numbered in order of assignment: test
    columns, then key columns, each by falling degree.
    """

    num_rounds: int
    syndrome_bits: int
    lifting: int
    seed: int
    ensemble: DegreeEnsemble
    row_start: NDArray[np.int32]
    edge_column: NDArray[np.int32]
    edge_shift: NDArray[np.int32]
    num_columns: int
    digest: str = field(init=False)
    shuffled_rounds: NDArray[np.int32] = field(init=False)

    def __post_init__(self) -> None:
        header = f"diqkd syndrome code 1;{self.num_rounds};{self.syndrome_bits};{self.lifting};{self.seed}"
        digest = hashlib.sha256(header.encode())
        for array in (self.row_start, self.edge_column, self.edge_shift):
            digest.update(array.astype("<i4").tobytes())
        rounds = splitmix.permutation(self.seed ^ 0x706F736974696F6E, self.num_rounds)
        object.__setattr__(self, "digest", digest.hexdigest())
        object.__setattr__(self, "shuffled_rounds", rounds)

    def __repr__(self) -> str:
        return (
            f"SyndromeCode({self.syndrome_bits} x {self.num_rounds}, ensemble={self.ensemble.name!r}, "
            f"lifting={self.lifting}, digest={self.digest[:16]})"
        )

    @property
    def num_positions(self) -> int:
        """Length of the code before shortening, a multiple of the lifting."""
        return self.num_columns * self.lifting

    def positions(self, is_test: NDArray[np.uint8]) -> NDArray[np.int32]:
        """(n,) int32: the round at each of the first n code positions, tests first unless coupled.

        is_test: (n,) 0/1, public. Raises ParameterError if its length is not n.
        """
        if is_test.shape != (self.num_rounds,):
            raise ParameterError(
                f"is_test has shape {is_test.shape}, the code is for {self.num_rounds} rounds"
            )
        if self.ensemble.chain_length:
            return self.shuffled_rounds
        tests = is_test[self.shuffled_rounds] != 0
        return np.concatenate((self.shuffled_rounds[tests], self.shuffled_rounds[~tests]))

    def syndrome(self, bits: NDArray[np.uint8], is_test: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(m,) uint8 syndrome of `bits` ((n,) uint8 of 0/1, one a round); `is_test` as in `positions`.

        Raises ParameterError on a wrong length or on entries other than 0 and 1.
        """
        check_bits("bits", bits, self.num_rounds)
        return self.syndrome_at(bits, self.positions(is_test))

    def syndrome_at(self, bits: NDArray[np.uint8], positions: NDArray[np.int32]) -> NDArray[np.uint8]:
        """As `syndrome`, for positions that have been computed already."""
        word = np.zeros(self.num_positions, dtype=np.uint8)
        word[: self.num_rounds] = bits[positions]
        syndrome = np.empty(self.syndrome_bits, dtype=np.uint8)
        belief_propagation.syndrome_of(
            word, self.lifting, self.row_start, self.edge_column, self.edge_shift, syndrome
        )
        return syndrome


def check_bits(name: str, bits: NDArray[np.uint8], length: int) -> None:
    """Raise ParameterError unless `bits` is a (length,) uint8 array of zeros and ones."""
    if bits.shape != (length,) or bits.dtype != np.uint8:
        raise ParameterError(f"{name} must be a ({length},) array of uint8, got {bits.shape} {bits.dtype}")
    if length and bits.max() > 1:
        raise ParameterError(f"{name} has entries other than 0 and 1")


def lifting_for(num_rounds: int, syndrome_bits: int) -> int:
    """Largest power of two that leaves a base matrix of a useful size; 1 for tiny codes.

    Up to PREFERRED_LIFTING a few hundred columns suffice, beyond it only a large matrix justifies more.
    """
    lifting = MAX_LIFTING
    while lifting > 1 and (
        syndrome_bits // lifting < MIN_BASE_ROWS
        or num_rounds // lifting < (MIN_BASE_COLUMNS if lifting <= PREFERRED_LIFTING else MIN_COLUMNS_BEYOND)
    ):
        lifting //= 2
    return lifting


def build_code(
    num_rounds: int, syndrome_bits: int, gamma: float, design: DegreeEnsemble | str, seed: int
) -> SyndromeCode:
    """Construct the code with columns for `gamma * num_rounds` test rounds.

    design: an ensemble, or the name of a shipped one, "sc-ldpc" for the published kind. Deterministic: the
    same arguments give the same matrix on every machine. Raises ParameterError if the syndrome is empty or
    not shorter than the block, or if there is no design of that name.
    """
    if not 0 < syndrome_bits < num_rounds:
        raise ParameterError(f"syndrome_bits={syndrome_bits} must lie between 0 and num_rounds={num_rounds}")
    ensemble = ensemble_named(design) if isinstance(design, str) else design
    if ensemble.chain_length:
        return _coupled_code(num_rounds, syndrome_bits, ensemble, seed)
    return _two_class_code(num_rounds, syndrome_bits, gamma, ensemble, seed)


def ensemble_named(name: str) -> DegreeEnsemble:
    """A shipped ensemble; raises ParameterError listing the names if there is none of that name."""
    if name not in ENSEMBLES:
        raise ParameterError(f"no code design {name!r}; there are {', '.join(ENSEMBLES)}")
    return ENSEMBLES[name]


def _coupled_code(num_rounds: int, syndrome_bits: int, ensemble: DegreeEnsemble, seed: int) -> SyndromeCode:
    (degree,) = ensemble.key_degrees
    edges = grow_chain(num_rounds, syndrome_bits, ensemble.chain_length, degree, seed)
    return SyndromeCode(
        num_rounds=num_rounds,
        syndrome_bits=syndrome_bits,
        lifting=1,
        seed=seed,
        ensemble=ensemble,
        row_start=edges.row_start,
        edge_column=edges.edge_column,
        edge_shift=np.zeros_like(edges.edge_column),
        num_columns=num_rounds,
    )


def _two_class_code(
    num_rounds: int, syndrome_bits: int, gamma: float, ensemble: DegreeEnsemble, seed: int
) -> SyndromeCode:
    lifting = lifting_for(num_rounds, syndrome_bits)
    num_columns = -(-num_rounds // lifting)
    num_test = min(num_columns, round(gamma * num_columns))
    full_rows, partial_row_size = divmod(syndrome_bits, lifting)
    num_rows = full_rows + (partial_row_size > 0)
    test_degrees, key_degrees = ensemble.column_degrees(num_columns - num_test, num_test)
    degrees = np.minimum(np.array(test_degrees + key_degrees, dtype=np.int32), full_rows)
    row_degree_bound = -(-int(degrees.sum()) // full_rows) + 2
    partial_degree = min(num_columns, row_degree_bound - 2) if partial_row_size else 0

    row_size = np.full(num_rows, lifting, dtype=np.int64)
    if partial_row_size:
        row_size[-1] = partial_row_size

    state = splitmix.new_state(seed)
    order = np.argsort(degrees, kind="stable").astype(np.int32)
    weak, strong = order[degrees[order] <= 2], order[degrees[order] > 2]
    graph = _weak_graph(weak, degrees, full_rows, row_size, row_degree_bound, state)
    column_degree, row_columns, row_shifts, row_degree = graph[2:6]
    lifted_graph.grow(strong, degrees, 0, full_rows, SEARCH_BUDGET, ACE_BUDGET, state, graph)
    if partial_row_size:
        # The extra checks go to columns of the lowest degree, which need them most.
        helped = order[:partial_degree]
        degrees[helped] += 1
        lifted_graph.grow(helped, degrees, full_rows, 1, SEARCH_BUDGET, ACE_BUDGET, state, graph)

    assert np.array_equal(column_degree, degrees)
    row_start = np.concatenate(([0], np.cumsum(row_degree))).astype(np.int32)
    present = np.arange(row_degree_bound) < row_degree[:, None]
    return SyndromeCode(
        num_rounds=num_rounds,
        syndrome_bits=syndrome_bits,
        lifting=lifting,
        seed=seed,
        ensemble=ensemble,
        row_start=row_start,
        edge_column=row_columns[present],
        edge_shift=row_shifts[present],
        num_columns=num_columns,
    )


_Graph = tuple[
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int64],
]


def _weak_graph(
    weak: NDArray[np.int32],
    degrees: NDArray[np.int32],
    num_rows: int,
    row_size: NDArray[np.int64],
    row_degree_bound: int,
    state: NDArray[np.uint64],
) -> _Graph:
    """The adjacency arrays of `lifted_graph.grow`, with the columns of lowest degree in place.

    A cycle of columns of degree two is a codeword of as many bits, so the graph is grown anew until all are
    long; the best of `WEAK_ATTEMPTS` is taken where chance does not give as much, as in short blocks.
    """
    best, longest = None, -1
    for _ in range(WEAK_ATTEMPTS if weak.size else 1):
        column_rows = np.zeros((degrees.size, int(degrees.max()) + 1), dtype=np.int32)
        row_columns = np.zeros((row_size.size, row_degree_bound), dtype=np.int32)
        graph = (
            column_rows,
            np.zeros_like(column_rows),
            np.zeros(degrees.size, dtype=np.int32),
            row_columns,
            np.zeros_like(row_columns),
            np.zeros(row_size.size, dtype=np.int32),
            row_size,
        )
        lifted_graph.grow(weak, degrees, 0, num_rows, WEAK_SEARCH_BUDGET, ACE_BUDGET, state, graph)
        cycle = int(lifted_graph.shortest_cycle(2, SHORTEST_WEAK_CYCLE, graph))
        if cycle > longest:
            best, longest = graph, cycle
        if cycle >= SHORTEST_WEAK_CYCLE:
            break
    assert best is not None
    return best


@lru_cache(maxsize=4)
def _cached_code(
    num_rounds: int,
    syndrome_bits: int,
    gamma: float,
    qber: float,
    test_error: float,
    seed: int,
    design: str | None,
) -> SyndromeCode:
    ensemble: DegreeEnsemble
    if design is None:
        ensemble = choose_ensemble(num_rounds, syndrome_bits, gamma, qber, test_error)
    else:
        ensemble = design_of(design)
    return build_code(num_rounds, syndrome_bits, gamma, ensemble, seed)


def design_of(design: str) -> DegreeEnsemble:
    """The `code_design` of a parameter file: a shipped ensemble's name, or an ensemble as JSON."""
    return ensemble_of(design) if design.lstrip().startswith("{") else ensemble_named(design)


def ensemble_of(text: str) -> DegreeEnsemble:
    """An ensemble from its JSON, as `DegreeEnsemble.to_dict` gives it; raises ParameterError."""
    try:
        return DegreeEnsemble.from_dict(json.loads(text))
    except ValueError as error:
        raise ParameterError(f"the code design is no JSON: {error}") from None


def code_for(parameters: ProtocolParameters) -> SyndromeCode:
    """The code that both parties use under these parameters; cached within the process."""
    return _cached_code(
        parameters.num_rounds,
        parameters.syndrome_bits,
        float(parameters.gamma),
        equivalent_qber(parameters.design_qber, parameters.design_second_qber),
        parameters.design_test_error,
        parameters.code_seed,
        parameters.code_design,
    )
