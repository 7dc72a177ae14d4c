"""Decoding of simulated frames: success at the design point, honest failure beyond the code's reach."""

import math
from functools import lru_cache

import numpy as np
import pytest

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.reconciliation import DecodeResult, SyndromeCode, decode
from diqkd_postproc.reconciliation.decoder import MAX_STALLED_ITERATIONS, prior_llr
from diqkd_postproc.reconciliation.ensemble import NEAR_LIMIT, ROBUST, conditional_entropy
from diqkd_postproc.reconciliation.syndrome_code import build_code

GAMMA = 13 / 256
QBER, TEST_ERROR = 0.018, (4 - 2.64) / 8


def published_rule(num_rounds: int, qber: float = QBER, test_error: float = TEST_ERROR) -> int:
    """Syndrome length of SI equation 23."""
    return math.floor(num_rounds * conditional_entropy(GAMMA, qber, test_error) + 50 * math.sqrt(num_rounds))


@lru_cache
def published_code(num_rounds: int) -> SyndromeCode:
    """The code of the published rule at the design point, built once a session."""
    return build_code(num_rounds, published_rule(num_rounds), GAMMA, ROBUST, seed=1)


def frame(
    code: SyndromeCode, seed: int, qber: float, test_error: float, gamma: float = GAMMA
) -> tuple[DecodeResult, np.ndarray]:
    """Decode one simulated frame with the design's priors; returns the result and the truth."""
    rng = np.random.default_rng(seed)
    n = code.num_rounds
    is_test = (rng.random(n) < gamma).astype(np.uint8)
    truth = rng.integers(0, 2, n, dtype=np.uint8)
    error = (rng.random(n) < np.where(is_test, test_error, qber)).astype(np.uint8)
    result = decode(code, code.syndrome(truth, is_test), truth ^ error, is_test, QBER, TEST_ERROR, 150)
    return result, truth


@pytest.mark.parametrize(("num_rounds", "frames"), [(20_000, 40), (50_000, 20), (100_003, 10)])
def test_published_rule_decodes(num_rounds: int, frames: int) -> None:
    code = published_code(num_rounds)
    for seed in range(frames):
        result, truth = frame(code, seed, QBER, TEST_ERROR)
        assert result.converged
        assert np.array_equal(result.bits, truth)


def test_better_link_than_designed_for_decodes() -> None:
    code = published_code(50_000)
    for qber, test_error in ((0.0144, (4 - 2.677) / 8), (0.0, (4 - 2 * math.sqrt(2)) / 8)):
        result, truth = frame(code, 1, qber, test_error)
        assert result.converged
        assert np.array_equal(result.bits, truth)


def test_near_limit_ensemble_decodes_fifteen_percent_above_the_limit() -> None:
    n = 200_000
    m = math.floor(1.15 * n * conditional_entropy(GAMMA, QBER, TEST_ERROR))
    code = build_code(n, m, GAMMA, NEAR_LIMIT, seed=1)
    for seed in range(5):
        result, truth = frame(code, seed, QBER, TEST_ERROR)
        assert result.converged
        assert np.array_equal(result.bits, truth)


def test_more_and_fewer_tests_than_columns_for_them() -> None:
    code = published_code(50_000)
    for gamma in (0.0, 0.04, 0.062):
        result, truth = frame(code, 1, QBER, TEST_ERROR, gamma)
        assert result.converged
        assert np.array_equal(result.bits, truth)


def test_beyond_the_shannon_limit_it_says_so() -> None:
    code = published_code(50_000)
    result, truth = frame(code, 1, 0.12, 0.4)
    assert not result.converged
    assert result.unsatisfied > 0
    assert result.iterations <= 150
    assert not np.array_equal(result.bits, truth)


def test_hopeless_frames_are_given_up_early() -> None:
    """Far above the code's reach nothing is gained after the first iterations; 400 would be allowed."""
    code = published_code(20_000)
    rng = np.random.default_rng(1)
    truth, noise = rng.integers(0, 2, (2, 20_000), dtype=np.uint8)
    result = decode(code, code.syndrome(truth, truth * 0), noise, truth * 0, QBER, TEST_ERROR)
    assert not result.converged
    assert MAX_STALLED_ITERATIONS < result.iterations < 2.5 * MAX_STALLED_ITERATIONS


def test_frames_near_the_threshold_are_not_given_up() -> None:
    """These took up to 98 iterations and waited up to 41 for progress; all right words."""
    n = 100_000
    code = build_code(n, 16_783, GAMMA, NEAR_LIMIT, seed=1)
    results = []
    for seed in range(8):
        rng = np.random.default_rng([777, seed])
        is_test = (rng.random(n) < GAMMA).astype(np.uint8)
        truth = rng.integers(0, 2, n, dtype=np.uint8)
        error = (rng.random(n) < np.where(is_test, TEST_ERROR, QBER)).astype(np.uint8)
        result = decode(code, code.syndrome(truth, is_test), truth ^ error, is_test, QBER, TEST_ERROR)
        assert not result.converged or np.array_equal(result.bits, truth)
        results.append(result.converged)
    assert sum(results) >= 6


def test_wrong_round_types_do_not_converge() -> None:
    """A peer with another idea of which rounds were tests has another word at the positions."""
    code = published_code(20_000)
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 2, 20_000, dtype=np.uint8)
    is_test = (rng.random(20_000) < GAMMA).astype(np.uint8)
    result = decode(code, code.syndrome(truth, is_test), truth, 1 - is_test, QBER, TEST_ERROR, 30)
    assert not result.converged


def test_equal_copies_need_no_iteration() -> None:
    code = build_code(2000, 900, GAMMA, ROBUST, seed=1)
    bits = np.random.default_rng(1).integers(0, 2, 2000, dtype=np.uint8)
    result = decode(code, code.syndrome(bits, bits * 0), bits, bits * 0, QBER, TEST_ERROR)
    assert (result.converged, result.iterations) == (True, 0)
    assert np.array_equal(result.bits, bits)


def test_progress_reports_every_iteration() -> None:
    code = published_code(20_000)
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 2, 20_000, dtype=np.uint8)
    guess = truth ^ (rng.random(20_000) < QBER).astype(np.uint8)
    seen: list[tuple[int, int]] = []
    result = decode(
        code,
        code.syndrome(truth, truth * 0),
        guess,
        truth * 0,
        QBER,
        TEST_ERROR,
        progress=lambda left, total: seen.append((left, total)),
    )
    assert len(seen) == result.iterations
    assert seen[-1] == (0, code.syndrome_bits)


def test_private_bits_stay_out_of_repr() -> None:
    result = DecodeResult(bits=np.ones(4, np.uint8), converged=True, iterations=3, unsatisfied=0)
    assert repr(result) == "DecodeResult(converged=True, iterations=3, unsatisfied=0)"


def test_bad_input_is_refused() -> None:
    code = build_code(100, 50, GAMMA, ROBUST, seed=1)
    bits, syndrome = np.zeros(100, np.uint8), np.zeros(50, np.uint8)
    with pytest.raises(ParameterError, match="syndrome must be"):
        decode(code, bits, bits, bits, QBER, TEST_ERROR)
    with pytest.raises(ParameterError, match="guess must be"):
        decode(code, syndrome, syndrome, bits, QBER, TEST_ERROR)
    with pytest.raises(ParameterError, match=r"error rate 0\.7"):
        decode(code, syndrome, bits ^ 1, bits, 0.7, TEST_ERROR)
    assert prior_llr(0.5) == 0.0
    assert prior_llr(0.0) < 12
