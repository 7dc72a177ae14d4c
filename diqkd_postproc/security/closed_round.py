"""Closed-form one-round bounds of the variable-length `renyi` proof (section 6).

Derived for this project (docs/one_round.md, section 2), not peer-reviewed.

With w = 2^(-(alpha-1) kappa), h = 2^((alpha-1) eta), and q and F of docs/proofs.md,

    one key basis    G(l,u) = (1-gamma) q(l) + gamma h [ w (q(l)+q(u))/2 + (1-w) (2+sqrt F(l,u))/4 ]
    two key bases    G2(t)  = (1-gamma) q(t) + gamma h [ w q(t)          + (1-w) (2+sqrt F2(t))/4 ]

bound the value of every strategy. F2(t) is the largest S^2/4 of squared correlations t in both bases: the
maximum over C of the concave psi(C), bounded above by its tangent at any C. The exact value of `exact_round`
is smaller or equal, but for its tolerance; these bounds are a cross-check and the shorter certificate.

The branch and bound is that of `renyi_round`: G takes the place of its "full" bound, G2 of its "simple" one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.security.renyi_round import (
    ROUNDING_ALLOWANCE,
    Array,
    Certificate,
    RoundProblem,
    approximate_maximum,
    certify,
)

NUM_BISECTIONS = 46
"""Steps on the sign of psi'; the tangent bound makes any number safe."""


@dataclass(frozen=True, slots=True)
class ClosedRound(RoundProblem):
    """G and G2 for alpha - 1, kappa, gamma and eta >= 0; values minus 1, as in the base class."""

    test_credit: float = 0.0
    num_key_bases: int = 1

    def __post_init__(self) -> None:
        RoundProblem.__post_init__(self)
        if not 0.0 <= self.test_credit < math.inf:
            raise ParameterError(f"test_credit={self.test_credit} is negative or infinite")
        if self.num_key_bases not in (1, 2):
            raise ParameterError(f"num_key_bases={self.num_key_bases} is neither 1 nor 2")

    @property
    def search_name(self) -> str:
        """The branch and bound of `renyi_round` with this number of variables."""
        return "full" if self.num_key_bases == 1 else "simple"

    def simple_value(self, t: Array) -> Array:
        """G2(t) - 1, elementwise."""
        return self.simple_cell_bound(t, t)

    def simple_cell_bound(self, t1: Array, t2: Array) -> Array:
        """Upper bound of G2 - 1 over cells [t1, t2]: q decreases, F2 increases."""
        entropic = self._q((1.0 - t1) / (2.0 * (1.0 + np.sqrt(t1))))
        return self._combine(entropic, entropic, chsh_form_of_both(t2))

    def _combine(self, q_low: Array, q_high: Array, chsh_form: Array) -> Array:
        unit = self.order_minus_one * math.log(2)
        lost, won = math.exp(-unit * self.loss_weight), -math.expm1(-unit * self.loss_weight)
        credit = math.expm1(unit * self.test_credit)
        test = lost * (0.5 * (q_low + q_high)) + won * (0.25 * (np.sqrt(chsh_form) - 2.0))
        total: Array = (1.0 - self.gamma) * q_low + self.gamma * (credit * (1.0 + test) + test)
        return total


def chsh_form_of_both(t: Array) -> Array:
    """Upper bound of F2(t), within rounding of it: bisection on psi', then the tangent at the point found."""
    low, high = 1.0 - t, np.ones_like(t)
    least = 1.0 - t
    for _ in range(NUM_BISECTIONS):
        middle = 0.5 * (low + high)
        rises = _slope_of_psi(middle, least) > 0
        low, high = np.where(rises, middle, low), np.where(rises, high, middle)
    point = 0.5 * (low + high)
    slope = _slope_of_psi(point, least)
    root = np.sqrt(np.maximum((1.0 - point) * (1.0 + point - 2.0 * least), 0.0))
    value = 1.0 + least - 2.0 * least / (1.0 + point) + root
    value += np.maximum(slope * (1.0 - point), slope * (least - point))
    # psi' is infinite at C = 1, where b = 1 leaves no other point and F2 = 1; never below the trivial 1 + t.
    return np.where(np.isfinite(value), np.minimum(value, 1.0 + t), 1.0 + t)


def _slope_of_psi(point: Array, least: Array) -> Array:
    """psi'(C) = 2b/(1+C)^2 + (b-C)/sqrt((1-C)(1+C-2b)), b = 1 - t."""
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt((1.0 - point) * (1.0 + point - 2.0 * least))
        slope: Array = 2.0 * least / (1.0 + point) ** 2 + (least - point) / root
    return slope


def approximate_closed(problem: ClosedRound) -> float:
    """Largest G - 1 or G2 - 1 that a refined grid finds: fast, a lower bound only."""
    return approximate_maximum(problem, problem.search_name)[0]


def certify_closed(problem: ClosedRound, tolerance: float, leaves: list[Array] | None = None) -> Certificate:
    """Certified maximum of G - 1 or G2 - 1, as `renyi_round.certify` has it; same leaves."""
    found = certify(problem, problem.search_name, tolerance, leaves)
    # 2e-13 max(1, gamma h).
    scale = max(1.0, problem.gamma * 2.0 ** (problem.order_minus_one * problem.test_credit))
    extra = ROUNDING_ALLOWANCE * (scale - 1.0)
    return Certificate(found.upper + extra, found.lower, found.num_cells, "closed")
