"""Constants of variable and fixed key lengths in ball arithmetic, and closed one-round bounds.

Derived for this project, not peer-reviewed.

The formulas of `variable_certification` and `closed_round` once more, in Arb and written down independently;
F2 by the tangent at the point that bisection in double precision finds, which is a bound at any point.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.length_rule import FreeParameters
from diqkd_postproc.security.ball_arithmetic import RoundInBalls, is_available
from diqkd_postproc.security.exact_round_balls import PRECISION_BITS
from diqkd_postproc.security.paper import EXTRACTOR_BITS
from diqkd_postproc.security.variable_length import NUM_KEY_BASES, KeyProblem

Ball = Any
"""flint.arb; python-flint is optional."""


def require_flint() -> None:
    """Raise ParameterError without python-flint."""
    if not is_available():
        raise ParameterError("ball arithmetic needs python-flint: install diqkd with the extra `certify`")


def constant_in_balls(
    problem: KeyProblem, free: FreeParameters, excess: Ball, extractor_error: float, smoothing: float
) -> int:
    """Largest whole number that is certainly at most C of the theorem; see `variable_certification`."""
    from flint import arb, ctx, fmpq

    def log2(value: Ball) -> Ball:
        return value.log() / arb(2).log()

    before = ctx.prec
    ctx.prec = PRECISION_BITS
    try:
        step = arb(fmpq(free.excess_order.numerator, free.excess_order.denominator))
        constant = -problem.num_rounds * log2(1 + excess) / step - problem.message_bits
        if problem.length == "variable":
            constant -= log2(arb(len(problem.syndrome_bits) * (problem.max_losses + 1)))
        else:
            constant -= log2(arb(len(problem.syndrome_bits))) + arb(free.loss_budget) / 1024
            constant -= problem.syndrome_bits[-1] + problem.max_late_losses
        if problem.extractor == "toeplitz":
            constant += 2 + (1 + step) / step * log2(arb(extractor_error))
        else:
            constant -= EXTRACTOR_BITS + log2(2 / arb(smoothing) ** 2) / step
            constant += (6 if problem.length == "variable" else 5) * log2(arb(extractor_error))
        return int(constant.lower().floor().unique_fmpz())
    finally:
        ctx.prec = before


def closed_excess_in_balls(
    problem: KeyProblem, free: FreeParameters, cells: np.ndarray[Any, np.dtype[np.float64]]
) -> Ball:
    """A ball whose upper end bounds the largest G - 1, over the cells that a search in doubles left."""
    from flint import ctx

    before = ctx.prec
    ctx.prec = PRECISION_BITS
    try:
        if problem.bound == "closed":
            balls: RoundInBalls = _ClosedInBalls(problem, free)
            name = "full" if NUM_KEY_BASES[problem.order] == 1 else "simple"
        else:
            balls, name = (
                RoundInBalls(problem.gamma, float(free.excess_order), float(free.kappa)),
                problem.bound,
            )
        return (balls.largest(cells, name) - 1).upper()
    finally:
        ctx.prec = before


class _ClosedInBalls(RoundInBalls):
    """Section 6: G in place of the "full" bound, G2 in place of the "simple" one."""

    def __init__(self, problem: KeyProblem, free: FreeParameters) -> None:
        super().__init__(problem.gamma, float(free.excess_order), float(free.kappa))
        from flint import arb

        self._won = 1 - arb(2) ** (-self._fraction(free.excess_order * free.kappa))
        self._credit = arb(2) ** self._fraction(free.excess_order * free.eta)

    @staticmethod
    def _fraction(value: Fraction) -> Ball:
        from flint import arb, fmpq

        return arb(fmpq(value.numerator, value.denominator))

    def _simple_cell(self, t1: float, t2: float) -> Ball:
        entropic = self._q(t1)
        return self._combined(entropic, entropic, _both_bases_form(t2))

    def _combined(self, q_low: Ball, q_high: Ball, chsh_form: Ball) -> Ball:
        omega = (2 + chsh_form.sqrt()) / 4
        test = (1 - self._won) * (q_low + q_high) / 2 + self._won * omega
        return (1 - self._gamma) * q_low + self._gamma * self._credit * test


def _both_bases_form(t: float) -> Ball:
    """Upper bound of F2(t): psi's tangent at some C in (b, 1), or 1 + t where C is too close to an end."""
    from flint import arb

    trivial = 1 + arb(t)
    low, high = 1.0 - t, 1.0
    for _ in range(46):
        middle = 0.5 * (low + high)
        inner = (1 - middle) * (1 + middle - 2 * (1 - t))
        rises = inner > 0 and 2 * (1 - t) / (1 + middle) ** 2 > (middle - (1 - t)) / inner**0.5
        low, high = (middle, high) if rises else (low, middle)
    least, point = 1 - arb(t), arb(low)
    inner = (1 - point) * (1 + point - 2 * least)
    if not inner > 0:
        return trivial
    root = inner.sqrt()
    slope = 2 * least / (1 + point) ** 2 + (least - point) / root
    rise = (slope * (1 - point)).max(slope * (least - point))
    bound = 1 + least - 2 * least / (1 + point) + root + rise
    return bound.min(trivial)
