"""Thresholds against those that Richardson, Shokrollahi and Urbanke published for regular codes."""

import numpy as np
import pytest

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.reconciliation.code_design.ensemble_design import DesignProblem, design, starting_point
from diqkd_postproc.reconciliation.density_evolution import (
    COARSE_GRID,
    Grid,
    check_update,
    concentrated_check_degrees,
    converges,
    decodes,
)
from diqkd_postproc.reconciliation.ensemble import (
    DESIGNS,
    ChannelDesigns,
)

GAMMA, QBER, TEST_ERROR = 13 / 256, 0.018, (4 - 2.64) / 8


@pytest.mark.parametrize(
    ("variable_degree", "check_degree", "threshold"),
    [(3, 6, 0.084), (4, 8, 0.076), (3, 5, 0.113), (3, 4, 0.167)],
)
def test_published_thresholds_of_regular_codes(
    variable_degree: int, check_degree: int, threshold: float
) -> None:
    """Binary symmetric channel; IEEE TIT 47, 599 (2001), table II."""
    grid = Grid()

    def works(error_rate: float) -> bool:
        channel = (grid.two_point(error_rate), {variable_degree: 1.0})
        return converges([channel], {check_degree: 1.0}, grid, max_iterations=400)

    assert works(threshold * 0.985)
    assert not works(threshold * 1.015)


def test_check_of_two_channels_is_a_channel_with_the_errors_added() -> None:
    """A check of degree three on BSC(p) messages says BSC(2 p (1 - p)): error rate and total mass."""
    grid = Grid(step=0.01, half_size=1000)
    out = check_update(grid.two_point(0.1), {3: 1.0}, grid)
    assert out.sum() == pytest.approx(1.0)
    assert grid.error_rate(out) == pytest.approx(2 * 0.1 * 0.9, abs=1e-3)
    ratio = np.arange(-1000, 1001) * 0.01 @ out
    exact = np.log(0.82 / 0.18)
    assert ratio == pytest.approx((0.82 - 0.18) * exact, abs=5e-3)


def test_concentrated_degrees_have_the_mean_asked_for() -> None:
    edges = concentrated_check_degrees(27.3)
    assert sum(edges.values()) == pytest.approx(1.0)
    assert 1 / sum(share / degree for degree, share in edges.items()) == pytest.approx(27.3)


@pytest.mark.parametrize("designs", DESIGNS, ids=lambda d: d.ensembles[0].name)
def test_shipped_ensembles_decode_where_they_are_used(designs: ChannelDesigns) -> None:
    """On the channel of the design, at the stated threshold and half a percent for the coarse grid."""
    for ensemble in designs.ensembles:
        channel = (designs.gamma, designs.qber, designs.test_error)
        assert decodes(ensemble, ensemble.threshold + 0.005, *channel, grid=COARSE_GRID)
        assert not decodes(ensemble, 1.0, *channel, grid=COARSE_GRID)


def test_design_improves_a_regular_ensemble() -> None:
    problem = DesignProblem(
        gamma=GAMMA,
        qber=QBER,
        test_error=TEST_ERROR,
        check_degree=20,
        key_degrees=(3, 4, 8),
        test_degrees=(5, 8, 12),
        grid=Grid(step=0.2, half_size=100),
    )
    start = starting_point(problem, {3: 0.9, 8: 0.1}, {8: 1.0})
    ensemble = design(problem, start, "improved", max_steps=3)
    assert ensemble.threshold < problem.efficiency(start) - 0.01
    assert decodes(ensemble, ensemble.threshold + 0.01, GAMMA, QBER, TEST_ERROR, grid=COARSE_GRID)


def test_design_refuses_a_start_that_does_not_decode() -> None:
    problem = DesignProblem(
        gamma=GAMMA,
        qber=QBER,
        test_error=TEST_ERROR,
        check_degree=40,
        key_degrees=(3,),
        test_degrees=(8,),
        grid=Grid(step=0.2, half_size=100),
    )
    with pytest.raises(ParameterError, match="check degree 40"):
        design(problem, starting_point(problem, {3: 1.0}, {8: 1.0}), "none")
