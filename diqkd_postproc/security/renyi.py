"""Length of the key by the project's own finite-size theorem: the `renyi` proof. Not peer-reviewed.

The theorem bounds the sandwiched Renyi entropy of order alpha of all outcomes by the n-th power of a
one-round quantity, without entropy accumulation and without smoothing terms. With a certified upper bound g
of that quantity (see `renyi_round`), L the largest accepted number of losses, m the syndrome length,

    D = -(n / (alpha-1)) log g - kappa L - m - 258,     e' = eps_snd - 5 eps_h,
    Toeplitz:  l             <= D + 2 - (alpha / (alpha-1)) log(1/e')
    Trevisan:  l + 4 log l   <= D - 6 - 5 log(1/e_PA) - log(2/e_s^2) / (alpha-1),   e_PA + 2 e_s <= e'.

alpha, kappa, e_PA and e_s are free, and any choice is safe: the optimiser works with an approximate maximum,
the result with a certified one. The final sum is rounded down after subtracting a margin for rounding errors.

With two key bases (protocol `late-type`: Alice's setting is uniform in key rounds too) g bounds G2 of
`closed_round`, whatever `bound` says. In either case g is at least f1 = gamma + (1 - gamma) w, the value of a
run in which the type of a round comes out before the round's end (it is below g unless gamma > 4/5).

Toeplitz hashing must use a family that collides with probability 2^-l *exactly*: a full l x n Toeplitz
matrix of n + l - 1 uniform seed bits, or [T | 1] of n - 1 bits. "At most 2^-l" is not enough for the theorem.

A key rests on `paper` unless both parties choose this proof in their parameters.
"""

from __future__ import annotations

import math
from fractions import Fraction

from scipy.optimize import minimize

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import BoundName as Bound
from diqkd_postproc.protocol.parameters import ExtractorName as Extractor
from diqkd_postproc.protocol.proof_status import PROOF_STATUS
from diqkd_postproc.security.closed_round import ClosedRound, approximate_closed, certify_closed
from diqkd_postproc.security.key_length import KeyLength
from diqkd_postproc.security.paper import (
    EXTRACTOR_BITS,
    HASH_ERROR,
    MESSAGE_BITS,
    check_gamma,
    check_rounds,
    check_soundness,
    error_budget,
    invert_extractor_loss,
)
from diqkd_postproc.security.renyi_round import (
    ROUNDING_ALLOWANCE,
    Certificate,
    RoundProblem,
    approximate_maximum,
    certify,
)

PROOF_NAME = "renyi"

NUM_HASH_ERRORS = 5
"""Hash errors in the soundness error: four in secrecy, one in correctness."""

TOLERANCE_BITS = 0.5
"""How far the certified length may stay below that of the exact maximum (more only as `certify` says)."""


def key_length(
    num_rounds: int,
    gamma: Fraction,
    max_losses: int,
    syndrome_bits: int,
    soundness_error: float,
    bound: Bound = "simple",
    extractor: Extractor = "trevisan",
    extractor_error: float | None = None,
    num_key_bases: int = 1,
) -> KeyLength:
    """Longest key that the theorem proves, over alpha and kappa.

    num_rounds: n. gamma: test probability, exact. max_losses: L, the largest accepted number of lost test
    rounds, fixed in advance. syndrome_bits: m. soundness_error: eps_snd. bound: `full` is longer and takes
    seconds. extractor_error: e_PA, None for the optimum. num_key_bases: settings of Alice's in key rounds, 1
    or 2. Raises ParameterError for values outside their domain.
    """
    problem = (num_rounds, Fraction(gamma), max_losses, syndrome_bits, soundness_error)
    _check_problem(*problem, bound, extractor)
    point = _starting_point(num_rounds, Fraction(gamma))
    for size in (0.3, 0.01):
        point, _ = _optimum(problem, bound, extractor, extractor_error, num_key_bases, point, size, 1e-3)
    return evaluate(
        *problem,
        *_free_parameters(point),
        bound=bound,
        extractor=extractor,
        extractor_error=extractor_error,
        num_key_bases=num_key_bases,
    )


