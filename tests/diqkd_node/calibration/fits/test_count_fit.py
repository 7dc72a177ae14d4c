"""Count fits against closed forms: a constant rate, and a straight line whose information is known."""

import math

import numpy as np
import pytest

from diqkd_node.calibration.fits.count_fit import angle, fit_binomial, fit_poisson, fraction
from diqkd_postproc.protocol.errors import ParameterError


def test_a_constant_fraction_is_the_mean_with_the_binomial_error() -> None:
    bright, shots = np.array([30, 45, 38]), np.array([100, 150, 120])
    fit = fit_binomial(lambda p: np.full(3, p[0]), ["p"], [[0.5]], bright, shots)
    mean = bright.sum() / shots.sum()
    assert fit["p"] == pytest.approx(mean, rel=1e-6)
    assert fit.standard_error("p") == pytest.approx(math.sqrt(mean * (1 - mean) / shots.sum()), rel=1e-5)
    assert fit.degrees_of_freedom == 2


def test_levels_at_the_edge_keep_a_finite_error() -> None:
    """All shots bright: the angle's information is 4 n, whatever the level."""
    fit = fit_binomial(
        lambda p: np.full(2, fraction(p[0])), ["level"], [[angle(0.9)]], [200, 200], [200, 200]
    )
    assert fraction(fit["level"]) > 0.999
    assert fit.standard_error("level") <= 1 / math.sqrt(4 * 400) * 1.05


def test_a_poisson_line_has_the_textbook_covariance() -> None:
    x = np.linspace(1, 10, 40)
    counts = np.random.default_rng(3).poisson(5 + 20 * x)
    fit = fit_poisson(lambda p: p[0] + p[1] * x, ["a", "b"], [[1.0, 10.0]], counts)
    design = np.stack([np.ones_like(x), x], axis=1)
    information = design.T @ (design / fit.expected[:, None])
    np.testing.assert_allclose(fit.covariance, np.linalg.inv(information), rtol=1e-4)
    # The score vanishes at the maximum.
    np.testing.assert_allclose(design.T @ (counts / fit.expected - 1), 0.0, atol=1e-4)
    assert 0.001 < fit.p_value < 0.999


def test_the_p_value_is_uniform_where_counts_are_few() -> None:
    """80 fits of a constant to 25 counts of mean 1.5, of which a quarter should have p < 1/4: a binomial of
    80 and 1/4 is outside 2 to 43 with probability 4e-7."""
    rng = np.random.default_rng(11)
    low = 0
    for _ in range(80):
        fit = fit_poisson(lambda p: np.full(25, p[0]), ["m"], [[1.0]], rng.poisson(1.5, 25))
        low += fit.p_value < 0.25
    assert 2 <= low <= 43


def test_the_wrong_model_has_a_small_p_value() -> None:
    x = np.linspace(0, 1, 30)
    bright = np.random.default_rng(4).binomial(200, 0.5 + 0.4 * np.sin(6 * x))
    fit = fit_binomial(lambda p: np.full(30, p[0]), ["p"], [[0.5]], bright, np.full(30, 200))
    assert fit.p_value < 1e-3


def test_an_error_propagates_by_the_gradient() -> None:
    fit = fit_poisson(lambda p: np.full(4, p[0]), ["m"], [[90.0]], [95, 103, 110, 92])
    value, error = fit.derived(lambda p: float(p[0]) ** 2)
    assert value == pytest.approx(fit["m"] ** 2)
    assert error == pytest.approx(2 * fit["m"] * fit.standard_error("m"), rel=1e-4)


def test_too_few_points_are_named() -> None:
    with pytest.raises(ParameterError, match="2 points cannot determine 2 parameters"):
        fit_poisson(lambda p: p[0] + p[1] * np.arange(2), ["a", "b"], [[1, 1]], [1, 2])
