"""Theorem 5: the document's figures, a four-dimensional oracle in forty digits, and explicit strategies."""

import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.security.ball_arithmetic import is_available
from diqkd_postproc.security.exact_round import ExactRound, LogStates, cell_bounds
from diqkd_postproc.security.exact_round_balls import ExactRoundInBalls
from diqkd_postproc.security.exact_round_search import Leaves, certify_exact
from tests.support import one_round_reference as reference

needs_flint = pytest.mark.skipif(not is_available(), reason="python-flint is not installed")

BLOCKS = ((0.35, 0.2, 0.1), (0.15, 0.05, -0.08))
ANGLES = (0.4, 0.7)

# Evaluated independently, Theorem 5: parameters, f, D and the eigenvalue bound of the state above.
DUALS = [
    (
        (0.3, 5.0, 1.0, 0.3, 2),
        0.921177518117986,
        (0.895238791475, -0.00924053419298, -0.0379061149177),
        (1.10416208477, 0.0677622999913, 0.201481591767),
        1.31673339308767,
    ),
    (
        (0.3, 5.0, 1.0, 0.3, 1),
        0.909781813807252,
        (0.907295514759, -0.0348685426159, -0.0528876491654),
        (1.12375248223, 0.036644883119, 0.259939578908),
        1.38626235278898,
    ),
    (
        (0.0005, 190.0, 32.0, 0.05078125, 2),
        0.999003443112761,
        (0.998819069235, 0.000295118513672, 0.000123633101938),
        (0.99923712087, 0.000798516024198, 0.00102292025502),
        1.00053480869438,
    ),
    (
        (0.0005, 190.0, 32.0, 0.05078125, 1),
        0.998972027248982,
        (0.998857340321, 0.000222408580874, 8.3717193266e-05),
        (0.999275440558, 0.000713248122592, 0.00117359266668),
        1.00064877323172,
    ),
]

# Section 10, "Exact maxima in units of alpha - 1 (lower estimate, +-1e-6)", and the bracket above the tables.
MAXIMA = [
    ((0.01, 60.0, 8.0, 0.25, 2), -0.582801),
    ((0.5, 5.0, 0.0, 1.0, 2), -0.411612),
    ((0.01, 60.0, 8.0, 0.25, 1), -0.559121),
    ((4.47e-4, 212.2, 36.4, 13 / 256, 1), -0.401247),
    ((0.1, 12.0, 3.0, 0.3, 1), 0.171990),
    ((0.1, 12.0, 3.0, 0.3, 2), 0.171990),
    ((4.95e-4, 191.7, 32.5, 13 / 256, 2), -2.477218939249681e-04 / 4.95e-4),
]


def log_states(*blocks: tuple[float, float, float]) -> LogStates:
    """ln of one state with blocks (m, u, v)."""
    mean, axis = np.zeros((2, 1)), np.zeros((2, 1), dtype=complex)
    for i, (m, u, v) in enumerate(blocks):
        radius = math.hypot(u, v)
        high, low = math.log(m + radius), math.log(m - radius)
        mean[i], axis[i] = (high + low) / 2, (high - low) / 2 * complex(u, v) / radius
    return LogStates(mean, axis)


def random_blocks(random: np.random.Generator) -> tuple[tuple[float, float, float], ...]:
    share = random.uniform(0.05, 0.95)
    blocks = []
    for weight in (share, 1 - share):
        radius = weight / 2 * random.uniform(0.05, 0.999)
        angle = random.uniform(0, 2 * math.pi)
        blocks.append((weight / 2, radius * math.cos(angle), radius * math.sin(angle)))
    return tuple(blocks)


@pytest.mark.parametrize(("numbers", "value", "first", "second", "largest"), DUALS)
def test_dual_operators_of_the_document(numbers, value, first, second, largest):
    duals = ExactRound(*numbers).duals(np.array([ANGLES[0]]), np.array([ANGLES[1]]), log_states(*BLOCKS))
    assert duals.value[0] == pytest.approx(value, abs=2e-15)
    for block, (m, u, v) in enumerate((first, second)):
        assert duals.mean[block, 0] == pytest.approx(m, abs=1e-11)
        assert duals.axis[block, 0] == pytest.approx(complex(u, v), abs=1e-11)
    assert duals.largest[0] == pytest.approx(largest, abs=1e-13)


