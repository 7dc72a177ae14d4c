"""The one-round quantity: forty-digit values computed elsewhere, sampling, and certified maxima."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.security.renyi_round import RoundProblem, approximate_maximum, certify

GAMMA = 13 / 256

# l, beta = 1 - u, alpha - 1, kappa, gamma, G - 1 to forty digits (rounded).
VALUES = [
    (0.5, 0.0, 0.0005, 190.0, GAMMA, -0.000769713760386310207),
    (0.58887, 1e-09, 0.000434404, 189.517, GAMMA, -0.000668754298082424693),
    (0.6, 0.3, 0.001, 150.0, GAMMA, -0.00129159828246459968),
    (0.2, 0.5, 0.01, 60.0, 0.2, -0.0164057762933886241),
    (0.0, 0.0, 0.1, 30.0, 0.2, -0.0435261704967657348),
    (0.75, 0.25, 0.5, 5.0, 1.0, -0.173088342482653154),
]

# alpha - 1, kappa, gamma, enclosure of the full and of the simple maximum minus 1, certified elsewhere.
MAXIMA = [
    (
        0.0005,
        190,
        GAMMA,
        (-7.685091095551e-04, -7.685041093551e-04),
        (-7.641305708499e-04, -7.641305606499e-04),
    ),
    (
        0.001,
        150,
        GAMMA,
        (-1.244226330210e-03, -1.244216330010e-03),
        (-1.234570754694e-03, -1.234570744494e-03),
    ),
    (0.01, 60, 0.2, (-1.573753058509e-02, -1.573743058489e-02), (-1.555008619589e-02, -1.555008618569e-02)),
    (0.1, 30, 0.2, (-4.253584679776e-02, -4.253484679756e-02), (-4.253539890198e-02, -4.253539889178e-02)),
    (0.5, 5, 1.0, (-1.684088548142e-01, -1.684038548140e-01), (-1.635076436265e-01, -1.635076436163e-01)),
    (1.0, 3, 1.0, (-1.656700122978e-01, -1.656600122976e-01), (-1.656133850896e-01, -1.656133850794e-01)),
    (0.002, 45, 0.2, (-2.952820954682e-03, -2.952800954482e-03), (-2.885888206033e-03, -2.885888195833e-03)),
]

problems = st.builds(RoundProblem, st.floats(1e-5, 1.0), st.floats(0.0, 500.0), st.floats(1e-3, 1.0))


def high_precision(problem: RoundProblem, low: float, beta: float) -> mpf:
    """G - 1 from its definition, sixty digits."""
    with mp.workdps(60):
        order, gamma = 1 + mpf(problem.order_minus_one), mpf(problem.gamma)
        t_low, u = mpf(low), 1 - mpf(beta)

        def q(t: mpf) -> mpf:
            e = (1 - mp.sqrt(t)) / 2
            return mpf(2) ** (1 - order) * (e ** (1 / order) + (1 - e) ** (1 / order)) ** order

        c = mpf(1.6) * t_low**3 / (1 + mpf(1.6) * t_low * (1 - t_low))
        mean = (t_low + u) / 2
        omega = (2 + mp.sqrt(1 + t_low - mean + mp.sqrt(mean**2 - c * (1 - u)))) / 4
        w0 = mpf(2) ** (-(order - 1) * mpf(problem.loss_weight) / order)
        inner = w0 * ((q(t_low) + q(u)) / 2) ** (1 / order) + (1 - w0) * omega ** (1 / order)
        return (1 - gamma) * q(t_low) + gamma * inner**order - 1


def one(value: float) -> np.ndarray:
    return np.array([value])


@pytest.mark.parametrize(("low", "beta", "order_minus_one", "loss_weight", "gamma", "expected"), VALUES)
def test_values_computed_elsewhere(
    low: float, beta: float, order_minus_one: float, loss_weight: float, gamma: float, expected: float
) -> None:
    problem = RoundProblem(order_minus_one, loss_weight, gamma)
    assert abs(problem.value(one(low), one(beta))[0] - expected) < 5e-15


@settings(max_examples=200)
@given(problems, st.floats(0, 1), st.floats(0, 1))
def test_rounding_errors_are_far_below_the_allowance(problem: RoundProblem, low: float, share: float) -> None:
    beta = share * (1 - low)
    assert abs(problem.value(one(low), one(beta))[0] - high_precision(problem, low, beta)) < 2e-14


@pytest.mark.parametrize(("order_minus_one", "loss_weight", "gamma", "full", "simple"), MAXIMA)
def test_certified_maxima_agree_with_enclosures_found_elsewhere(
    order_minus_one: float,
    loss_weight: float,
    gamma: float,
    full: tuple[float, float],
    simple: tuple[float, float],
) -> None:
    problem = RoundProblem(order_minus_one, loss_weight, gamma)
    for bound, (low, high) in (("full", full), ("simple", simple)):
        certificate = certify(problem, bound, high - low)
        assert certificate.lower <= high
        assert certificate.upper >= low
        assert certificate.lower < certificate.upper <= certificate.lower + (high - low) + 3e-13
        assert approximate_maximum(problem, bound)[0] == pytest.approx(
            certificate.lower, abs=3 * (high - low)
        )


@settings(max_examples=25)
@given(problems, st.integers(0, 2**32 - 1))
def test_no_sample_exceeds_the_certificate(problem: RoundProblem, seed: int) -> None:
    tolerance = 1e-4 * problem.order_minus_one
    full, simple = certify(problem, "full", tolerance), certify(problem, "simple", tolerance)
    generator = np.random.default_rng(seed)
    low = generator.random(20_000)
    beta = (1 - low) * np.exp2(-40 * generator.random(20_000) ** 2)
    assert problem.value(low, beta).max() <= full.upper
    assert problem.value(low, np.zeros_like(low)).max() <= full.upper
    assert problem.simple_value(low).max() <= simple.upper
    assert full.lower <= simple.upper


@settings(max_examples=50)
@given(problems, st.integers(0, 2**32 - 1))
def test_cell_bound_covers_its_cell(problem: RoundProblem, seed: int) -> None:
    generator = np.random.default_rng(seed)
    corners = np.sort(generator.random((2, 2)), axis=1)
    (low1, low2), (beta1, beta2) = corners * [[1.0], [1 - corners[0, 0]]]
    bound = problem.cell_bound(one(low1), one(low2), one(beta1), one(beta2))[0]
    low = generator.uniform(low1, low2, 2000)
    beta = generator.uniform(beta1, beta2, 2000)
    inside = low + beta <= 1
    values = problem.value(low[inside], beta[inside])
    assert not values.size or values.max() <= bound + 1e-14


def test_without_loss_weight_nothing_is_certified() -> None:
    assert certify(RoundProblem(0.001, 0.0, GAMMA), "full", 1e-9).lower == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0.0, 1.0, 0.5), "order_minus_one=0.0"),
        ((0.1, -1.0, 0.5), "loss_weight=-1.0"),
        ((0.1, 1.0, 0.0), "gamma=0.0"),
    ],
)
def test_illegal_problems_are_named(arguments: tuple[float, float, float], name: str) -> None:
    with pytest.raises(ParameterError, match=name):
        RoundProblem(*arguments)
    with pytest.raises(ParameterError, match="bound='best'"):
        certify(RoundProblem(0.1, 1.0, 0.5), "best", 1e-3)
