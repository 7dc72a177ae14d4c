"""Probability that an attack passes the Bell test, from states, pulses and the binomial distribution.

The adversary treats rounds independently, so the number of lost test rounds is Bin(n, gamma p) with p the
mean probability that a test round is lost, and the run is accepted where it is at most L (step 8 of the
protocol). An adversary with memory cannot do better than the theorem allows; these ones only show what the
theorem is about."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import HERALD_PATTERNS, chsh_score_of_losing
from sim_devices.laboratory.tampering import LISTED, MEASURED, UNTOUCHED, Tampering, product_states
from sim_devices.physics.expected_statistics import alice_effects, bob_effects, pattern_probabilities
from sim_devices.physics.fluorescence import discrimination
from sim_devices.physics.link import LinkModel

RARE = 1e-6


@cache
def treated_probabilities(link: LinkModel) -> NDArray[np.float64]:
    """P[treatment, pattern, noted, x, y, a, b], shape (3, 4, 2, 2, 3, 2, 2): outcomes given settings, for
    each of the four herald patterns and each bit that the adversary has noted."""
    patterns = HERALD_PATTERNS
    table = np.empty((3, len(patterns), 2, 2, 3, 2, 2))
    alice = alice_effects()
    states = product_states()
    for index, pattern in enumerate(patterns):
        bob = bob_effects(pattern)
        table[UNTOUCHED, index] = pattern_probabilities(link.state(pattern), alice, bob)
        for noted in (0, 1):
            table[MEASURED, index, noted] = pattern_probabilities(states[noted], alice, bob)
    bright, dark = discrimination()
    for noted in (0, 1):
        # Alice's bit 0 and Bob's bit 1 are bright.
        alice_zero = dark if noted else bright
        bob_one = bright if noted else dark
        table[LISTED, :, noted] = np.outer([alice_zero, 1 - alice_zero], [1 - bob_one, bob_one])
    table.flags.writeable = False
    return table


def losing_probabilities(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3,): probability that a test round of each treatment is lost, from `treated_probabilities`."""
    mean = table.mean(axis=(1, 2))
    lost = np.zeros(3)
    for x in (0, 1):
        for y in (0, 1):
            for a in (0, 1):
                lost += mean[:, x, y, a, a ^ (x & y) ^ 1] / 4
    return lost


@dataclass(frozen=True)
class Acceptance:
    """Theory of one attack: losing_probability is of a test round, acceptance_probability of a whole run."""

    losing_probability: float
    expected_losses: float
    acceptance_probability: float

    @property
    def chsh_score(self) -> float:
        """S at this losing probability."""
        return chsh_score_of_losing(self.losing_probability)


def acceptance(parameters: ProtocolParameters, link: LinkModel, tampering: Tampering) -> Acceptance:
    """What theory says of a run with these parameters over a link that was tampered with."""
    local = 1.0 if link.kind == "local" else tampering.local_fraction
    measured = 0.0 if link.kind == "local" else tampering.measured_fraction
    shares = np.array([1 - local - measured, local, measured])
    chance = float(shares @ losing_probabilities(treated_probabilities(link)))
    lost = float(parameters.gamma) * chance
    passes = float(binom.cdf(parameters.max_losses, parameters.num_rounds, lost))
    return Acceptance(chance, parameters.num_rounds * lost, passes)


def smallest_caught_fraction(parameters: ProtocolParameters, link: LinkModel, risk: float = RARE) -> float:
    """The smallest share of listed rounds, in whole per mille, that passes with at most the probability
    `risk`."""
    low, high = 0, 1000
    while low < high:
        middle = (low + high) // 2
        if (
            acceptance(parameters, link, Tampering(local_fraction=middle / 1000)).acceptance_probability
            <= risk
        ):
            high = middle
        else:
            low = middle + 1
    return low / 1000
