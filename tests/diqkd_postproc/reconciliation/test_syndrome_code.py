"""The matrix: shape, linearity, positions, determinism, cycles."""

import math
import os
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.reconciliation import code_for, lifted_graph
from diqkd_postproc.reconciliation.ensemble import ENSEMBLES, NEAR_LIMIT, ROBUST, conditional_entropy
from diqkd_postproc.reconciliation.syndrome_code import SyndromeCode, build_code, lifting_for

GAMMA = 13 / 256
UNCOUPLED = [ensemble for ensemble in ENSEMBLES.values() if not ensemble.chain_length]


def dense(code: SyndromeCode) -> np.ndarray:
    """The matrix over code positions, entry by entry from the definition in the class docstring."""
    matrix = np.zeros((code.syndrome_bits, code.num_positions), dtype=np.int64)
    for row in range(code.row_start.size - 1):
        for edge in range(code.row_start[row], code.row_start[row + 1]):
            for z in range(code.lifting):
                check = row * code.lifting + z
                if check < code.syndrome_bits:
                    column = code.edge_column[edge] * code.lifting
                    matrix[check, column + (z + code.edge_shift[edge]) % code.lifting] += 1
    return matrix


def random_round(rng: np.random.Generator, n: int, gamma: float = GAMMA) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(0, 2, n, dtype=np.uint8), (rng.random(n) < gamma).astype(np.uint8)


@pytest.mark.parametrize(("n", "m"), [(60, 31), (1000, 411), (2003, 907), (2500, 417)])
@pytest.mark.parametrize("ensemble", UNCOUPLED, ids=lambda e: e.name)
def test_syndrome_is_the_matrix_product(n: int, m: int, ensemble: object) -> None:
    code = build_code(n, m, GAMMA, ensemble, seed=5)
    matrix = dense(code)
    assert matrix.max() == 1
    assert matrix.sum(axis=1).min() >= 2
    rng = np.random.default_rng(1)
    bits, is_test = random_round(rng, n)
    word = np.zeros(code.num_positions, dtype=np.int64)
    word[:n] = bits[code.positions(is_test)]
    syndrome = code.syndrome(bits, is_test)
    assert syndrome.dtype == np.uint8
    assert np.array_equal(syndrome, matrix @ word % 2)


def test_syndrome_is_linear() -> None:
    code = build_code(5000, 2100, GAMMA, ROBUST, seed=5)
    rng = np.random.default_rng(2)
    a, is_test = random_round(rng, 5000)
    b, _ = random_round(rng, 5000)
    together = code.syndrome(a ^ b, is_test)
    assert np.array_equal(together, code.syndrome(a, is_test) ^ code.syndrome(b, is_test))
    assert not code.syndrome(np.zeros(5000, np.uint8), is_test).any()


@pytest.mark.parametrize("share", [0.0, 0.02, GAMMA, 0.2, 1.0])
def test_positions_use_every_round_once_and_tests_first(share: float) -> None:
    code = build_code(3000, 1200, GAMMA, ROBUST, seed=5)
    _, is_test = random_round(np.random.default_rng(3), 3000, share)
    positions = code.positions(is_test)
    assert np.array_equal(np.sort(positions), np.arange(3000))
    assert np.array_equal(is_test[positions], np.sort(is_test)[::-1])


