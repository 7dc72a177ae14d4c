"""The ensemble chosen for a channel decodes there; a length that none decodes is refused, with a remedy."""

import math
import subprocess
import sys

import pytest

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.reconciliation import minimum_syndrome_bits
from diqkd_postproc.reconciliation.density_evolution import COARSE_GRID, decodes
from diqkd_postproc.reconciliation.ensemble import (
    DESIGNS,
    NEAR_LIMIT,
    ROBUST,
    ChannelDesigns,
    conditional_entropy,
)
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


def test_published_length_is_served_where_half_the_rounds_are_tests() -> None:
    """As in the published characterisation, S = 2.677 and Q = 1.44 %."""
    limit = conditional_entropy(0.5, 0.0144, 0.165375)
    length = math.floor(1_500_000 * limit + 50 * math.sqrt(1_500_000))
    ensemble = choose_ensemble(1_500_000, length, 0.5, 0.0144, 0.165375)
    assert ensemble.name == "near-limit-half-tests"


def chosen(efficiency: float, num_rounds: int = 1_500_000) -> str:
    limit = num_rounds * conditional_entropy(GAMMA, 0.018, TEST_ERROR)
    return choose_ensemble(num_rounds, int(efficiency * limit), GAMMA, 0.018, TEST_ERROR).name


def test_shorter_syndromes_take_less_robust_ensembles() -> None:
    assert chosen(1.26) == ROBUST.name
    assert chosen(1.04) == NEAR_LIMIT.name


def test_too_short_syndromes_are_refused_with_the_shortest_that_is_served() -> None:
    """The length named is served, at most 1.04 n H as asked of the design, and one bit less is not."""
    shortest = minimum_syndrome_bits(1_500_000, GAMMA, 2.64, 0.018)
    assert 1.02 * 235_280 < shortest <= 1.04 * 235_280
    assert choose_ensemble(1_500_000, shortest, GAMMA, 0.018, TEST_ERROR).name == NEAR_LIMIT.name
    for length in (shortest - 1, 200_000):
        with pytest.raises(ParameterError, match=f"syndrome_bits={length}.*has {shortest} .*raise syndrome"):
            choose_ensemble(1_500_000, length, GAMMA, 0.018, TEST_ERROR)


def test_shorter_blocks_need_more_above_the_limit() -> None:
    lengths = [minimum_syndrome_bits(n, GAMMA, 2.64, 0.018) / n for n in (20_000, 100_000, 10**6, 10**8)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] < 1.03 * 235_280 / 1_500_000


def test_tiny_blocks_are_not_refused() -> None:
    """Sixteen rounds and eight bits, as in tests of other parts: no code could be worse than none."""
    assert choose_ensemble(16, 8, GAMMA, 0.018, TEST_ERROR).name == ROBUST.name


def test_hopeless_links_are_told_apart() -> None:
    with pytest.raises(ParameterError, match="measure more rounds"):
        choose_ensemble(2000, 1900, 0.5, 0.2, 0.25)
    with pytest.raises(ParameterError, match="measure more rounds"):
        minimum_syndrome_bits(2000, 0.5, 2.0, 0.2)
    for bad in ((1.0, 2.64, 0.018), (GAMMA, 4.0, 0.018), (GAMMA, 2.64, 0.6)):
        with pytest.raises(ParameterError, match="not a link"):
            minimum_syndrome_bits(1_500_000, *bad)


@pytest.mark.parametrize("designs", DESIGNS, ids=lambda d: d.ensembles[0].name)
def test_a_design_comes_first_on_its_own_channel(designs: ChannelDesigns) -> None:
    names = [e.name for e in ensembles_by_preference(designs.gamma, designs.qber)]
    assert len(set(names)) == len(names)
    assert names[0] == designs.ensembles[0].name


def test_importing_the_package_does_not_import_the_compiler() -> None:
    script = "import sys, diqkd_postproc.reconciliation; print('numba' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
