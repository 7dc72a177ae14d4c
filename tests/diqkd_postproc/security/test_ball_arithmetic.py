"""Confirmation in ball arithmetic agrees with the double-precision answers and refuses longer keys."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.security import ball_arithmetic
from diqkd_postproc.security.proofs import key_length_of
from diqkd_postproc.security.renyi_round import RoundProblem, certify

GAMMA = Fraction(13, 256)

needs_flint = pytest.mark.skipif(not ball_arithmetic.is_available(), reason="python-flint is not installed")

KINDS = [
    ({}, 1_500_000, 95_885),
    ({"proof": "counted"}, 1_500_000, 155_815),
    ({"proof": "renyi", "bound": "simple"}, 1_500_000, 353_697),
    ({"proof": "renyi", "bound": "simple", "extractor": "toeplitz"}, 1_500_000, 422_168),
]


@needs_flint
@pytest.mark.parametrize(("choice", "rounds", "bits"), KINDS)
def test_published_point_is_confirmed_to_the_bit(choice, rounds, bits):
    parameters = DesignPoint(rounds, GAMMA, 2.64, 0.018, **choice).parameters()
    length = key_length_of(parameters)
    confirmed = ball_arithmetic.confirm(parameters, length)
    assert confirmed.bits == length.bits == bits
    assert "ball arithmetic" in confirmed.certificate
    promised = dataclasses.replace(length, bits=bits + 3)
    assert ball_arithmetic.confirm(parameters, promised).bits == bits
    paying = parameters.model_copy(update={"key_bits": bits - 700, "max_late_losses": 700})
    assert ball_arithmetic.confirm(paying, promised).bits == bits - 700


@needs_flint
@pytest.mark.parametrize("extractor", ["trevisan", "toeplitz"])
def test_full_bound_is_confirmed(extractor, monkeypatch):
    """With cells so coarse that it costs up to 40 bits and not a minute."""
    monkeypatch.setattr(ball_arithmetic.renyi, "TOLERANCE_BITS", 40.0)
    gamma = Fraction(64, 256)
    parameters = DesignPoint(
        60_000, gamma, 2.8, 0.002, 1e-6, 5000, proof="renyi", bound="full", extractor=extractor
    ).parameters()
    length = key_length_of(parameters)
    assert length.bits > 5000
    assert length.bits - 45 <= ball_arithmetic.confirm(parameters, length).bits <= length.bits


@needs_flint
def test_too_many_cells_are_made_coarser(monkeypatch):
    monkeypatch.setattr(ball_arithmetic, "MAX_CELLS", 2000)
    parameters = DesignPoint(1_500_000, GAMMA, 2.64, 0.018, proof="renyi", bound="simple").parameters()
    confirmed = ball_arithmetic.confirm(parameters, key_length_of(parameters))
    assert 353_600 <= confirmed.bits <= 353_697


@needs_flint
def test_certified_maxima_of_the_reference_are_reproduced():
    """Arb figures computed independently: (simple, hash) with these alpha - 1 and kappa."""
    problem = RoundProblem(4.27079e-4, 194.2272, 13 / 256)
    leaves: list[np.ndarray] = []
    certify(problem, "simple", 1e-10, leaves)
    balls = ball_arithmetic.RoundInBalls(GAMMA, 4.27079e-4, 194.2272)
    largest = float(balls.largest(np.concatenate(leaves, axis=1), "simple").upper() - 1)
    assert -6.6640323724e-4 - 1e-10 <= largest <= -6.6640323723e-4 + 1e-10


@needs_flint
def test_overspent_errors_are_refused():
    parameters = DesignPoint(1_500_000, GAMMA, 2.64, 0.018, proof="renyi", bound="simple").parameters()
    length = key_length_of(parameters)
    analysis = dict(length.analysis) | {"smoothing": 6e-11}
    with pytest.raises(ParameterError, match="eps_snd"):
        ball_arithmetic.confirm(parameters, dataclasses.replace(length, analysis=analysis))


@pytest.mark.parametrize("bound", ["simple", "full"])
def test_leaves_cover_all_strategies(bound):
    problem = RoundProblem(1e-3, 150.0, 13 / 256)
    leaves: list[np.ndarray] = []
    certificate = certify(problem, bound, 1e-7, leaves)
    cells = np.concatenate(leaves, axis=1)
    random = np.random.default_rng(8)
    low = random.random(4000)
    beta = (1 - low) * random.choice([1.0, 1e-3, 1e-9, 0.0], 4000) * random.random(4000)
    inside = (cells[0] <= low[:, None]) & (low[:, None] <= cells[1])
    if bound == "full":
        inside &= (cells[2] <= beta[:, None]) & (beta[:, None] <= cells[3])
        assert problem.value(low, beta).max() <= certificate.upper
    assert inside.any(axis=1).all()


@pytest.mark.parametrize("beta", [0.0, 1.0, 0.5, 0.1, 2.0**-44, 2.0**-60, 1 / 3, 1 - 2.0**-53])
def test_complements_are_on_the_right_side(beta):
    exact = 1 - Fraction(beta)
    assert Fraction(ball_arithmetic._complement(beta, -1.0)) <= exact
    assert Fraction(ball_arithmetic._complement(beta, 2.0)) >= exact


def test_without_python_flint_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(ball_arithmetic, "is_available", lambda: False)
    parameters = DesignPoint(1_500_000, GAMMA, 2.64, 0.018).parameters()
    with pytest.raises(ParameterError, match="certify"):
        ball_arithmetic.confirm(parameters, key_length_of(parameters))
