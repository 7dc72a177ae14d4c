"""The evidence for keys of variable length at a small scale: no claim is violated, each control is."""

import numpy as np
import pytest

from campaigns import variable_length_evidence as evidence
from campaigns.small_sessions import Remembering, Rule, Session, Switching, renyi

CHEAP = [evidence.test_part, evidence.geometry, evidence.concavity]


@pytest.mark.parametrize("check", CHEAP, ids=lambda check: check.__name__)
def test_no_claim_about_one_round_is_violated(check):
    for name, value in check(np.random.default_rng(3), 4).items():
        assert (value > evidence.SLACK) == name.startswith(evidence.CONTROL), name


def test_strategies_inside_a_rectangle_stay_below_its_bound():
    found = evidence.rectangles(np.random.default_rng(3), 8)
    assert [value > evidence.SLACK for value in found.values()] == [False, True]


def test_two_rounds_with_memory_stay_below_the_square_of_one(monkeypatch):
    monkeypatch.setattr(evidence, "RULES", evidence.RULES[:3])
    for name, value in evidence.chain(np.random.default_rng(6), 3).items():
        assert (value > evidence.SLACK) == name.startswith(evidence.CONTROL), name


def test_keys_of_two_rounds_are_as_secret_as_the_bound_says():
    """Without one term of the length it is exceeded."""
    random, rule = np.random.default_rng(8), evidence.RULES[0]
    for devices in (Switching.drawn(random, 2), Remembering.drawn(random)):
        session = Session.drawn(random, devices)
        assert session.weighted(rule) <= evidence.certified(rule) ** 2
        for constant in (0.7, 1.6):
            ratio = session.soundness(rule, evidence.charge_of(rule), constant)
            assert ratio <= 6 ** (1 - 1 / rule.order)
    assert all(ratio > 1.05 for ratio in evidence.soundness_controls().values())


def test_branches_add_up_to_the_reference_state():
    """Of each attack, before weights: Eve's states sum to her marginal, and Q of that is its trace."""
    random = np.random.default_rng(2)
    for devices in (Switching.drawn(random, 2), Remembering.drawn(random).moved(random, 0.5)):
        for setting in Rule(1.5, 2.0, 0.0, 0.5, 2).settings():
            sigma, branches = devices.play((setting, setting))
            assert np.allclose(sum(rho for _, _, rho in branches), sigma, atol=1e-12)
            assert renyi(sigma, sigma, 1.5) == pytest.approx(1.0)
