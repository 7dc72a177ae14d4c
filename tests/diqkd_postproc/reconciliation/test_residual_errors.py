"""Mending of nearly right words: against exhaustive search, and where sum-product decoding is stuck."""

from functools import lru_cache
from itertools import product

import numpy as np
import pytest

from diqkd_postproc.reconciliation import residual_errors
from diqkd_postproc.reconciliation.ensemble import NEAR_LIMIT
from diqkd_postproc.reconciliation.syndrome_code import SyndromeCode, build_code

GAMMA = 13 / 256


@lru_cache
def near_limit_code() -> SyndromeCode:
    return build_code(20_000, 4_001, GAMMA, NEAR_LIMIT, seed=3)


def parities(code: SyndromeCode, positions: np.ndarray) -> np.ndarray:
    """Syndrome of a word with ones at these code positions, by the encoder."""
    word = np.zeros(code.num_rounds, dtype=np.uint8)
    word[positions] = 1
    return code.syndrome_at(word, np.arange(code.num_rounds, dtype=np.int32))


def posterior_with(code: SyndromeCode, unsure: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Large ratios of either sign, but for positions that the decoder is unsure of, in order."""
    ratios = rng.choice([-1, 1], code.num_positions) * rng.uniform(5, 20, code.num_positions)
    ratios[unsure] = np.linspace(0.1, 1.0, unsure.size)
    return ratios.astype(np.float32)


@pytest.mark.parametrize("seed", range(20))
def test_flips_among_the_unsure_positions_are_found(seed: int) -> None:
    code = near_limit_code()
    rng = np.random.default_rng(seed)
    unsure = rng.choice(np.arange(code.num_rounds // 2, code.num_rounds), 60, replace=False)  # low degrees
    wrong = rng.choice(unsure, 9, replace=False)
    violated = np.flatnonzero(parities(code, wrong))
    flips = residual_errors.solve(code, posterior_with(code, unsure, rng), violated)
    assert flips is not None
    assert np.array_equal(np.flatnonzero(parities(code, flips)), violated)
    assert set(flips) == set(wrong)


@pytest.mark.parametrize("seed", range(20))
def test_exhaustive_search_agrees_whether_there_is_a_solution(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = build_code(60, 30, GAMMA, NEAR_LIMIT, seed=7)
    monkeypatch.setattr(residual_errors, "MAX_POSITIONS", 10)
    rng = np.random.default_rng(seed)
    unsure = rng.choice(code.num_rounds, 10, replace=False)
    violated = np.flatnonzero(parities(code, rng.choice(code.num_rounds, 2, replace=False)))
    flips = residual_errors.solve(code, posterior_with(code, unsure, rng), violated)
    reached = {
        np.flatnonzero(parities(code, unsure[np.array(chosen, dtype=bool)])).tobytes()
        for chosen in product([0, 1], repeat=10)
    }
    assert (flips is not None) == (violated.tobytes() in reached)
    if flips is not None:
        assert set(flips) <= set(unsure)
        assert np.array_equal(np.flatnonzero(parities(code, flips)), violated)


def test_many_violated_checks_are_no_case_for_it() -> None:
    code = near_limit_code()
    posterior = np.zeros(code.num_positions, dtype=np.float32)
    assert residual_errors.solve(code, posterior, np.arange(residual_errors.MAX_VIOLATED_CHECKS + 1)) is None
    assert residual_errors.solve(code, posterior, np.arange(0)) is None
