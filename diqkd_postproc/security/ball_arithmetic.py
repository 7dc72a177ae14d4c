"""Confirmation of key lengths in ball arithmetic, where every number is an interval around the true value.

The double-precision evaluations of `paper`, `counted` and `renyi` subtract documented margins for rounding
errors. This module evaluates the same theorems once more at the free parameters that they chose, with Arb
(python-flint, extra `certify`) and with formulas written down independently of theirs, and lets a length
stand only if its inequality holds with certainty. Nothing is optimised here: any choice is safe.

For `renyi` the cells of the branch and bound, which cover all strategies, are bounded again one by one.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.security import paper, renyi
from diqkd_postproc.security.key_length import KeyLength
from diqkd_postproc.security.min_tradeoff import (
    OMEGA_MAX,
    MinTradeoffFunction,
    entropy_bound_slope,
)
from diqkd_postproc.security.renyi_round import RoundProblem, certify

PRECISION_BITS = 96
Ball = Any
"""flint.arb; python-flint is optional."""

MAX_CELLS = 2_000_000
"""Cells to be bounded one by one, each in some 20 us; beyond, coarser ones cost a few bits of key."""

Cells = npt.NDArray[np.float64]


def is_available() -> bool:
    """Whether python-flint is installed."""
    return importlib.util.find_spec("flint") is not None


def confirm(parameters: ProtocolParameters, length: KeyLength) -> KeyLength:
    """`length` with a certificate in ball arithmetic; shorter where its bits cannot be confirmed.

    length: the answer of the proof of `parameters`, returned with its certificate in double precision for
    protocol `late-type`. Raises ParameterError without python-flint.
    """
    if not is_available():
        raise ParameterError("ball arithmetic needs python-flint: install diqkd with the extra `certify`")
    if parameters.protocol == "late-type":
        return length
    from flint import ctx

    before = ctx.prec
    ctx.prec = PRECISION_BITS
    try:
        if parameters.proof == "renyi":
            entropy, words = _renyi_entropy(parameters, length.analysis)
        else:
            entropy, words = _accumulated_entropy(parameters, length.analysis)
        largest = _largest(entropy, parameters.extractor == "trevisan")
        bits = min(length.bits, max(0, largest - parameters.max_late_losses))
    finally:
        ctx.prec = before
    words = f"ball arithmetic (Arb, {PRECISION_BITS} bits): {words}"
    return dataclasses.replace(length, bits=bits, margin=0.0, certificate=words)


def _largest(entropy: Ball, costs_logarithm: bool) -> int:
    """A whole l with l, or l + 4 log l, certainly at most the entropy; the largest but for rounding; or 0."""
    at_least = float(entropy.lower())
    estimate = paper.invert_extractor_loss(at_least) if costs_logarithm else at_least
    for bits in range(math.floor(estimate) + 1, max(0, math.floor(estimate) - 3), -1):
        cost = 4 * _log2(_exact(bits)) if costs_logarithm else _exact(0)
        if bits + cost <= entropy:
            return bits
    return 0


def _log2(value: Ball) -> Ball:
    from flint import arb

    return value.log() / arb(2).log()


def _exact(value: float | Fraction | int) -> Ball:
    """A ball around an exact number: a double is the dyadic fraction that it is."""
    from flint import arb, fmpq

    if isinstance(value, float):
        return arb(value)
    fraction = Fraction(value)
    return arb(fmpq(fraction.numerator, fraction.denominator))


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ParameterError(f"{what} is not satisfied exactly by the analysis parameters of this key length")


def _renyi_entropy(parameters: ProtocolParameters, analysis: Mapping[str, float]) -> tuple[Ball, str]:
    """Right-hand side of the theorem's inequality (see `renyi`) and what it rests on, in words."""
    d, kappa = analysis["order_minus_one"], analysis["loss_weight"]
    problem = RoundProblem(d, kappa, float(parameters.gamma))
    bound = parameters.bound or "simple"
    cells = _cells(problem, bound, renyi.TOLERANCE_BITS * d * math.log(2) / parameters.num_rounds)
    excess = (RoundInBalls(parameters.gamma, d, kappa).largest(cells, bound) - 1).upper()
    order = _exact(d)
    entropy = (
        -parameters.num_rounds / order * _log2(1 + excess)
        - _exact(kappa) * parameters.max_losses
        - parameters.syndrome_bits
        - paper.MESSAGE_BITS
    )
    extractor_error, smoothing = analysis["extractor_error"], analysis["smoothing"]
    spent = Fraction(extractor_error) + 2 * Fraction(smoothing)
    spent += renyi.NUM_HASH_ERRORS * Fraction(paper.HASH_ERROR)
    _require(spent <= Fraction(parameters.soundness_error), "e_PA + 2 e_s + 5 e_h <= eps_snd")
    if parameters.extractor == "toeplitz":
        entropy += 2 + (1 + order) / order * _log2(_exact(extractor_error))
    else:
        entropy += 5 * _log2(_exact(extractor_error)) - paper.EXTRACTOR_BITS
        entropy -= (1 - 2 * _log2(_exact(smoothing))) / order
    return entropy, f"largest G - 1 of a round <= {excess.str(18)}, over {cells.shape[1]} cells"


