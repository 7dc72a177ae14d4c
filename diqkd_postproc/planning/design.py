"""Design rules for an honest link: threshold, syndrome length, asymptotic rate, fewest rounds (SI S6 E, S7).

These are choices, so that an honest run succeeds; security rests on the key-length theorem alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from scipy.stats import binom

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import ProofName
from diqkd_postproc.protocol.roles import lost_test_probability, winning_probability
from diqkd_postproc.security.min_tradeoff import (
    MAX_CHSH_SCORE,
    binary_entropy,
    entropy_bound,
)
from diqkd_postproc.security.paper import check_gamma
from diqkd_postproc.security.proofs import losses_accepted

THRESHOLD_DEVIATIONS = 3.0
"""k of eq. 24: standard deviations between the expected number of losses and the largest accepted one."""

SYNDROME_ALLOWANCE = 50.0
"""Syndrome bits above the Shannon limit, in units of sqrt(n) (eq. 23)."""

LOWEST_THRESHOLD = 0.5 + 2.0**-20
"""Threshold of records so short that eq. 25 would accept a coin toss; no key comes out of those."""

MAX_NUM_ROUNDS = 100_000_000
MAX_TEST_BITS = 16


def omega_threshold(
    num_rounds: int, gamma: Fraction, chsh_score: float, deviations: float = THRESHOLD_DEVIATIONS
) -> float:
    """Winning probability to accept, eqs. 24 and 25, for a link expected to reach `chsh_score`."""
    losses = float(gamma) * (1.0 - winning_probability(chsh_score))
    accepted = losses + deviations * math.sqrt(losses * (1.0 - losses) / num_rounds)
    return max(1.0 - accepted / float(gamma), LOWEST_THRESHOLD)


def exact_threshold(num_rounds: int, gamma: Fraction, chsh_score: float, completeness_error: float) -> float:
    """Winning probability to accept so that the honest link fails with at most `completeness_error`.

    By the exact binomial tail: L is the smallest number that Bin(n, gamma (4 - S)/8) losses exceed with at
    most that probability, and the threshold the largest double with floor(n gamma (1 - omega_thr)) = L.
    """
    if not 0.0 < completeness_error < 1.0:
        raise ParameterError(
            f"completeness_error={completeness_error} is outside (0, 1); 1e-3 fails one honest run in 1000"
        )
    losses = int(
        binom.isf(completeness_error, num_rounds, float(gamma) * (1 - winning_probability(chsh_score)))
    )
    threshold = float(1 - losses / (num_rounds * gamma))
    if threshold <= LOWEST_THRESHOLD:
        return LOWEST_THRESHOLD
    while losses_accepted(num_rounds, gamma, threshold) < losses:
        threshold = math.nextafter(threshold, 0.0)
    return threshold


def design_threshold(
    num_rounds: int, gamma: Fraction, chsh_score: float, completeness_error: float | None
) -> float:
    """Winning probability to accept: `exact_threshold`, or `omega_threshold` where the error is None.

    The former fails an honest run with at most the chosen probability, the latter with about 1.4e-3.
    """
    if completeness_error is None:
        return omega_threshold(num_rounds, gamma, chsh_score)
    return exact_threshold(num_rounds, gamma, chsh_score, completeness_error)


def shannon_limit(gamma: Fraction, chsh_score: float, qber: float, second_qber: float | None = None) -> float:
    """Smallest syndrome, bits a round: (1 - gamma) h(Q) + gamma h((4 - S) / 8), eq. 17.

    Key and test rounds have different error rates, and all have to be corrected. second_qber: Q of the second
    key basis of protocol `late-type`, which takes half of the key rounds; None without one.
    """
    tested = float(gamma)
    key = binary_entropy(qber)
    if second_qber is not None:
        key = (key + binary_entropy(second_qber)) / 2
    return (1 - tested) * key + tested * binary_entropy(lost_test_probability(chsh_score))


def syndrome_length(
    num_rounds: int, gamma: Fraction, chsh_score: float, qber: float, second_qber: float | None = None
) -> int:
    """Length of the syndrome: floor(n H + 50 sqrt(n)), eq. 23.

    Below some 12 000 rounds eq. 23 exceeds the number of outcomes; there the middle between the
    Shannon limit and the number of outcomes takes its place.
    """
    limit = num_rounds * shannon_limit(gamma, chsh_score, qber, second_qber)
    published = limit + SYNDROME_ALLOWANCE * math.sqrt(num_rounds)
    return max(1, min(math.floor(published), math.floor((limit + num_rounds) / 2), num_rounds - 1))


def asymptotic_rate(
    gamma: Fraction, chsh_score: float, qber: float, *, proof: ProofName = "paper", bound: str | None = None
) -> float:
    """Bound of the key bits a round for infinitely many rounds. Unless positive, no n gives a key.

    `paper`, `counted`: eta(w) - gamma - H, which is reached. `renyi` need not pay gamma for Bob's test
    outcomes: eta(w) - H in its simple form, at most (1 - gamma/2) eta(w) + gamma/2 - H in the full one.
    """
    entropy = entropy_bound(min(winning_probability(chsh_score), winning_probability(MAX_CHSH_SCORE)))
    tested = float(gamma)
    if proof == "renyi":
        entropy = (1 - tested / 2) * entropy + tested / 2 if bound == "full" else entropy
    else:
        entropy -= tested
    return entropy - shannon_limit(gamma, chsh_score, qber)


def smallest_sufficient(
    estimate: Callable[[int], float],
    suffices: Callable[[int], bool],
    wanted: int,
    lowest: int = 1000,
    highest: int = MAX_NUM_ROUNDS,
) -> int | None:
    """Smallest number of rounds that suffices, rounded up to four digits; found by false position.

    estimate: bits that a number of rounds gives, increasing from about where it is positive.
    """
    excess_high = estimate(highest) - wanted
    if excess_high < 0:
        return None
    low, high = lowest, highest
    # Halving on a logarithmic scale down to a factor of 1.5; in between the length is nearly a line.
    while high > 1.5 * low:
        middle = math.isqrt(low * high)
        excess = estimate(middle) - wanted
        if excess >= 0:
            high, excess_high = middle, excess
        else:
            low = middle
    excess_low = estimate(low) - wanted
    for _ in range(30):
        if high <= low * 1.0005 or excess_low >= 0:
            break
        guess = low + (high - low) * -excess_low / (excess_high - excess_low)
        # One point on either side of the guess, so that the bracket closes from both ends.
        for middle in (int(guess * 0.9998), int(guess * 1.0002) + 1):
            if low < middle < high:
                excess = estimate(middle) - wanted
                if excess >= 0:
                    high, excess_high = middle, excess
                    break
                low, excess_low = middle, excess
    candidate = high if excess_low < 0 else low
    unit = 10 ** max(0, len(str(candidate)) - 4)
    candidate = -(-candidate // unit) * unit
    while not suffices(min(candidate, highest)):
        if candidate >= highest:
            return None
        candidate += unit
    return int(min(candidate, highest))


def exact_gamma(gamma: Fraction | float) -> Fraction:
    """Test probability as k/2^b with b <= 16, as random bits can produce it.

    Raises ParameterError for any other number, naming the nearest multiple of 1/256.
    """
    try:
        exact = Fraction(gamma)
    except (TypeError, ValueError, OverflowError):
        raise ParameterError(f"gamma={gamma!r} is not a number; give a fraction k/2^b, e.g. 13/256") from None
    check_gamma(exact)
    if exact.denominator & (exact.denominator - 1) or exact.denominator > 2**MAX_TEST_BITS:
        nearest = Fraction(max(1, round(exact * 256)), 256)
        raise ParameterError(
            f"gamma={gamma} is not k/2^b with b <= {MAX_TEST_BITS}, so random bits cannot produce it; "
            f"the nearest multiple of 1/256 is {nearest}"
        )
    return exact
