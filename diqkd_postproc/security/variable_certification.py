"""Certificates of variable and fixed key lengths of the `renyi` proof.

Derived for this project, not peer-reviewed.

Variable (Theorem 1), fixed (Theorem 2); g a certified bound of one round, e' = eps_snd - N_h eps_h:

    Toeplitz   C = -(n/(alpha-1)) log g - c + 2 - (alpha/(alpha-1)) log(1/e') - log|P|
    Trevisan   C = -(n/(alpha-1)) log g - (1/(alpha-1)) log(2/e_s^2) - c - 6 - 5 log(1/e_PA) - log(|P|/e_PA),
               2 e_PA + 2 e_s <= e'  (section 5; fixed: without log(|P|/e_PA), and e_PA + 2 e_s <= e')

and a fixed length subtracts Lambda, m_J and V_max as well. g is never below the value of a round that is
played in a forged order (docs/order.md, section 3). A certificate is a bound: no optimiser's answer
enters, double precision carries the margins of docs/one_round.md and `confirm_in_balls` repeats
everything in Arb (python-flint). Parameters that are to make a key are confirmed so.
"""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import numpy as np

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.length_rule import FreeParameters
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.security.closed_round import ClosedRound, certify_closed
from diqkd_postproc.security.exact_round import ExactRound
from diqkd_postproc.security.exact_round_balls import PRECISION_BITS, ExactRoundInBalls
from diqkd_postproc.security.exact_round_search import Leaves, certify_exact
from diqkd_postproc.security.paper import EXTRACTOR_BITS, ROUNDING_SHARE
from diqkd_postproc.security.renyi_round import Certificate, RoundProblem, certify
from diqkd_postproc.security.variable_length import NUM_KEY_BASES, KeyCertificate, KeyProblem, problem_of

TOLERANCE_BITS = 0.5
"""Distance of a closed bound's certificate from its maximum, in bits of key (docs/proofs.md, section 4)."""

VERIFIER_TOLERANCE = 1e-6
"""Tolerance of a verifier, in units of alpha - 1: half the author's, so that rounding cannot refuse what is
true."""

BALL_CELLS = 150_000
"""Cells of a closed bound that balls confirm one by one, in some ten seconds; beyond, coarser ones."""

Ball = Any
"""flint.arb; python-flint is optional."""


def certify_key(
    problem: KeyProblem,
    free: FreeParameters,
    key_cap: int | None = None,
    tolerance: float | None = None,
    shares: tuple[float, float] | None = None,
) -> KeyCertificate:
    """The theorem at given free parameters, certified in double precision with margins.

    key_cap: l_cap, None for the number of rounds. tolerance: of the one-round maximum, in units of alpha - 1;
    None for the default of the bound. shares: e_PA (e' for Toeplitz) and e_s, None for the best split. Raises
    ParameterError for a bound that does not allow the free parameters, and for shares that overspend the
    soundness error.
    """
    bound, _ = round_bound(problem, free, tolerance)
    excess_order = float(free.excess_order)
    excess = max(bound.upper, _exact_round(problem, free).disordered_excess() + 1e-15)
    extractor_error, smoothing = _best_shares(problem, free) if shares is None else shares
    _require_affordable(problem, extractor_error, smoothing)
    terms = _terms(problem, free, excess, extractor_error, smoothing)
    value = math.fsum(terms.values())
    margin = 1e-6 + 1e-13 * sum(abs(term) for term in terms.values())
    return KeyCertificate(
        problem=problem,
        free=free,
        constant_bits=math.floor(value - margin),
        key_cap=problem.num_rounds if key_cap is None else key_cap,
        round_excess=excess,
        extractor_error=extractor_error,
        smoothing=smoothing,
        value=value,
        terms=terms,
        evidence=f"double precision: g - 1 <= {excess:.17g} over {bound.num_cells} cells, within "
        f"{(bound.upper - bound.lower) / excess_order:.2g} (alpha - 1) of a value attained; {margin:.2g} "
        "bits for the rounding of the sum",
    )