def _cells(problem: RoundProblem, bound: str, tolerance: float) -> Cells:
    """Cells that cover all strategies, coarser where there would be too many."""
    while True:
        leaves: list[Cells] = []
        certify(problem, bound, tolerance, leaves)
        cells = np.concatenate(leaves, axis=1)
        if cells.shape[1] <= MAX_CELLS:
            return cells
        tolerance *= 4.0


class RoundInBalls:
    """Upper bounds of G over cells, see `renyi_round` for the formulas."""

    def __init__(self, gamma: Fraction, order_minus_one: float, loss_weight: float) -> None:
        self._gamma = _exact(gamma)
        self._order = 1 + _exact(order_minus_one)
        self._root = 1 / self._order
        self._scale = (-_exact(order_minus_one) * _exact(2).log()).exp()
        self._weight = (-_exact(order_minus_one) * _exact(loss_weight) / self._order * _exact(2).log()).exp()
        self._known: dict[float, Ball] = {}

    def largest(self, cells: Cells, bound: str) -> Ball:
        """A ball whose upper end bounds G on all cells: (2, k) or (4, k) as `certify` collects them."""
        bounds = self._simple_cell if bound == "simple" else self._full_cell
        largest = _exact(0)
        for cell in cells.T.tolist():
            largest = largest.max(bounds(*cell))
        return largest

    def _simple_cell(self, t1: float, t2: float) -> Ball:
        entropic = self._q(t1)
        return self._combined(entropic, entropic, 1 + _exact(t2))

    def _full_cell(self, low1: float, low2: float, beta1: float, beta2: float) -> Ball:
        # On the cell u >= max(l1, 1 - beta2) and l <= min(l2, 1 - beta1); q decreases, F increases with l.
        smallest_u = max(low1, _complement(beta2, -1.0))
        largest_l = min(low2, _complement(beta1, 2.0))
        form = self._chsh_form(_exact(largest_l), _exact(beta1))
        return self._combined(self._q(low1), self._q(smallest_u), form)

    def _q(self, t: float) -> Ball:
        """q(t), decreasing, for a double t in [0, 1]."""
        if t not in self._known:
            root = _exact(t).sqrt()
            error = (1 - root) / 2
            powers = ((1 + root) / 2) ** self._root
            if t < 1.0:
                powers += error**self._root
            self._known[t] = self._scale * powers**self._order
        return self._known[t]

    def _chsh_form(self, low: Ball, beta: Ball) -> Ball:
        """F(l, 1 - beta)."""
        mean = (low + 1 - beta) / 2
        slack = 8 * low**3 / (5 + 8 * low * (1 - low))
        return 1 + low - mean + (mean * mean - slack * beta).nonnegative_part().sqrt()

    def _combined(self, q_low: Ball, q_high: Ball, chsh_form: Ball) -> Ball:
        omega = (2 + chsh_form.sqrt()) / 4
        entropic = (q_low + q_high) / 2
        inner = self._weight * entropic**self._root + (1 - self._weight) * omega**self._root
        return (1 - self._gamma) * q_low + self._gamma * inner**self._order


def _complement(beta: float, direction: float) -> float:
    """1 - beta for beta in [0, 1]; where no double is equal to it, one on the side of `direction`.

    For beta >= 1/2 the difference is exact. Otherwise the rounded one is in [1/2, 1] and its own complement
    exact, which shows whether anything was lost.
    """
    difference = 1.0 - beta
    return difference if 1.0 - difference == beta else math.nextafter(difference, direction)