@pytest.mark.parametrize("num_key_bases", [1, 2])
@mp.workdps(40)
def test_value_and_tangent_against_forty_digits(num_key_bases):
    """f of 4 x 4 matrices equals the closed form, and Tr D tau bounds it at every other state, blocks or
    not."""
    random = np.random.default_rng(5)
    for numbers in ((0.3, 5.0, 1.0, 0.3), (5e-4, 190.0, 32.0, 13 / 256), (1.0, 8.0, 0.5, 0.5)):
        theta, phi = random.uniform(0, math.pi / 4), random.uniform(0, math.pi / 4)
        blocks = random_blocks(random)
        one_round = ExactRound(*numbers, num_key_bases)
        duals = one_round.duals(np.array([theta]), np.array([phi]), log_states(*blocks))
        exact = reference.value(reference.from_blocks(*blocks), theta, phi, *numbers, num_key_bases)
        assert abs(duals.value[0] - exact) < 4e-15
        operator = reference.from_blocks(
            *((duals.mean[i, 0], duals.axis[i, 0].real, duals.axis[i, 0].imag) for i in (0, 1))
        )
        for _ in range(3):
            vectors = mp.matrix(random.normal(size=(4, 4)).tolist())
            tau = vectors * vectors.T
            tau /= sum(tau[i, i] for i in range(4))
            product = operator * tau
            bound = sum(product[i, i] for i in range(4))
            assert reference.value(tau, theta, phi, *numbers, num_key_bases) <= bound + mp.mpf(10) ** -14


@pytest.mark.parametrize("num_key_bases", [1, 2])
@pytest.mark.parametrize("numbers", [(0.3, 5.0, 1.0, 0.3), (5e-4, 190.0, 32.0, 13 / 256)])
def test_rectangle_bound_covers_every_strategy_inside(num_key_bases, numbers):
    """Corner states are arbitrary; the bound holds for the best states of random angles in the rectangle."""
    random = np.random.default_rng(11)
    one_round = ExactRound(*numbers, num_key_bases)
    for width in (0.3, 0.05, 0.004):
        theta, phi = random.uniform(0, math.pi / 4 - width), random.uniform(0, math.pi / 4 - width)
        thetas, phis = theta + width * np.array([0, 1, 0, 1]), phi + width * np.array([0, 0, 1, 1])
        states = one_round.ascend(thetas, phis, LogStates.start(4), 6)
        bound = cell_bounds(one_round.duals(thetas, phis, states), np.array([[0, 1, 2, 3]]), width, width)[0]
        inside = random.random((2, 400))
        thetas, phis = theta + width * inside[0], phi + width * inside[1]
        best = one_round.ascend(thetas, phis, LogStates.start(400), 40)
        values = one_round.duals(thetas, phis, best).value
        assert values.max() <= bound + 1e-14
        # Second order in the width, and not only true.
        assert bound - values.max() < 8 * (width + width**2) * numbers[0]


@pytest.mark.parametrize("num_key_bases", [1, 2])
def test_rectangle_bound_from_bad_states_covers_any_state_inside(num_key_bases):
    """One-round values of 4 x 4 matrices, also of complex states without symmetry, by an independent oracle.

    The corners' states are random, each another one: docs/one_round.md, 3.3, asks nothing of them.
    """
    random = np.random.default_rng(23)
    for numbers in ((0.3, 5.0, 1.0, 0.3), (1.0, 1.0, 0.5, 0.5), (5e-4, 190.0, 32.0, 13 / 256)):
        one_round = ExactRound(*numbers, num_key_bases)
        for width in (0.3, 0.02):
            low = random.uniform(0, math.pi / 4, 2)
            corners = low[:, None] + width * np.array([[0, 1, 0, 1], [0, 0, 1, 1]])
            logs = [log_states(*random_blocks(random)) for _ in range(4)]
            states = LogStates(*(np.concatenate([getattr(s, f) for s in logs], 1) for f in ("mean", "axis")))
            duals = one_round.duals(*corners, states.normalised())
            bound = cell_bounds(duals, np.array([[0, 1, 2, 3]]), width, width)[0]
            for theta, phi in low + width * random.random((40, 2)):
                root = random.normal(size=(4, 4)) + 1j * random.normal(size=(4, 4))
                tau = root @ np.diag(random.random(4) ** 6) @ root.conj().T
                assert (
                    value_by_matrices(tau / np.trace(tau).real, theta, phi, *numbers, num_key_bases) <= bound
                )


def value_by_matrices(tau, theta, phi, order_minus_one, kappa, eta, gamma, num_key_bases):
    """f(tau; theta, phi) as docs/one_round.md, section 1, defines it."""
    order = 1 + order_minus_one
    lost = 2 ** (-order_minus_one * kappa / order)
    values, vectors = np.linalg.eigh(tau)
    root = (vectors * np.maximum(values, 0) ** (1 / (2 * order))) @ vectors.conj().T

    def projector(angle, outcome):
        axis = np.array([[math.cos(angle), math.sin(angle)], [math.sin(angle), -math.cos(angle)]])
        return (np.eye(2) + (-1) ** outcome * axis) / 2

    def term(alice, bob):
        return (np.maximum(np.linalg.eigvalsh(root @ np.kron(alice, bob) @ root), 0) ** order).sum()

    total = 0.0
    for x, a in ((0, 0), (0, 1), (1, 0), (1, 1)):
        alice = projector((-1) ** x * theta, a)
        total += (x < num_key_bases) * (1 - gamma) / num_key_bases * term(alice, np.eye(2))
        for y in (0, 1):
            bob = lost * np.eye(2) + (1 - lost) * projector((-1) ** y * phi, a ^ (x & y))
            total += gamma * 2 ** (order_minus_one * eta) / 4 * term(alice, bob)
    return total