def test_check_degrees_differ_by_at_most_one() -> None:
    code = build_code(100_000, 31_500, GAMMA, ROBUST, seed=5)
    full_rows = np.diff(code.row_start)[: code.syndrome_bits // code.lifting]
    assert np.ptp(full_rows) <= 1


def test_design_columns_have_the_degrees_of_the_ensemble() -> None:
    code = build_code(51_200, 51_200 // 4, GAMMA, NEAR_LIMIT, seed=5)
    degrees = np.bincount(code.edge_column)
    num_test = round(GAMMA * degrees.size)
    assert np.all(np.diff(degrees[:num_test]) <= 0)
    assert degrees[0] == 40
    assert abs((degrees[num_test:] == 2).mean() - 0.309) < 0.01


def test_construction_is_deterministic_and_depends_on_the_seed() -> None:
    first, again, other = (build_code(2000, 800, GAMMA, ROBUST, seed=s) for s in (1, 1, 2))
    assert first.digest == again.digest
    assert first.digest != other.digest
    assert first.digest == "7d3cb72bf40a3f4e0fa5c4cf992f01dafdfb62b371dfb0227e0a8ca9a394563b"


@pytest.mark.parametrize(
    ("num_rounds", "syndrome_bits", "lifting"),
    [(100, 50, 1), (20_000, 10_208, 32), (1_500_000, 296_517, 512), (10_000_000, 1_700_000, 2048)],
)
def test_lifting_grows_with_the_block(num_rounds: int, syndrome_bits: int, lifting: int) -> None:
    assert lifting_for(num_rounds, syndrome_bits) == lifting


@pytest.mark.parametrize(("n", "m"), [(2, 1), (8, 3), (700, 650), (1000, 999), (5000, 40)])
def test_unusual_shapes_are_built(n: int, m: int) -> None:
    code = build_code(n, m, GAMMA, ROBUST, seed=1)
    bits, is_test = random_round(np.random.default_rng(1), n)
    assert code.syndrome(bits, is_test).shape == (m,)


DIGEST_SCRIPT = """
import numpy as np
from diqkd_postproc.reconciliation import decode
from diqkd_postproc.reconciliation.ensemble import ROBUST
from diqkd_postproc.reconciliation.syndrome_code import build_code
code = build_code(240, 120, 13 / 256, ROBUST, seed=1)
a = (np.arange(240) * 7919 % 13 < 6).astype(np.uint8)
t = (np.arange(240) % 20 == 0).astype(np.uint8)
e = (np.arange(240) % 40 == 0).astype(np.uint8)
s = code.syndrome(a, t)
r = decode(code, s, a ^ e, t, 0.02, 0.2)
print(code.digest, s.tobytes().hex(), r.converged, (r.bits == a).all())
"""


def test_interpreted_and_compiled_kernels_agree() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", DIGEST_SCRIPT],
            env={**os.environ, "NUMBA_DISABLE_JIT": disable},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for disable in ("0", "1")
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].strip().endswith("True True")


def cycle_length(code: SyndromeCode, max_degree: int, max_columns: int) -> int:
    """Fewest columns on a cycle, from the edge lists alone."""
    num_rows = code.row_start.size - 1
    degree = np.bincount(code.edge_column, minlength=code.num_columns).astype(np.int32)
    row_degree = np.diff(code.row_start).astype(np.int32)
    column_rows = np.zeros((code.num_columns, degree.max()), dtype=np.int32)
    column_shifts, fill = np.zeros_like(column_rows), np.zeros_like(degree)
    row_columns = np.zeros((num_rows, row_degree.max()), dtype=np.int32)
    row_shifts = np.zeros_like(row_columns)
    for row in range(num_rows):
        for j, edge in enumerate(range(code.row_start[row], code.row_start[row + 1])):
            column, shift = code.edge_column[edge], code.edge_shift[edge]
            row_columns[row, j], row_shifts[row, j] = column, shift
            column_rows[column, fill[column]], column_shifts[column, fill[column]] = row, shift
            fill[column] += 1
    row_size = np.minimum(code.lifting, code.syndrome_bits - code.lifting * np.arange(num_rows)).astype(
        np.int64
    )
    graph = (column_rows, column_shifts, degree, row_columns, row_shifts, row_degree, row_size)
    return int(lifted_graph.shortest_cycle(max_degree, max_columns, graph))


def test_shortest_cycle_of_known_graphs() -> None:
    """A single cycle through k rows and k columns of degree two, with net shift 0 and net shift 1."""
    for lifting, net_shift, expected in ((8, 0, 5), (8, 1, 40), (8, 4, 10)):
        row_start = np.arange(0, 11, 2, dtype=np.int32)
        column = np.array([0, 1, 1, 2, 2, 3, 3, 4, 4, 0], dtype=np.int32)
        shift = np.zeros(10, dtype=np.int32)
        shift[3] = net_shift
        code = SyndromeCode(
            num_rounds=5 * lifting,
            syndrome_bits=5 * lifting,
            lifting=lifting,
            seed=0,
            ensemble=ROBUST,
            row_start=row_start,
            edge_column=column,
            edge_shift=shift,
            num_columns=5,
        )
        assert cycle_length(code, 2, 100) == expected


def test_no_short_cycles() -> None:
    robust = build_code(200_000, 53_000, GAMMA, ROBUST, seed=5)
    assert cycle_length(robust, max_degree=7, max_columns=4) >= 3
    near_limit = build_code(200_000, 36_000, GAMMA, NEAR_LIMIT, seed=5)
    assert cycle_length(near_limit, max_degree=2, max_columns=30) >= 12
    assert cycle_length(near_limit, max_degree=12, max_columns=4) >= 3


@pytest.mark.parametrize(("n", "m", "seed"), [(20_000, 3800, 20210929), (100_000, 17_250, 20210929)])
def test_short_blocks_keep_weak_columns_off_short_cycles(n: int, m: int, seed: int) -> None:
    """The second of these had a codeword of six bits when the graph was grown but once."""
    code = build_code(n, m, GAMMA, NEAR_LIMIT, seed)
    assert cycle_length(code, max_degree=2, max_columns=30) >= 12


def test_columns_of_degree_three_stay_off_short_cycles_of_pairs() -> None:
    """One of them on a cycle of columns of degree two is a trapping set with one violated check."""
    code = build_code(100_000, 16_940, GAMMA, NEAR_LIMIT, seed=20210929)
    rows = np.repeat(np.arange(code.row_start.size - 1), np.diff(code.row_start))
    columns = [np.flatnonzero(code.edge_column == c) for c in range(code.num_columns)]
    neighbours: dict[int, list[tuple[int, int]]] = {}
    for edges in columns:
        for one, other in (edges, edges[::-1]) if edges.size == 2 else ():
            # Check z of the one row meets z + shift of the column, and with it a check of the other row.
            step = int(code.edge_shift[one]) - int(code.edge_shift[other])
            neighbours.setdefault(int(rows[one]), []).append((int(rows[other]), step))

    def cycle_through(first: int, second: int, limit: int) -> int:
        """Columns on the shortest cycle through two edges of a column, else pairs; or above `limit`."""
        start, goal = ((int(rows[e]), -int(code.edge_shift[e]) % code.lifting) for e in (first, second))
        seen, front = {start}, {start}
        for length in range(2, limit + 1):
            front = {
                (to, (z + step) % code.lifting) for row, z in front for to, step in neighbours.get(row, [])
            } - seen
            if goal in front:
                return length
            seen |= front
        return limit + 1

    triples = [edges for edges in columns if edges.size == 3][::40]
    lengths = [cycle_through(*pair, limit=9) for edges in triples for pair in combinations(edges, 2)]
    assert len(lengths) >= 30
    assert min(lengths) >= 8


def test_code_for_published_parameters() -> None:
    entropy = conditional_entropy(GAMMA, 0.018, (4 - 2.64) / 8)
    n = 1_500_000
    assert n * entropy == pytest.approx(235_280, abs=1)
    assert math.floor(n * entropy + 50 * math.sqrt(n)) == pytest.approx(296_517, abs=1)
    parameters = ProtocolParameters(
        num_rounds=20_000,
        test_numerator=13,
        test_bits=8,
        omega_threshold=0.82,
        syndrome_bits=10_208,
        key_bits=0,
        soundness_error=1e-10,
        one_bit_error=1e-15,
        design_chsh_score=2.64,
        design_qber=0.018,
    )
    code = code_for(parameters)
    assert code is code_for(parameters)
    assert (code.num_rounds, code.syndrome_bits) == (20_000, 10_208)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ParameterError, match="syndrome_bits=100"):
        build_code(100, 100, GAMMA, ROBUST, seed=1)
    code = build_code(100, 50, GAMMA, ROBUST, seed=1)
    bits = np.zeros(100, dtype=np.uint8)
    with pytest.raises(ParameterError, match="bits must be"):
        code.syndrome(bits[:-1], bits)
    with pytest.raises(ParameterError, match="other than 0 and 1"):
        code.syndrome(bits + np.uint8(2), bits)
    with pytest.raises(ParameterError, match="is_test"):
        code.syndrome(bits, bits[:-1])
