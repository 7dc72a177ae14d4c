"""Likelihood intervals of a failure rate, and the Shannon limit of finite blocks.

Intervals are those of sinter: all rates whose likelihood is at least 1/1000 of that of the best fit. Unlike a
confidence interval it makes no statement about repetitions, and it stays sensible at no failure at all.

The finite-length limit is the normal approximation of source coding with side information (Tan and Kosut,
IEEE Trans. Inf. Theory 60, 881 (2014); Hayashi, ibid. 54, 4619 (2008)): the shortest syndrome that any code
with an optimum decoder can have at failure rate e is n H + sqrt(n V) Q^-1(e) - log2(n) / 2 + O(1), with V the
variance of the information -log2 P(error | round type) of a round.
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, rel_entr

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.reconciliation.ensemble import conditional_entropy, information_variance

MAX_LIKELIHOOD_FACTOR = 1000.0


def likelihood_interval(
    events: int, trials: int, max_likelihood_factor: float = MAX_LIKELIHOOD_FACTOR
) -> tuple[float, float]:
    """Rates that explain `events` in `trials` at most `max_likelihood_factor` times worse than the best does.

    Raises ParameterError unless 0 <= events <= trials and the factor is above 1.
    """
    if not 0 <= events <= trials or max_likelihood_factor <= 1.0:
        raise ParameterError(
            f"{events} events in {trials} trials, factor {max_likelihood_factor}: no interval"
        )
    if trials == 0:
        return 0.0, 1.0
    best = events / trials
    allowed = math.log(max_likelihood_factor) / trials

    def excess(rate: float) -> float:
        divergence = rel_entr(best, rate) + rel_entr(1.0 - best, 1.0 - rate)
        return min(float(divergence), 2.0 * allowed + 1.0) - allowed

    low = 0.0 if events == 0 else float(brentq(excess, 0.0, best, xtol=1e-15))
    high = 1.0 if events == trials else float(brentq(excess, best, 1.0, xtol=1e-15))
    return low, high


def finite_length_limit(
    num_rounds: int, gamma: float, qber: float, test_error: float, failure_rate: float
) -> float:
    """Syndrome bits that the normal approximation allows at this failure rate."""
    deviation = math.sqrt(num_rounds * information_variance(gamma, qber, test_error))
    limit = num_rounds * conditional_entropy(gamma, qber, test_error)
    return float(limit - deviation * ndtri(failure_rate) - math.log2(num_rounds) / 2)


def finite_length_failure_rate(
    num_rounds: int, gamma: float, qber: float, test_error: float, syndrome_bits: float
) -> float:
    """Failure rate of the best code with so many syndrome bits, the inverse of `finite_length_limit`."""
    deviation = math.sqrt(num_rounds * information_variance(gamma, qber, test_error))
    limit = num_rounds * conditional_entropy(gamma, qber, test_error)
    return float(ndtr((limit - math.log2(num_rounds) / 2 - syndrome_bits) / deviation))