@pytest.mark.parametrize(("numbers", "maximum"), MAXIMA)
def test_maxima_of_the_document(numbers, maximum):
    found = certify_exact(ExactRound(*numbers))
    d = numbers[0]
    assert found.lower / d == pytest.approx(maximum, abs=2e-6)
    assert 0 < found.upper - found.lower <= 3.1e-6 * d


@pytest.mark.parametrize(
    ("numbers", "bound"),
    [
        ((4.468e-4, 211.82, 36.22, 13 / 256, 1), -1.8085853406e-04),
        ((4.941e-4, 191.66, 32.44, 13 / 256, 2), -2.4794407412e-04),
        ((0.009496, 24.574, 4.318, 3 / 8, 1), -3.5879651878e-03),
        ((2.433e-05, 1227.6, 218.3, 1 / 128, 2), -1.1337061294e-05),
    ],
)
def test_certified_bounds_of_the_document_are_ours_and_its_tolerance(numbers, bound):
    """Its branch and bound stops 6e-4 (alpha - 1) above the best strategy (section 9)."""
    d = numbers[0]
    assert certify_exact(ExactRound(*numbers)).lower == pytest.approx(bound - 6e-4 * d, abs=1e-6 * d)


def test_no_less_than_the_list_strategy():
    """g >= g_c = 1 - gamma + gamma h (3/4 + w/4): product state, constant answers (docs/order.md, 3.1)."""
    random = np.random.default_rng(3)
    for _ in range(6):
        d, gamma = math.exp(random.uniform(-9, -0.7)), random.uniform(0.01, 0.6)
        kappa, eta = random.uniform(5, 15) / gamma, random.uniform(0.5, 2) / gamma
        listed = gamma * (2 ** (d * eta) * (0.75 + 0.25 * 2 ** (-d * kappa)) - 1)
        for bases in (1, 2):
            assert certify_exact(ExactRound(d, kappa, eta, gamma, bases)).upper >= listed


@needs_flint
@pytest.mark.parametrize("num_key_bases", [1, 2])
def test_balls_confirm_every_rectangle_and_the_margin(num_key_bases):
    for numbers in (
        (4.47e-4, 212.2, 36.4, 13 / 256),
        (1.965e-5, 1513.3, 252.6, 1 / 128),
        (0.1, 12.0, 3.0, 0.3),
    ):
        leaves: list[Leaves] = []
        found = certify_exact(ExactRound(*numbers, num_key_bases), None, leaves)
        balls = ExactRoundInBalls(*(Fraction(n) for n in numbers), num_key_bases)
        largest = float(balls.largest_excess(leaves))
        assert found.lower - 1e-9 * numbers[0] <= largest <= found.upper
        # Without its margin of 1e-6 (alpha - 1), the bound in doubles errs by less than 7.2e-8.
        assert abs(largest - (found.upper - 1e-6 * numbers[0])) < 7.2e-8 * numbers[0]
        covered = sum(level.corners.shape[0] / level.divisions**2 for level in leaves)
        assert covered == pytest.approx(2 / num_key_bases, abs=1e-12)


def test_a_tolerance_out_of_reach_is_widened(monkeypatch):
    monkeypatch.setattr("diqkd_postproc.security.exact_round_search.MAX_CELLS", 700)
    one_round = ExactRound(4.941e-4, 191.66, 32.44, 13 / 256, 2)
    found = certify_exact(one_round)
    assert found.upper >= certify_exact(one_round, 1e-3 * 4.941e-4).lower
    assert 3e-6 < (found.upper - found.lower) / 4.941e-4 < 1e-2


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0.0, 5.0, 1.0, 0.3, 1), "order_minus_one=0"),
        ((0.1, 0.5, 1.0, 0.3, 1), "loss_price=0.5"),
        ((0.1, 5.0, -1.0, 0.3, 1), "test_credit=-1"),
        ((0.1, 5.0, 1.0, 0.0, 1), "gamma=0"),
        ((0.1, 5.0, 1.0, 0.3, 3), "num_key_bases=3"),
    ],
)
def test_illegal_values_are_named(numbers, message):
    with pytest.raises(ParameterError, match=message):
        ExactRound(*numbers)