def certificate_of(parameters: ProtocolParameters) -> KeyCertificate:
    """Certificate of the free parameters in a parameter file, in double precision.

    Its constant may be smaller than what the file claims: see `certification.require_certified`. Raises
    ParameterError for parameters without a length rule.
    """
    if parameters.free_parameters is None:
        raise ParameterError("these parameters have no free_parameters; their proof needs none")
    problem, shares = problem_of(parameters), None
    if problem.extractor == "trevisan" and parameters.key_bits:
        extractor_error = parameters.one_bit_error * parameters.key_bits
        shares = (extractor_error, _smoothing(problem, extractor_error))
    tolerance = VERIFIER_TOLERANCE if problem.bound == "exact" else None
    return certify_key(problem, parameters.free_parameters, parameters.key_bits, tolerance, shares)


def confirm_in_balls(certificate: KeyCertificate, tolerance: float | None = None) -> KeyCertificate:
    """The certificate in ball arithmetic; its constant is smaller where the bits cannot be confirmed.

    Raises ParameterError without python-flint, and where the error shares overspend the soundness error.
    """
    from diqkd_postproc.security.variable_balls import (
        closed_excess_in_balls,
        constant_in_balls,
        require_flint,
    )

    require_flint()
    problem, free = certificate.problem, certificate.free
    if problem.bound == "exact":
        leaves: list[Leaves] = []
        certify_exact(_exact_round(problem, free), _absolute(free, tolerance), leaves)
        excess = _exact_in_balls(problem, free).largest_excess(leaves)
        num_cells = sum(level.corners.shape[0] for level in leaves)
    else:
        _, cells = round_bound(problem, free, tolerance, max_cells=BALL_CELLS)
        excess = closed_excess_in_balls(problem, free, cells)
        num_cells = cells.shape[1]
    excess = excess.max(_exact_in_balls(problem, free).disordered_excess()).upper()
    largest = constant_in_balls(problem, free, excess, certificate.extractor_error, certificate.smoothing)
    return dataclasses.replace(
        certificate,
        constant_bits=min(certificate.constant_bits, largest),
        evidence=f"ball arithmetic (Arb, {PRECISION_BITS} bits): "
        f"g - 1 <= {excess.str(18)} over {num_cells} cells",
    )


def require_key_certificate(certificate: KeyCertificate, in_balls: bool = True) -> None:
    """Raise ParameterError unless the theorem certifies the constant that a certificate claims.

    For whoever reads a certificate that others wrote: its integers and error shares are taken, its bound is
    not.
    """
    shares = (certificate.extractor_error, certificate.smoothing)
    tolerance = VERIFIER_TOLERANCE if certificate.problem.bound == "exact" else None
    again = certify_key(certificate.problem, certificate.free, certificate.key_cap, tolerance, shares)
    if in_balls:
        again = confirm_in_balls(again, tolerance)
    if certificate.constant_bits > again.constant_bits:
        raise ParameterError(
            f"constant_bits={certificate.constant_bits} exceeds the {again.constant_bits} that the theorem "
            "certifies at these free parameters; write the certificate anew"
        )


def round_bound(
    problem: KeyProblem, free: FreeParameters, tolerance: float | None = None, max_cells: int | None = None
) -> tuple[Certificate, np.ndarray[Any, np.dtype[np.float64]]]:
    """Certified one-round bound in doubles, and for the closed forms the cells that prove it, (2, k) or (4,
    k).

    tolerance: in units of alpha - 1. max_cells: coarsen until there are at most so many.
    """
    absolute = _absolute(free, tolerance)
    if problem.bound == "exact":
        return certify_exact(_exact_round(problem, free), absolute), np.empty((0, 0))
    if absolute is None:
        absolute = TOLERANCE_BITS * float(free.excess_order) * math.log(2) / problem.num_rounds
    while True:
        leaves: list[np.ndarray[Any, np.dtype[np.float64]]] = []
        if problem.bound == "closed":
            found = certify_closed(closed_round(problem, free), absolute, leaves)
        else:
            if free.test_credit:
                raise ParameterError(
                    f"bound={problem.bound!r} is proven for test_credit=0 only; take 'exact'"
                )
            one_round = RoundProblem(float(free.excess_order), float(free.kappa), float(problem.gamma))
            found = certify(one_round, problem.bound, absolute, leaves)
        cells = np.concatenate(leaves, axis=1)
        if max_cells is None or cells.shape[1] <= max_cells:
            return found, cells
        absolute *= 4.0


