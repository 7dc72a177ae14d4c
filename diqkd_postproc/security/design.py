"""From the expected link to the parameters of a run: threshold, syndrome length, key length (SI S6 E, S7).

All of it is a choice for an honest link; security rests on the key-length theorem alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from diqkd_postproc.errors import ParameterError
from diqkd_postproc.parameters import ProtocolParameters
from diqkd_postproc.security.key_length import KeyLength
from diqkd_postproc.security.min_tradeoff import (
    MAX_CHSH_SCORE,
    binary_entropy,
    entropy_bound,
    winning_probability,
)
from diqkd_postproc.security.paper import check_gamma, check_rounds, check_soundness, key_length

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


def shannon_limit(gamma: Fraction, chsh_score: float, qber: float) -> float:
    """Smallest syndrome, bits a round: (1 - gamma) h(Q) + gamma h((4 - S) / 8), eq. 17."""
    tested = float(gamma)
    return (1 - tested) * binary_entropy(qber) + tested * binary_entropy((4.0 - chsh_score) / 8.0)


def syndrome_length(num_rounds: int, gamma: Fraction, chsh_score: float, qber: float) -> int:
    """Length of the syndrome: floor(n H + 50 sqrt(n)), eq. 23.

    Below some 12 000 rounds eq. 23 asks for more than a syndrome may be; there the middle between the
    Shannon limit and the number of outcomes takes its place.
    """
    limit = num_rounds * shannon_limit(gamma, chsh_score, qber)
    published = limit + SYNDROME_ALLOWANCE * math.sqrt(num_rounds)
    return max(1, min(math.floor(published), math.floor((limit + num_rounds) / 2), num_rounds - 1))


def design_key_length(
    num_rounds: int,
    gamma: Fraction,
    chsh_score: float,
    qber: float,
    soundness_error: float = 1e-10,
    syndrome_bits: int | None = None,
) -> KeyLength:
    """Key length at the threshold and syndrome length of the design point; every term of it."""
    gamma = check_design(num_rounds, gamma, chsh_score, qber, soundness_error, syndrome_bits)
    if syndrome_bits is None:
        syndrome_bits = syndrome_length(num_rounds, gamma, chsh_score, qber)
    threshold = omega_threshold(num_rounds, gamma, chsh_score)
    return key_length(num_rounds, gamma, threshold, syndrome_bits, soundness_error)


def design_parameters(
    num_rounds: int,
    gamma: Fraction,
    chsh_score: float,
    qber: float,
    soundness_error: float = 1e-10,
    syndrome_bits: int | None = None,
) -> ProtocolParameters:
    """Parameters of a run for a link of CHSH score S and bit error rate Q.

    gamma: k/2^b, exact. syndrome_bits: m; None for eq. 23. `key_bits` is 0 where no key is possible: ask
    `minimum_rounds` what would make one possible. Raises ParameterError for values outside their domain.
    """
    gamma = check_design(num_rounds, gamma, chsh_score, qber, soundness_error, syndrome_bits)
    if syndrome_bits is None:
        syndrome_bits = syndrome_length(num_rounds, gamma, chsh_score, qber)
    threshold = omega_threshold(num_rounds, gamma, chsh_score)
    length = key_length(num_rounds, gamma, threshold, syndrome_bits, soundness_error)
    return ProtocolParameters(
        num_rounds=num_rounds,
        test_numerator=gamma.numerator,
        test_bits=gamma.denominator.bit_length() - 1,
        omega_threshold=threshold,
        syndrome_bits=syndrome_bits,
        key_bits=length.bits,
        soundness_error=soundness_error,
        one_bit_error=length.one_bit_error,
        design_chsh_score=chsh_score,
        design_qber=qber,
    )


def asymptotic_rate(gamma: Fraction, chsh_score: float, qber: float) -> float:
    """Key bits a round for infinitely many rounds: eta(w) - gamma - H. Unless positive, no n gives a key."""
    entropy = entropy_bound(min(winning_probability(chsh_score), winning_probability(MAX_CHSH_SCORE)))
    return entropy - float(gamma) - shannon_limit(gamma, chsh_score, qber)


def minimum_rounds(
    gamma: Fraction,
    chsh_score: float,
    qber: float,
    soundness_error: float = 1e-10,
    key_bits: int = 1,
) -> int | None:
    """Number of rounds that makes a key of at least `key_bits` possible; None if no number does.

    With threshold and syndrome length of the design point at every n. The answer is proven to suffice (the
    key length was evaluated there) and within 0.2 % of the smallest one; 1e8 rounds are the most it tries.
    """
    gamma = check_design(MAX_NUM_ROUNDS, gamma, chsh_score, qber, soundness_error, None)
    if key_bits < 1:
        raise ParameterError(f"key_bits={key_bits} is below 1; ask for at least one bit")
    if asymptotic_rate(gamma, chsh_score, qber) <= 0:
        return None

    def suffices(num_rounds: int) -> bool:
        design = design_key_length(num_rounds, gamma, chsh_score, qber, soundness_error)
        return design.bits >= key_bits

    return _smallest(suffices, lowest=1000, highest=MAX_NUM_ROUNDS)


def _smallest(suffices: Callable[[int], bool], lowest: int, highest: int) -> int | None:
    """Smallest number of four significant digits that suffices, by bisection on a logarithmic scale."""
    if not suffices(highest):
        return None
    low, high = lowest, highest
    while high > low * 1.0005:
        middle = math.isqrt(low * high)
        if suffices(middle):
            high = middle
        else:
            low = middle + 1
    unit = 10 ** max(0, len(str(high)) - 4)
    rounded = -(-high // unit) * unit
    return rounded if suffices(rounded) else high


def check_design(
    num_rounds: int,
    gamma: Fraction,
    chsh_score: float,
    qber: float,
    soundness_error: float,
    syndrome_bits: int | None,
) -> Fraction:
    """Gamma as an exact fraction. Raises ParameterError naming the first illegal value and the remedy."""
    check_rounds(num_rounds)
    if not 2 <= num_rounds <= MAX_NUM_ROUNDS:
        raise ParameterError(f"num_rounds={num_rounds} is outside [2, {MAX_NUM_ROUNDS}]; split longer runs")
    gamma = exact_gamma(gamma)
    if not 2.0 <= chsh_score <= MAX_CHSH_SCORE:
        raise ParameterError(
            f"chsh_score={chsh_score} is outside [2, 2 sqrt(2)]: below 2 nothing is certified, above "
            "2 sqrt(2) no quantum device goes; give the score that a characterisation run measured"
        )
    if not 0.0 <= qber <= 0.5:
        raise ParameterError(f"qber={qber} is outside [0, 0.5]; above 0.5, let Bob invert his key outcomes")
    check_soundness(soundness_error)
    if syndrome_bits is not None and not 1 <= syndrome_bits < num_rounds:
        raise ParameterError(
            f"syndrome_bits={syndrome_bits} is outside [1, {num_rounds - 1}]; leave it out to follow eq. 23"
        )
    return gamma


def exact_gamma(gamma: Fraction | float) -> Fraction:
    """Test probability as k/2^b with b <= 16, as random bits can produce it; ParameterError otherwise."""
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