def estimated_length(
    num_rounds: int,
    gamma: Fraction,
    max_losses: int,
    syndrome_bits: int,
    soundness_error: float,
    bound: Bound = "simple",
    extractor: Extractor = "trevisan",
    num_key_bases: int = 1,
) -> float:
    """What `key_length` will come to, in bits and within a few; fast, and no proof of anything."""
    problem = (num_rounds, Fraction(gamma), max_losses, syndrome_bits, soundness_error)
    _check_problem(*problem, bound, extractor)
    start = _starting_point(num_rounds, Fraction(gamma))
    _, entropy = _optimum(problem, bound, extractor, None, num_key_bases, start, 0.2, 0.5)
    return entropy if extractor == "toeplitz" else invert_extractor_loss(entropy)


_Problem = tuple[int, Fraction, int, int, float]


def _starting_point(num_rounds: int, gamma: Fraction) -> tuple[float, float]:
    """Logarithms of alpha - 1 and kappa."""
    return math.log(min(0.6 / math.sqrt(num_rounds), 0.9)), math.log(9.6 / float(gamma))


def _free_parameters(point: tuple[float, float]) -> tuple[float, float]:
    """alpha - 1, rounded so that alpha = 1 + (alpha - 1) holds exactly in doubles, and kappa."""
    order_minus_one = (1.0 + math.exp(min(max(point[0], -25.0), 0.0))) - 1.0
    return order_minus_one, math.exp(min(max(point[1], -20.0), 20.0))


def _optimum(
    problem: _Problem,
    bound: Bound,
    extractor: Extractor,
    extractor_error: float | None,
    num_key_bases: int,
    start: tuple[float, float],
    size: float,
    accuracy: float,
) -> tuple[tuple[float, float], float]:
    """The point that maximises the entropy with the approximate maximum, and that entropy, in bits."""
    num_rounds, gamma, max_losses, syndrome_bits, soundness_error = problem
    limits = (max_losses, syndrome_bits, soundness_error)

    def cost(point: tuple[float, float]) -> float:
        one_round = _round_problem(*_free_parameters(point), gamma, num_key_bases)
        excess = max(_approximate_excess(one_round, bound), _early_type_excess(one_round))
        terms, _ = _terms(num_rounds, *limits, one_round, excess, extractor, extractor_error)
        return -math.fsum(terms.values())

    simplex = [start, (start[0] + size, start[1]), (start[0], start[1] + size)]
    found = minimize(
        cost,
        start,
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 1e-2 * accuracy, "fatol": accuracy, "maxiter": 150},
    )
    return (float(found.x[0]), float(found.x[1])), -float(found.fun)


def evaluate(
    num_rounds: int,
    gamma: Fraction,
    max_losses: int,
    syndrome_bits: int,
    soundness_error: float,
    order_minus_one: float,
    loss_weight: float,
    bound: Bound = "simple",
    extractor: Extractor = "trevisan",
    tolerance_bits: float = TOLERANCE_BITS,
    extractor_error: float | None = None,
    num_key_bases: int = 1,
) -> KeyLength:
    """The theorem at given alpha - 1 and kappa, with a certified maximum, rounded down safely."""
    gamma = Fraction(gamma)
    _check_problem(num_rounds, gamma, max_losses, syndrome_bits, soundness_error, bound, extractor)
    order_minus_one = (1.0 + order_minus_one) - 1.0
    problem = _round_problem(order_minus_one, loss_weight, gamma, num_key_bases)
    certificate = _certify(problem, bound, tolerance_bits * order_minus_one * math.log(2) / num_rounds)
    excess = max(certificate.upper, _early_type_excess(problem))
    limits = (max_losses, syndrome_bits, soundness_error)
    terms, errors = _terms(num_rounds, *limits, problem, excess, extractor, extractor_error)
    entropy = math.fsum(terms.values())
    value = entropy
    if extractor == "trevisan":
        value = invert_extractor_loss(entropy)
        terms["extractor_length"] = value - entropy
    margin = 1e-6 + 1e-13 * sum(abs(term) for term in terms.values())
    bits = max(0, math.floor(value - margin))
    while extractor == "trevisan" and bits > 0 and bits + 4 * math.log2(bits) > entropy - margin:
        bits -= 1
    return KeyLength(
        bits=bits,
        value=value,
        proof=f"{PROOF_NAME} {'two-bases' if num_key_bases == 2 else bound} {extractor}",
        status=PROOF_STATUS[PROOF_NAME],
        terms=terms,
        analysis={
            "order_minus_one": order_minus_one,
            "loss_weight": loss_weight,
            "certified_maximum_minus_one": excess,
            "attained_maximum_minus_one": certificate.lower,
            "certificate_cells": float(certificate.num_cells),
            **errors,
        },
        hash_error=HASH_ERROR,
        extractor_error=errors["extractor_error"],
        margin=margin,
        certificate=f"double precision; largest G - 1 of a round <= {excess:.17g}, by branch and "
        f"bound of {certificate.num_cells} cells with {ROUNDING_ALLOWANCE:.2g} for rounding errors, and "
        f"{margin:.2g} bits subtracted for those of the sum",
    )