def closed_round(problem: KeyProblem, free: FreeParameters) -> ClosedRound:
    """The closed-form bounds at these parameters."""
    numbers = (float(free.excess_order), float(free.kappa), float(problem.gamma), float(free.eta))
    return ClosedRound(*numbers, NUM_KEY_BASES[problem.order])


def _absolute(free: FreeParameters, tolerance: float | None) -> float | None:
    return None if tolerance is None else tolerance * float(free.excess_order)


def _exact_round(problem: KeyProblem, free: FreeParameters) -> ExactRound:
    numbers = (float(free.excess_order), float(free.kappa), float(free.eta), float(problem.gamma))
    return ExactRound(*numbers, NUM_KEY_BASES[problem.order])


def _exact_in_balls(problem: KeyProblem, free: FreeParameters) -> ExactRoundInBalls:
    bases = NUM_KEY_BASES[problem.order]
    return ExactRoundInBalls(free.excess_order, free.kappa, free.eta, problem.gamma, bases)


def _best_shares(problem: KeyProblem, free: FreeParameters) -> tuple[float, float]:
    """e_PA and e_s: both enter as -c log(e) under a linear budget, the optimum shares it in proportion to the
    c's."""
    budget = float(problem.secrecy_error()) * ROUNDING_SHARE
    if problem.extractor == "toeplitz":
        return budget, 0.0
    by_smoothing = 2 / float(free.excess_order)
    by_extractor, times = (6, 2) if problem.length == "variable" else (5, 1)
    extractor_error = budget / times * by_extractor / (by_extractor + by_smoothing)
    return extractor_error, _smoothing(problem, extractor_error)


def _smoothing(problem: KeyProblem, extractor_error: float) -> float:
    """e_s that is left of the soundness error beside e_PA."""
    times = 2 if problem.length == "variable" else 1
    budget = float(problem.secrecy_error()) * ROUNDING_SHARE
    return (budget - times * extractor_error) / 2 * ROUNDING_SHARE


def _require_affordable(problem: KeyProblem, extractor_error: float, smoothing: float) -> None:
    times = 2 if problem.length == "variable" and problem.extractor == "trevisan" else 1
    if extractor_error <= 0 or smoothing < 0 or (smoothing == 0 and problem.extractor == "trevisan"):
        raise ParameterError(
            f"error shares {extractor_error:.3g}, {smoothing:.3g} are not positive; leave them out"
        )
    if times * Fraction(extractor_error) + 2 * Fraction(smoothing) > problem.secrecy_error():
        raise ParameterError(
            f"error shares {extractor_error:.3g}, {smoothing:.3g} spend more than the soundness error "
            f"leaves, {float(problem.secrecy_error()):.3g}; leave them out"
        )


def _terms(
    problem: KeyProblem, free: FreeParameters, excess: float, extractor_error: float, smoothing: float
) -> dict[str, float]:
    """Signed summands of C in bits, section 2 and section 5."""
    d = float(free.excess_order)
    variable = problem.length == "variable"
    terms = {
        "entropy": -problem.num_rounds / d * math.log1p(excess) / math.log(2),
        "messages": -float(problem.message_bits),
        "events": -math.log2(problem.num_events),
    }
    if not variable:
        terms["loss_budget"] = -float(Fraction(free.loss_budget, 1024))
        terms["syndrome"] = -float(problem.syndrome_bits[-1])
        terms["late_losses"] = -float(problem.max_late_losses)
    if problem.extractor == "toeplitz":
        terms["hash_error"] = 2 + (1 + d) / d * math.log2(extractor_error)
        return terms
    terms["extractor_constant"] = -float(EXTRACTOR_BITS)
    terms["extractor_error"] = (6 if variable else 5) * math.log2(extractor_error)
    terms["smoothing"] = -(1 - 2 * math.log2(smoothing)) / d
    return terms