def _accumulated_entropy(parameters: ProtocolParameters, analysis: Mapping[str, float]) -> tuple[Ball, str]:
    """Argument of Upsilon in Proposition 2 (eq. 73), or its `counted` form, and what it rests on."""
    n, a = parameters.num_rounds, _exact(analysis["renyi_min"])
    conditioning = -_log2(_exact(analysis["accumulation_error"]))
    extractor_error, smoothing = Fraction(analysis["extractor_error"]), Fraction(analysis["smoothing"])
    spent = max(Fraction(analysis["accumulation_error"]), extractor_error + 2 * smoothing)
    spent += paper.NUM_HASH_ERRORS * Fraction(paper.HASH_ERROR)
    _require(spent <= Fraction(parameters.soundness_error), "max(e_EA, e_PA + 2 e_s) + 4 e_h <= eps_snd")
    entropy = n * _entropy_rate(parameters, analysis)
    if parameters.proof == "paper":
        first, second = Fraction(analysis["smoothing_min"]), Fraction(analysis["smoothing_max"])
        rest = smoothing - first - 2 * second
        _require(rest > 0, "e_s > e_s' + 2 e_s''")
        a2 = _exact(analysis["renyi_max"])
        entropy -= _exact(n * parameters.gamma) + n * a2 * _log2(_exact(5)) ** 2
        entropy -= (_theta(second) + (1 + a2) * conditioning) / a2 + 3 * _theta(rest)
    else:
        assert parameters.max_tests is not None
        first = smoothing
        entropy -= parameters.max_tests
    entropy -= (_theta(first) + (1 + a) * conditioning) / a
    entropy += 5 * _log2(_exact(extractor_error))
    entropy -= parameters.syndrome_bits + paper.MESSAGE_BITS + paper.EXTRACTOR_BITS
    return entropy, f"the extractor's input entropy is at least {entropy.lower().str(18)} bits"


def _theta(error: Fraction) -> Ball:
    """-log(1 - sqrt(1 - e^2)), eq. 66, without cancellation."""
    ball = _exact(error)
    return -_log2(ball * ball / (1 + (1 - ball * ball).sqrt()))


def _entropy_rate(parameters: ProtocolParameters, analysis: Mapping[str, float]) -> Ball:
    """g(omega_thr) + inf_w (eta(w) - g(w) - a V(w)) - a^2 K, bits a round, g any line of this slope.

    The argument of the infimum is convex (see `paper`): its tangent at any point bounds it from below.
    """
    function = MinTradeoffFunction(analysis["tangent_point"], float(parameters.gamma))
    a, slope = _exact(analysis["renyi_min"]), _exact(function.slope)
    jump = (slope / _exact(parameters.gamma)) ** 2
    tested = _exact(parameters.gamma)
    bits = _exact(2).log()

    def half_root(omega: Ball) -> tuple[Ball, Ball]:
        lost = tested * (1 - omega)
        return (2 + lost * (1 - lost) * jump).sqrt(), -tested * (1 - 2 * lost) * jump

    point = _exact(_near_the_lowest_point(function, analysis["renyi_min"]))
    bias = (16 * (point - _exact(0.75)) * (point - _exact(0.25))).sqrt()
    eta = ((1 + bias) * (1 + bias).log() + (1 - bias) * (1 - bias).log()) / (2 * bits)
    root, variance_slope = half_root(point)
    constant = _log2(_exact(33))
    value = eta - slope * point - a * bits / 2 * (constant + root) ** 2
    derivative = 8 * (2 * point - 1) * bias.atanh() / (bias * bits) - slope
    derivative -= a * bits / 2 * (constant + root) / root * variance_slope
    half = 1 / (2 * _exact(2).sqrt())
    ends = [derivative * (_exact(0.5) + sign * half - point) for sign in (-1, 1)]
    infimum = value + ends[0].min(ends[1])
    span = 2 + slope * (_exact(0.5) + half)
    third = (a * span * bits).exp() * ((span * bits).exp() + _exact(2).exp()).log() ** 3
    third /= 6 * (1 - a) ** 3 * bits
    return slope * _exact(parameters.omega_threshold) + infimum - a * a * third


def _near_the_lowest_point(function: MinTradeoffFunction, renyi_min: float) -> float:
    """Where the convex argument is lowest, to double precision: only the tightness depends on it."""
    low, high = 0.75 + 1e-9, OMEGA_MAX - 1e-12
    step = 1e-7

    def second_order_slope(omega: float) -> float:
        ahead, behind = min(omega + step, OMEGA_MAX), omega - step
        rise = paper.second_order(function, ahead) - paper.second_order(function, behind)
        return rise / (ahead - behind)

    for _ in range(60):
        middle = 0.5 * (low + high)
        if entropy_bound_slope(middle) - function.slope - renyi_min * second_order_slope(middle) < 0:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
