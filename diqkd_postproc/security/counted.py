"""Length of the key when the number of test rounds is limited: the `counted` proof.

Proposition 2 of the paper first bounds the entropy of all outcomes A together with Bob's test outcomes B',
and then subtracts the largest entropy that B' can have, by entropy accumulation once more. The second
accumulation is not needed: T is public, and given T, B' is a string of N_test bits. If the protocol also
aborts when N_test > N*, then

    H_min^e(A | E T) >= H_min^e(A B' | E T) - N*,

because rho_{A B' E T} <= 2^-h 1_{A B'} sigma_{E T}, restricted for each T to the 2^{N_test} strings B' that
can occur and traced over B', gives rho_{A E T} <= 2^{N* - h} 1_A sigma_{E T}. No smoothing is spent on B',
and the chain rule's three smoothing terms disappear:

    l = Upsilon[ n g_t(omega_thr) + n inf_w { eta(w) - g_t(w) - a V(w) } - n a^2 K - N*
        - (theta_{e_s} + (1+a) log(1/e_EA))/a - 5 log(1/e_PA) - m - 264 ]

with the errors of Proposition 2. The event that is conditioned on gains a condition on T, which the
accumulation theorem allows: it is a property of the scores. An honest run aborts for this reason with
probability `TEST_LIMIT_ERROR`.
"""

from __future__ import annotations

import math
from fractions import Fraction

from scipy.stats import binom

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.proof_status import PROOF_STATUS
from diqkd_postproc.security import paper
from diqkd_postproc.security.key_length import KeyLength
from diqkd_postproc.security.min_tradeoff import OMEGA_MAX, MinTradeoffFunction

PROOF_NAME = "counted"

TEST_LIMIT_ERROR = 1e-3
"""Probability that an honest run has more test rounds than `test_limit`."""


def test_limit(num_rounds: int, gamma: Fraction, error: float = TEST_LIMIT_ERROR) -> int:
    """N*: the smallest limit that Bin(n, gamma) test rounds exceed with probability at most `error`."""
    paper.check_rounds(num_rounds)
    paper.check_gamma(gamma)
    if not 0.0 < error < 1.0:
        raise ParameterError(f"error={error} is outside (0, 1)")
    return int(binom.isf(error, num_rounds, float(gamma)))


def key_length(
    num_rounds: int,
    gamma: Fraction,
    omega_threshold: float,
    syndrome_bits: int,
    soundness_error: float,
    max_tests: int,
    extractor_error: float | None = None,
    accuracy: float = paper.SEARCH_ACCURACY,
) -> KeyLength:
    """Longest key that the theorem proves, over t, alpha' and the errors.

    max_tests: N*, the most test rounds that are accepted. extractor_error: e_PA, None for the optimum. Others
    as in `paper.key_length`. Raises ParameterError for values outside their domain.
    """
    gamma = Fraction(gamma)
    paper.check_problem(num_rounds, gamma, omega_threshold, syndrome_bits, soundness_error)
    if not 0 <= max_tests <= num_rounds:
        raise ParameterError(f"max_tests={max_tests} is outside [0, {num_rounds}], the number of rounds")
    budget = paper.error_budget(soundness_error, extractor_error)

    def terms(point: tuple[float, float]) -> dict[str, float]:
        return _terms(num_rounds, gamma, omega_threshold, syndrome_bits, max_tests, _choose(point))

    def _choose(point: tuple[float, float]) -> dict[str, float]:
        renyi = paper.unit_interval(point[1])
        share = budget * 5 / (5 + 2 / renyi) if extractor_error is None else extractor_error
        return {
            "tangent_point": 0.75 + (OMEGA_MAX - 0.75) * paper.unit_interval(point[0]),
            "renyi_min": renyi,
            "extractor_error": share,
            "smoothing": (budget - share) / 2,
            "accumulation_error": budget,
        }

    def cost(point: tuple[float, float]) -> float:
        total = sum(terms(point).values())
        return -total if math.isfinite(total) else 1e300

    start = paper.starting_point(num_rounds, gamma, omega_threshold, budget)
    best = paper.search(cost, start, accuracy)
    return paper.round_down(
        num_rounds, terms(best), _choose(best), proof=PROOF_NAME, status=PROOF_STATUS[PROOF_NAME]
    )


def _terms(
    num_rounds: int,
    gamma: Fraction,
    omega_threshold: float,
    syndrome_bits: int,
    max_tests: int,
    choice: dict[str, float],
) -> dict[str, float]:
    """Signed summands inside Upsilon."""
    function = MinTradeoffFunction(choice["tangent_point"], float(gamma))
    a = choice["renyi_min"]
    conditioning = -math.log2(choice["accumulation_error"])
    rate = paper.entropy_rate_bound(function, omega_threshold, a) - a * a * paper.third_order(function, a)
    return {
        "entropy": num_rounds * rate,
        "test_outcomes": -float(max_tests),
        "smoothing_min": -(paper.smoothing_cost(choice["smoothing"]) + (1 + a) * conditioning) / a,
        "extractor_error": 5 * math.log2(choice["extractor_error"]),
        "syndrome": -float(syndrome_bits),
        "messages": -float(paper.MESSAGE_BITS),
        "extractor_constant": -float(paper.EXTRACTOR_BITS),
    }
