"""Public counts that an honest link is expected to give, and what they make of a key length.

N_t ~ Bin(n, gamma) rounds are tests, and each is lost with probability q = (4 - S) / 8. The length of a
variable key is a linear function of both counts; its mean, standard deviation and quantiles follow exactly.
No security rests on any of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from scipy.stats import binom

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.length_rule import PRICE_UNIT, LengthRule
from diqkd_postproc.security.variable_length import KeyProblem

LIMIT_DEVIATIONS = 10.0
"""L_max: so many standard deviations above the mean number of losses (docs/variable_length.md, section 7)."""

TAIL_DEVIATIONS = 9.0


@dataclass(frozen=True, slots=True)
class LinkCounts:
    """Expected counts of n rounds with test probability gamma and loss probability q of a test.

    late_losses: expected v. syndrome_sent: the m_j expected; None for the first.
    """

    num_rounds: int
    gamma: Fraction
    loss_probability: float
    late_losses: int = 0
    syndrome_sent: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.loss_probability <= 0.5:
            raise ParameterError(
                f"loss_probability={self.loss_probability} is outside [0, 0.5]; (4 - S) / 8 is meant"
            )

    @staticmethod
    def of_link(num_rounds: int, gamma: Fraction, chsh_score: float) -> LinkCounts:
        """For a link of CHSH score S; every test is played."""
        return LinkCounts(num_rounds, gamma, (4.0 - chsh_score) / 8.0)

    def at(self, problem: KeyProblem) -> LinkCounts:
        """The same link at the rounds and test probability of a problem."""
        return replace(self, num_rounds=problem.num_rounds, gamma=problem.gamma)

    @property
    def mean_losses(self) -> float:
        """n gamma q."""
        return self.num_rounds * float(self.gamma) * self.loss_probability

    def mean_cost(self, kappa: float, eta: float) -> float:
        """Mean of kappa k - eta N_t, in bits."""
        return kappa * self.mean_losses - eta * self.num_rounds * float(self.gamma)

    def cost_deviation(self, kappa: float, eta: float) -> float:
        """Standard deviation of kappa k - eta N_t: the rounds are independent."""
        gamma, q = float(self.gamma), self.loss_probability
        square = gamma * (q * (kappa - eta) ** 2 + (1 - q) * eta**2)
        return math.sqrt(self.num_rounds * (square - gamma**2 * (q * kappa - eta) ** 2))

    def mean_bits(self, rule: LengthRule) -> float:
        """Mean of a variable length before limits and cap; a fixed length; Trevisan: before 4 log2 l."""
        if rule.length == "fixed":
            return float(rule.constant_bits)
        bits = rule.constant_bits - self._spent(rule)
        return bits - self.mean_cost(float(rule.free.kappa), float(rule.free.eta))

    def deviation_bits(self, rule: LengthRule) -> float:
        """Standard deviation of the variable length; 0 of a fixed one."""
        if rule.length == "fixed":
            return 0.0
        return self.cost_deviation(float(rule.free.kappa), float(rule.free.eta))

    def probability_at_most(self, rule: LengthRule, bits: float) -> float:
        """Probability that the theorem's right-hand side C + eta N_t - kappa k - m - v, rounded down, is at
        most `bits`."""
        # eta' (won + k) - kappa' k < 1024 (bits + 1 + m + v - C_int), in integers.
        threshold = PRICE_UNIT * (math.floor(bits) + 1 + self._spent(rule) - rule.constant_bits)
        return self._probability_below(rule, threshold, self.num_rounds)

    def no_key_probability(self, rule: LengthRule) -> float:
        """Probability that an honest run of this link makes no key because of its Bell test."""
        if rule.length == "fixed":
            return self._probability_below(rule, -rule.free.loss_budget, rule.max_losses)
        least = 4 if rule.extractor == "trevisan" else 0  # 1 + 4 log2 1 is the first that fits
        threshold = PRICE_UNIT * (least + 1 + self._spent(rule) - rule.constant_bits)
        return self._probability_below(rule, threshold, rule.max_losses)

    def _probability_below(self, rule: LengthRule, threshold: int, max_losses: int) -> float:
        """Probability of eta' N_t - kappa' k < threshold or k > max_losses.

        Exact sum over the number of lost tests; given k, the won ones are Bin(n - k, gamma (1-q) / (1 - gamma
        q)).
        """
        n, gamma, q = self.num_rounds, float(self.gamma), self.loss_probability
        deviation = math.sqrt(self.mean_losses * (1 - gamma * q)) + 1.0
        low = max(0, math.floor(self.mean_losses - TAIL_DEVIATIONS * deviation))
        high = min(n, math.ceil(self.mean_losses + TAIL_DEVIATIONS * deviation))
        losses = np.arange(low, high + 1)
        weights = binom.pmf(losses, n, gamma * q)
        price, credit = rule.free.loss_price, rule.free.test_credit
        room = threshold + (price - credit) * losses - 1
        if credit == 0:
            below = (room >= 0).astype(float)
        else:
            below = binom.cdf(room // credit, n - losses, gamma * (1 - q) / (1 - gamma * q))
        return float((weights * np.where(losses > max_losses, 1.0, below)).sum())

    def quantile_bits(self, rule: LengthRule, probability: float = 0.05) -> int:
        """Smallest number of bits that the variable length stays at or below with at least this
        probability."""
        if rule.length == "fixed":
            return rule.constant_bits
        mean, spread = self.mean_bits(rule), 8.0 * self.deviation_bits(rule) + 2.0
        low, high = math.floor(mean - spread), math.ceil(mean + spread)
        while high - low > 1:
            middle = (low + high) // 2
            if self.probability_at_most(rule, middle) >= probability:
                high = middle
            else:
                low = middle
        return high

    def _spent(self, rule: LengthRule) -> int:
        syndrome = self.syndrome_sent
        return (rule.syndrome_bits[0] if syndrome is None else syndrome) + self.late_losses


def loss_limit(link: LinkCounts, deviations: float = LIMIT_DEVIATIONS) -> int:
    """L_max: the mean number of losses and ten standard deviations, rounded up; it costs log2 of it (section
    8, 3)."""
    probability = float(link.gamma) * link.loss_probability
    deviation = math.sqrt(link.num_rounds * probability * (1 - probability))
    return min(link.num_rounds, math.ceil(link.mean_losses + deviations * deviation))
