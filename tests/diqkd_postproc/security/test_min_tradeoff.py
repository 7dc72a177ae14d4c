"""The entropy bound and its tangents against sixty-digit arithmetic and their definitions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.security import min_tradeoff as mt
from tests.support import proposition_2_reference as reference

omegas = st.floats(mt.OMEGA_MIN, mt.OMEGA_MAX)
tangent_points = st.floats(0.7501, mt.OMEGA_MAX - 1e-4)
gammas = st.floats(1e-3, 0.999)


@pytest.mark.parametrize(("p", "bits"), [(0.0, 0.0), (1.0, 0.0), (0.5, 1.0), (0.11, 0.499915958164528)])
def test_binary_entropy_at_known_points(p: float, bits: float) -> None:
    assert mt.binary_entropy(p) == pytest.approx(bits, abs=1e-15)


def test_binary_entropy_rejects_what_is_no_probability() -> None:
    for p in (-1e-9, 1.1, math.nan):
        with pytest.raises(ParameterError, match="outside"):
            mt.binary_entropy(p)


@given(omegas)
def test_entropy_bound_matches_high_precision(omega: float) -> None:
    inside = min(max(mpf(omega), reference.OMEGA_MIN), reference.OMEGA_MAX)
    assert abs(mpf(mt.entropy_bound(omega)) - reference.eta(inside)) < mpf(10) ** -13


@given(st.floats(0.7501, mt.OMEGA_MAX - 1e-6))
def test_slope_matches_the_numerical_derivative(omega: float) -> None:
    exact = mp.diff(reference.eta, mpf(omega))
    assert abs(mt.entropy_bound_slope(omega) / exact - 1) < 1e-6


def test_entropy_bound_at_the_ends() -> None:
    assert mt.entropy_bound(mt.OMEGA_MAX) == pytest.approx(1.0, abs=1e-13)
    assert mt.entropy_bound(mt.OMEGA_MIN) == pytest.approx(1.0, abs=1e-13)
    assert mt.entropy_bound(0.75) == mt.entropy_bound(0.25) == mt.entropy_bound(0.5) == 0.0
    with pytest.raises(ParameterError, match="no quantum device"):
        mt.entropy_bound(0.86)


@given(tangent_points, omegas)
def test_tangent_stays_below_the_entropy_bound(tangent: float, omega: float) -> None:
    function = mt.MinTradeoffFunction(tangent, 13 / 256)
    assert function.tangent(omega) <= mt.entropy_bound(omega) + 1e-12


@given(tangent_points, gammas, omegas)
def test_extension_averages_to_the_tangent(tangent: float, gamma: float, omega: float) -> None:
    function = mt.MinTradeoffFunction(tangent, gamma)
    lost = gamma * (1 - omega)
    mean = lost * function.lost_value + (1 - lost) * function.other_value
    scale = abs(function.lost_value) + abs(function.other_value)
    assert mean == pytest.approx(function.tangent(omega), abs=1e-13 * scale)
    variance = lost * function.lost_value**2 + (1 - lost) * function.other_value**2 - mean**2
    assert function.variance(omega) == pytest.approx(variance, abs=1e-12 * scale**2)


@given(tangent_points, gammas, omegas)
def test_variance_slope_is_the_derivative(tangent: float, gamma: float, omega: float) -> None:
    function = mt.MinTradeoffFunction(tangent, gamma)
    step = 1e-4  # exact for a parabola, up to rounding
    difference = (function.variance(omega + step) - function.variance(omega - step)) / (2 * step)
    scale = (function.slope / gamma) ** 2 * gamma
    assert function.variance_slope(omega) == pytest.approx(difference, abs=1e-9 * scale)


@pytest.mark.parametrize(("tangent", "gamma"), [(0.75, 0.1), (0.9, 0.1), (0.8, 0.0), (0.8, 1.0)])
def test_illegal_functions_are_refused(tangent: float, gamma: float) -> None:
    with pytest.raises(ParameterError, match="outside"):
        mt.MinTradeoffFunction(tangent, gamma)
