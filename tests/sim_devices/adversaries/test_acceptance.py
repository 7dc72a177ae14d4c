"""Attacked runs without nodes: the tape of the laboratory, played many times over, against exact theory.

Seeds are fixed; no interval is left with a probability above 1e-7 by a correct program with other seeds.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import beta, binom

from diqkd_postproc.planning.design_point import DesignPoint
from sim_devices.adversaries.acceptance import (
    acceptance,
    losing_probabilities,
    smallest_caught_fraction,
    treated_probabilities,
)
from sim_devices.adversaries.trials import TrialRuns
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.laboratory.joint_outcomes import BOB
from sim_devices.laboratory.tampering import LISTED, MEASURED, UNTOUCHED, Tampering
from sim_devices.laboratory.tape import Tape
from sim_devices.physics.link import LinkModel

FALSE_ALARM = 1e-7
IDEAL = LinkModel("ideal")
# Small, and with a threshold at which shares of some 55 % are accepted now and then.
PARAMETERS = DesignPoint(4096, Fraction(1, 4), 2.6, 0.02, 1e-10).parameters()


def test_the_link_and_the_perfect_formulas_agree() -> None:
    """With pulses and counters as good as they are, S is within 0.01 of what algebra gives."""
    scores = 4 - 8 * losing_probabilities(treated_probabilities(IDEAL))
    assert scores[UNTOUCHED] == pytest.approx(2 * math.sqrt(2), abs=0.01)
    assert scores[LISTED] == pytest.approx(2, abs=0.01) and scores[LISTED] <= 2
    assert scores[MEASURED] == pytest.approx(math.sqrt(2), abs=0.01)


def test_probabilities_are_normalised_and_no_device_signals() -> None:
    table = treated_probabilities(IDEAL)
    np.testing.assert_allclose(table.sum(axis=(-1, -2)), 1, atol=1e-12)
    alice = table.sum(axis=-1)
    np.testing.assert_allclose(alice[..., :1, :], alice[..., 1:2, :], atol=1e-12)
    bob = table.sum(axis=-2)
    np.testing.assert_allclose(bob[..., 0, :, :], bob[..., 1, :, :], atol=1e-12)


@pytest.mark.parametrize(
    "tampering",
    [Tampering(), Tampering(local_fraction=0.5), Tampering(0.6), Tampering(1.0), Tampering(0.3, 0.1)],
    ids=str,
)
def test_losses_follow_the_binomial_distribution(tampering: Tampering) -> None:
    runs, theory = TrialRuns(PARAMETERS, IDEAL, tampering), acceptance(PARAMETERS, IDEAL, tampering)
    num_runs = 60
    losses = [runs.losses(seed) for seed in range(num_runs)]
    trials = num_runs * PARAMETERS.num_rounds
    chance = float(PARAMETERS.gamma) * theory.losing_probability
    assert binom.ppf(FALSE_ALARM / 2, trials, chance) <= sum(losses)
    assert sum(losses) <= binom.isf(FALSE_ALARM / 2, trials, chance)
    accepted = sum(count <= PARAMETERS.max_losses for count in losses)
    assert binom.ppf(FALSE_ALARM / 2, num_runs, theory.acceptance_probability) <= accepted
    assert accepted <= binom.isf(FALSE_ALARM / 2, num_runs, theory.acceptance_probability)


def test_the_chance_to_pass_is_the_exact_binomial_tail() -> None:
    """Summed term by term, with integers where there are integers."""
    theory = acceptance(PARAMETERS, IDEAL, Tampering(0.55))
    lost = Fraction(float(PARAMETERS.gamma) * theory.losing_probability)
    n, total, term = PARAMETERS.num_rounds, 0.0, (1 - float(lost)) ** PARAMETERS.num_rounds
    for count in range(PARAMETERS.max_losses + 1):
        total += term
        term *= (n - count) / (count + 1) * float(lost) / (1 - float(lost))
    assert 0.05 < total < 0.999
    assert theory.acceptance_probability == pytest.approx(total, rel=1e-8)


def test_more_listed_rounds_never_pass_more_often() -> None:
    parameters = DesignPoint(16384, Fraction(1, 4), 2.7, 0.02, 1e-10).parameters()
    chances = [
        acceptance(parameters, IDEAL, Tampering(share)).acceptance_probability
        for share in np.linspace(0, 1, 11)
    ]
    assert chances == sorted(chances, reverse=True) and chances[0] > 0.99 and chances[-1] < 1e-9
    share = smallest_caught_fraction(parameters, IDEAL)
    at, below = (
        acceptance(parameters, IDEAL, Tampering(s)).acceptance_probability for s in (share, share - 1e-3)
    )
    assert at <= 1e-6 < below


def test_where_even_local_devices_may_pass_all_rounds_are_listed() -> None:
    assert acceptance(PARAMETERS, IDEAL, Tampering(1.0)).acceptance_probability > 1e-6
    assert smallest_caught_fraction(PARAMETERS, IDEAL) == 1.0


def test_an_adversary_changes_nothing_but_what_she_touches() -> None:
    """The same seed with and without her: heralds, patterns and faults stay what they were."""
    honest = Tape(LaboratoryConfiguration(seed=4, link=IDEAL))
    attacked = Tape(LaboratoryConfiguration(seed=4, link=IDEAL, tampering=Tampering(0.3, 0.2)))
    treatment, _ = attacked.notebook(0, 3000)
    entries = [tape.entries(BOB, 0, 3000) for tape in (honest, attacked)]
    for name in ("index", "attempts", "pattern", "fault"):
        np.testing.assert_array_equal(entries[0][name], entries[1][name])
    np.testing.assert_array_equal(entries[1]["preset"] != 0, treatment == LISTED)
    assert not entries[0]["preset"].any()
    states = attacked.tampered(0, attacked.states(entries[1]["pattern"]))
    purity = np.einsum("nabcd,ncdab->n", states, states).real
    np.testing.assert_allclose(purity, 1)
    entangled = np.abs(states[:, 0, 1, 1, 0]) > 0.4
    np.testing.assert_array_equal(entangled, treatment != MEASURED)
    counts = np.bincount(treatment, minlength=3)
    for kind, share in ((UNTOUCHED, 0.5), (LISTED, 0.3), (MEASURED, 0.2)):
        low, high = (
            beta.ppf(q, counts[kind] + 0.5, 3000.5 - counts[kind]) for q in (FALSE_ALARM, 1 - FALSE_ALARM)
        )
        assert low < share < high


@pytest.mark.parametrize(
    "wrong",
    [{"local_fraction": -0.1}, {"local_fraction": 0.6, "measured_fraction": 0.5}, {"stuck_electrode": "eve"}],
)
def test_impossible_shares_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"fraction|electrode"):
        Tampering(**wrong)  # type: ignore[arg-type]
