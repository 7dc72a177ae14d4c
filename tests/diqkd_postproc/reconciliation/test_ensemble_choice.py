"""The ensemble chosen for a channel decodes there, at lengths of the published rule and below."""

import math

import pytest

from diqkd_postproc.reconciliation.density_evolution import COARSE_GRID, decodes
from diqkd_postproc.reconciliation.ensemble import DESIGNS, NEAR_LIMIT, ROBUST, conditional_entropy
from diqkd_postproc.reconciliation.ensemble_choice import choose_ensemble, ensembles_by_preference

GAMMA = 13 / 256
TEST_ERROR = 0.17


@pytest.mark.parametrize("gamma", [1 / 64, 13 / 256, 1 / 10, 1 / 4])
@pytest.mark.parametrize("qber", [0.0, 0.001, 0.006, 0.018, 0.03])
@pytest.mark.parametrize("num_rounds", [20_000, 1_500_000])
def test_published_length_is_served(gamma: float, qber: float, num_rounds: int) -> None:
    """Equation 23, less one percent for the finite block."""
    limit = conditional_entropy(gamma, qber, TEST_ERROR)
    length = math.floor(num_rounds * limit + 50 * math.sqrt(num_rounds))
    ensemble = choose_ensemble(num_rounds, length, gamma, qber, TEST_ERROR)
    efficiency = 0.99 * length / num_rounds / conditional_entropy(gamma, max(qber, 1e-5), TEST_ERROR)
    assert decodes(ensemble, efficiency, gamma, max(qber, 1e-5), TEST_ERROR, COARSE_GRID)


def test_shorter_syndromes_take_less_robust_ensembles() -> None:
    limit = 1_500_000 * conditional_entropy(GAMMA, 0.018, TEST_ERROR)

    def name(efficiency: float) -> str:
        return choose_ensemble(1_500_000, int(efficiency * limit), GAMMA, 0.018, TEST_ERROR).name

    assert name(1.26) == ROBUST.name
    assert name(1.04) == NEAR_LIMIT.name
    assert name(0.9) == NEAR_LIMIT.name


def test_every_ensemble_is_a_candidate_once() -> None:
    names = [e.name for e in ensembles_by_preference(0.1, 0.01)]
    assert sorted(names) == sorted(e.name for d in DESIGNS for e in d.ensembles)
