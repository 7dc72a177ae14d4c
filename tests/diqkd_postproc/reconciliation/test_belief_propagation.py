"""Sum-product against exhaustive enumeration on codes so small that every word can be listed."""

import itertools

import numpy as np
import pytest

from diqkd_postproc.reconciliation import belief_propagation as bp


def edges_of(matrix: np.ndarray) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Lifting 1 and the edge lists of a dense binary matrix."""
    rows, columns = np.nonzero(matrix)
    row_start = np.searchsorted(rows, np.arange(matrix.shape[0] + 1)).astype(np.int32)
    return 1, row_start, columns.astype(np.int32), np.zeros(columns.size, dtype=np.int32)


def exact_llr(matrix: np.ndarray, syndrome: np.ndarray, error_rate: np.ndarray) -> np.ndarray:
    """log P(bit 0) / P(bit 1) given the syndrome, by listing all 2^n words."""
    words = np.array(list(itertools.product((0, 1), repeat=matrix.shape[1])))
    words = words[((words @ matrix.T) % 2 == syndrome).all(axis=1)]
    weight = np.where(words, error_rate, 1 - error_rate).prod(axis=1)
    one = (words * weight[:, None]).sum(axis=0)
    return np.log((weight.sum() - one) / one)


def sum_product(matrix: np.ndarray, syndrome: np.ndarray, error_rate: np.ndarray, sweeps: int) -> np.ndarray:
    lifting, row_start, column, shift = edges_of(matrix)
    posterior = np.log((1 - error_rate) / error_rate).astype(np.float32)
    message = np.zeros(column.size, dtype=np.float32)
    sign = (1 - 2 * syndrome).astype(np.float32)
    work = np.empty((3, matrix.shape[1]), dtype=np.float32)
    for _ in range(sweeps):
        bp.iterate(
            posterior,
            message,
            sign,
            lifting,
            row_start,
            column,
            shift,
            syndrome.size,
            work,
            np.empty(1, np.float32),
        )
    return posterior


def random_tree_code(rng: np.random.Generator, num_columns: int, num_rows: int) -> np.ndarray:
    """A matrix whose Tanner graph has no cycle: every row takes one used column and new ones."""
    matrix = np.zeros((num_rows, num_columns), dtype=np.int64)
    used, fresh = [0], list(range(1, num_columns))
    for row in range(num_rows):
        take = fresh[: max(1, len(fresh) // (num_rows - row))]
        del fresh[: len(take)]
        matrix[row, [rng.choice(used), *take]] = 1
        used += take
    return matrix


@pytest.mark.parametrize("seed", range(12))
def test_marginals_are_exact_without_cycles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = random_tree_code(rng, num_columns=14, num_rows=6)
    error_rate = rng.uniform(0.02, 0.4, 14)
    error = (rng.random(14) < error_rate).astype(np.int64)
    syndrome = (matrix @ error) % 2
    found = sum_product(matrix, syndrome, error_rate, sweeps=8)
    assert found == pytest.approx(exact_llr(matrix, syndrome, error_rate), abs=2e-4)


def test_single_errors_of_a_projective_plane_code() -> None:
    """With cycles sum-product approximates; on the plane of order two it finds any single error."""
    plane = np.array([np.roll([1, 1, 0, 1, 0, 0, 0], shift) for shift in range(7)])
    error_rate = np.full(7, 0.02)
    for position in range(7):
        syndrome = plane[:, position]
        most_likely = exact_llr(plane, syndrome, error_rate) < 0
        assert np.array_equal(most_likely, np.arange(7) == position)
        assert np.array_equal(sum_product(plane, syndrome, error_rate, sweeps=20) < 0, most_likely)


def test_polynomials_against_the_math_library() -> None:
    x = np.linspace(-15.9, 15.9, 2001, dtype=np.float32)
    tanh = np.array([bp.tanh_half(v) for v in x], dtype=np.float64)
    assert np.abs(tanh - np.tanh(x.astype(np.float64) / 2)).max() < 2e-6
    t = np.linspace(-0.9999, 0.9999, 2001, dtype=np.float32)
    back = np.array([bp.two_atanh(v) for v in t], dtype=np.float64)
    exact = 2 * np.arctanh(t.astype(np.float64))
    assert np.abs(back - exact).max() < 3e-3  # 1 - t has three digits left at the ends
    middle = np.abs(t) < 0.9
    assert np.abs(back - exact)[middle].max() < 3e-6


def test_messages_saturate_instead_of_overflowing() -> None:
    assert np.isfinite(bp.two_atanh(np.float32(1.0)))
    assert bp.tanh_half(np.float32(1e30)) == bp.tanh_half(bp.MAX_LLR)
    assert bp.two_atanh(np.float32(-1.0)) < -bp.MAX_LLR + 1
