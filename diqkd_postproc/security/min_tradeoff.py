"""The entropy that a CHSH score guarantees, and its affine lower bounds: min-tradeoff functions (SI S10).

Everything here is a closed form in double precision. The absolute error of `entropy_bound` is below 1e-13 on
its whole domain (its argument is written so that nothing cancels); `paper` accounts for it in its margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from diqkd_postproc.protocol.errors import ParameterError

OMEGA_MIN = (1 - 1 / math.sqrt(2)) / 2
"""Smallest winning probability of the CHSH game in quantum theory, below eq. 62."""

OMEGA_MAX = (1 + 1 / math.sqrt(2)) / 2
"""Largest winning probability of the CHSH game in quantum theory, below eq. 62."""

MAX_CHSH_SCORE = 2 * math.sqrt(2)
"""Tsirelson's bound."""


def binary_entropy(probability: float) -> float:
    """Binary entropy h(p) = -p log p - (1 - p) log(1 - p) in bits, 0 at 0 and 1.

    Raises ParameterError outside [0, 1].
    """
    if not 0.0 <= probability <= 1.0:
        raise ParameterError(f"probability={probability} is outside [0, 1]")
    if probability in (0.0, 1.0):
        return 0.0
    return -(probability * math.log2(probability) + (1 - probability) * math.log2(1 - probability))


def _bias(omega: float) -> float:
    """s = sqrt(16 w (w - 1) + 3), written as a product of differences so that it is exact near w = 3/4."""
    return math.sqrt(min(max(16.0 * (omega - 0.75) * (omega - 0.25), 0.0), 1.0))


def entropy_bound(omega: float) -> float:
    """eta(w), eq. 62: bits of entropy of one outcome given Eve, at winning probability w.

    Equal to 1 - h((1 + s) / 2), evaluated as ((1 + s) log(1 + s) + (1 - s) log(1 - s)) / 2. Convex; 0 on
    [1/4, 3/4], 1 at both ends of [OMEGA_MIN, OMEGA_MAX]. Raises ParameterError outside that interval.
    """
    if not OMEGA_MIN <= omega <= OMEGA_MAX:
        raise ParameterError(
            f"winning probability {omega} is outside [{OMEGA_MIN:.7f}, {OMEGA_MAX:.7f}], "
            "which no quantum device can leave"
        )
    s = _bias(omega)
    if s == 1.0:
        return 1.0
    return ((1 + s) * math.log1p(s) + (1 - s) * math.log1p(-s)) / (2 * math.log(2))


def entropy_bound_slope(omega: float) -> float:
    """Derivative eta'(w) = 8 (2w - 1) artanh(s) / (s ln 2); 0 on [1/4, 3/4], infinite at both ends.

    For w > 3/4 both 2w - 1 and artanh(s)/s grow with w, so eta' does: eta is convex.
    """
    s = _bias(omega)
    if s == 0.0:
        return 0.0
    if s == 1.0:
        return math.copysign(math.inf, omega - 0.5)
    return 8.0 * (2 * omega - 1) * math.atanh(s) / (s * math.log(2))


@dataclass(frozen=True, slots=True)
class MinTradeoffFunction:
    """Tangent g_t of the entropy bound at t (eq. 61), and its extension f_t to the scores of a round.

    tangent_point: t in (3/4, OMEGA_MAX). gamma: test probability.
    """

    tangent_point: float
    gamma: float

    def __post_init__(self) -> None:
        if not 0.75 < self.tangent_point < OMEGA_MAX:
            raise ParameterError(f"tangent_point={self.tangent_point} is outside (3/4, {OMEGA_MAX:.7f})")
        if not 0.0 < self.gamma < 1.0:
            raise ParameterError(f"gamma={self.gamma} is outside (0, 1)")

    @property
    def slope(self) -> float:
        """eta'(t)."""
        return entropy_bound_slope(self.tangent_point)

    def tangent(self, omega: float) -> float:
        """g_t(w), eq. 61."""
        return entropy_bound(self.tangent_point) + (omega - self.tangent_point) * self.slope

    @property
    def lost_value(self) -> float:
        """f_t of a lost test round, eq. 64."""
        return self.tangent(0.0) / self.gamma + (1 - 1 / self.gamma) * self.tangent(1.0)

    @property
    def other_value(self) -> float:
        """f_t of a won test round and of a round without test, eq. 64."""
        return self.tangent(1.0)

    @property
    def span(self) -> float:
        """g_t(1) - g_t(OMEGA_MIN), the range that enters K (eq. 70)."""
        return self.slope * (1.0 - OMEGA_MIN)

    def variance(self, omega: float) -> float:
        """Variance of f_t in a round won with probability w when tested, eq. 65.

        f_t takes two values that differ by eta'(t)/gamma, the lower one with probability gamma (1 - w).
        """
        lost = self.gamma * (1.0 - omega)
        return lost * (1.0 - lost) * (self.slope / self.gamma) ** 2

    def variance_slope(self, omega: float) -> float:
        """Derivative of `variance` with respect to w."""
        lost = self.gamma * (1.0 - omega)
        return -self.gamma * (1.0 - 2.0 * lost) * (self.slope / self.gamma) ** 2