def _round_problem(
    order_minus_one: float, loss_weight: float, gamma: Fraction, num_key_bases: int
) -> RoundProblem:
    if num_key_bases == 2:
        return ClosedRound(order_minus_one, loss_weight, float(gamma), num_key_bases=2)
    return RoundProblem(order_minus_one, loss_weight, float(gamma))


def _approximate_excess(problem: RoundProblem, bound: Bound) -> float:
    if isinstance(problem, ClosedRound):
        return approximate_closed(problem)
    return approximate_maximum(problem, bound)[0]


def _certify(problem: RoundProblem, bound: Bound, tolerance: float) -> Certificate:
    if isinstance(problem, ClosedRound):
        return certify_closed(problem, tolerance)
    return certify(problem, bound, tolerance)


def _early_type_excess(problem: RoundProblem) -> float:
    """f1 - 1, f1 = gamma + (1 - gamma) w: what the rounds have to pay where a type comes out early."""
    return (1.0 - problem.gamma) * math.expm1(-problem.order_minus_one * math.log(2) * problem.loss_weight)


def _terms(
    num_rounds: int,
    max_losses: int,
    syndrome_bits: int,
    soundness_error: float,
    problem: RoundProblem,
    excess: float,
    extractor: Extractor,
    extractor_error: float | None,
) -> tuple[dict[str, float], dict[str, float]]:
    """Signed summands of the bound, and the errors of extractor and smoothing; excess: maximum of G - 1."""
    budget = error_budget(soundness_error, extractor_error, NUM_HASH_ERRORS)
    order_minus_one = problem.order_minus_one
    terms = {
        "entropy": -num_rounds / order_minus_one * math.log1p(excess) / math.log(2),
        "losses": -problem.loss_weight * max_losses,
        "syndrome": -float(syndrome_bits),
        "messages": -float(MESSAGE_BITS),
    }
    if extractor == "toeplitz":
        terms["hash_error"] = 2 + (1 + order_minus_one) / order_minus_one * math.log2(budget)
        return terms, {"extractor_error": budget, "smoothing": 0.0}
    # Both errors enter as -c log(e) under a linear budget: shares in proportion to 5 and 2/(alpha-1).
    if extractor_error is None:
        extractor_error = budget * 5 / (5 + 2 / order_minus_one)
    smoothing = (budget - extractor_error) / 2
    terms["extractor_constant"] = -float(EXTRACTOR_BITS)
    terms["extractor_error"] = 5 * math.log2(extractor_error)
    terms["smoothing"] = -(1 - 2 * math.log2(smoothing)) / order_minus_one
    return terms, {"extractor_error": extractor_error, "smoothing": smoothing}


def _check_problem(
    num_rounds: int,
    gamma: Fraction,
    max_losses: int,
    syndrome_bits: int,
    soundness_error: float,
    bound: str,
    extractor: str,
) -> None:
    check_rounds(num_rounds)
    check_gamma(gamma)
    check_soundness(soundness_error)
    if not 0 <= max_losses <= num_rounds:
        raise ParameterError(f"max_losses={max_losses} is outside [0, {num_rounds}], the number of rounds")
    if syndrome_bits < 0:
        raise ParameterError(f"syndrome_bits={syndrome_bits} is negative; give the length of the syndrome")
    if bound not in ("simple", "full"):
        raise ParameterError(f"bound={bound!r} is unknown; choose 'simple' or 'full'")
    if extractor not in ("toeplitz", "trevisan"):
        raise ParameterError(f"extractor={extractor!r} is unknown; choose 'toeplitz' or 'trevisan'")
