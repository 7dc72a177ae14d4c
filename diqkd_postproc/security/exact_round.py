"""Exact one-round value of the `renyi` proof, bounded by dual certificates (Theorem 5). Not peer-reviewed.

Of all strategies of one round, those of two qubits with real states suffice: Alice's observables at angles
+theta (x = 0) and -theta (x = 1), Bob's at +phi and -phi, in the plane of z and x (docs/proofs.md, 3.3).
The value f(tau; theta, phi) = sum_i c_i g_i(tau), g_i(tau) = Tr[(Z_i^(1/2) tau^(1/alpha) Z_i^(1/2))^alpha],
is concave and of degree one in the state tau, so that the gradients D_i of the g_i at *any* tau0 bound the
maximum:

    max_tau f(tau; theta, phi) <= lambda_max(sum_i c_i D_i),    with equality at the optimal tau0.

The trade-off parameters need not be trusted to any optimiser. Between the corners c of a rectangle of
angles the dual operators are interpolated: with the bilinear weights N_c(p) >= 0 of a point p, and U_i the
rotations of the observables from corner c to p, the same two properties give

    max_tau f(tau; p) <= lambda_max(sum_c N_c(p) sum_i c_i U_i D_i^c U_i^T).

At the optimum the operator of a single tau0 is degenerate, and its largest eigenvalue grows linearly with the
distance from it; the interpolated one stays within second order of the true value, which is why some
thousand rectangles suffice where rectangles around single states (docs/one_round.md, section 3) need 10^5.

tau commutes with sigma_y (x) sigma_y: two blocks, spanned by (Phi+, Psi-) and (Phi-, Psi+), each written m +
u Z + v X with z = u + i v. A rotation multiplies z by exp(i eta), eta = -s_x d_theta + s_y d_phi in the first
block and s_x d_theta + s_y d_phi in the second (s_y = 0 in key terms). |exp(i eta) - 1 - i eta| <= eta^2 / 2;
the rest is a polynomial of degree (2, 2) on the rectangle, bounded by its Bernstein coefficients.

Derived for this project, not peer-reviewed; proved in docs/one_round.md, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from diqkd_postproc.protocol.errors import ParameterError

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]
Indices = NDArray[np.int64]
_Values = TypeVar("_Values", Array, Complex)

EIGENVALUE_FLOOR = 1e-9
"""Smallest eigenvalue of a state, relative to its largest: below, double precision loses digits
(docs/one_round.md, section 4)."""

SMALLEST_SPLITTING = 1e-8
"""Smallest half-distance of the logarithms of a block's eigenvalues: quotients of differences stay well
conditioned."""

DEGENERATE = 1e-7
"""Relative distance of two eigenvalues below which a difference quotient is replaced by its limit."""

BLOCK_SIGN = np.array([[-1.0], [1.0]])
"""Sign of s_x d_theta in the phase of each block (6b, "Evaluation")."""


@dataclass(frozen=True, slots=True)
class LogStates:
    """Logarithms of N states: each block is mean + Re(axis) Z + Im(axis) X, arrays of shape (2, N)."""

    mean: Array
    axis: Complex

    def take(self, index: Indices | NDArray[np.bool_]) -> LogStates:
        """The states at `index`."""
        return LogStates(self.mean[:, index], self.axis[:, index])

    def normalised(self) -> LogStates:
        """Eigenvalues above the floor, blocks not degenerate, then trace one."""
        radius = np.abs(self.axis)
        direction = np.where(radius > 0, self.axis / np.maximum(radius, 1e-300), 1.0)
        logs = np.stack([self.mean + radius, self.mean - radius])
        logs = np.maximum(logs - logs.max(axis=(0, 1)), math.log(EIGENVALUE_FLOOR))
        mean = (logs[0] + logs[1]) / 2
        radius = np.maximum((logs[0] - logs[1]) / 2, SMALLEST_SPLITTING)
        trace = (2 * np.exp(mean) * np.cosh(radius)).sum(axis=0)
        return LogStates(mean - np.log(trace), radius * direction)

    @staticmethod
    def start(num_states: int) -> LogStates:
        """A generic state, `num_states` times: mostly Phi+, with some of everything else."""
        mean = np.repeat([[-1.3], [-2.0]], num_states, axis=1)
        axis = np.repeat([[0.5 + 0.1j], [0.3 - 0.1j]], num_states, axis=1)
        return LogStates(mean, axis).normalised()


@dataclass(frozen=True, slots=True)
class Duals:
    """Dual operators sum_i c_i D_i at N points, and what a rotation does to them; arrays (2, N) but for
    `value`.

    value: (N,), f. mean, axis: the blocks. by_theta, by_phi: derivatives of `axis` by the angles.
    remainder_all, remainder_tests: sum of c_i |z_i| / 2 over all and over the test terms.
    """

    value: Array
    mean: Array
    axis: Complex
    by_theta: Complex
    by_phi: Complex
    remainder_all: Array
    remainder_tests: Array

    @property
    def largest(self) -> Array:
        """(N,): lambda_max, a bound of the maximum over all states at these angles."""
        top: Array = (self.mean + np.abs(self.axis)).max(axis=0)
        return top


@dataclass(frozen=True, slots=True)
class _Term:
    """sum over a of one summand of f: its weight, signs of x and y, value, and its gradient's blocks."""

    weight: float
    sign_x: int
    sign_y: int
    value: Array
    mean: Array
    axis: Complex


@dataclass(frozen=True, slots=True)
class ExactRound:
    """f for alpha - 1 in (0, 1], kappa >= 1, eta >= 0, gamma in (0, 1] and one or two key bases.

    One key basis is the `ordered` protocol, two are `late-type` (section 7).
    """

    order_minus_one: float
    loss_price: float
    test_credit: float
    gamma: float
    num_key_bases: int

    def __post_init__(self) -> None:
        if not 0.0 < self.order_minus_one <= 1.0:
            raise ParameterError(f"order_minus_one={self.order_minus_one} is outside (0, 1]")
        if not 1.0 <= self.loss_price < math.inf:
            raise ParameterError(f"loss_price={self.loss_price} is below 1, which the proof requires")
        if not 0.0 <= self.test_credit < math.inf:
            raise ParameterError(f"test_credit={self.test_credit} is negative or infinite")
        if not 0.0 < self.gamma <= 1.0:
            raise ParameterError(f"gamma={self.gamma} is outside (0, 1]")
        if self.num_key_bases not in (1, 2):
            raise ParameterError(f"num_key_bases={self.num_key_bases} is neither 1 nor 2")

    @property
    def largest_theta(self) -> float:
        """theta in [0, pi/4]: exchange y and flip a for x = 1."""
        return math.pi / 4

    @property
    def largest_phi(self) -> float:
        """phi in [0, pi/2]; with two key bases in [0, pi/4]: exchange x and flip b for y = 1."""
        return math.pi / 2 / self.num_key_bases

    def disordered_excess(self) -> float:
        """f1 - 1 = gamma h + (1-gamma) w - 1, the value of a round played in a forged order
        (docs/order.md, 3.3)."""
        unit = self.order_minus_one * math.log(2)
        tests = self.gamma * math.expm1(unit * self.test_credit)
        return tests + (1 - self.gamma) * math.expm1(-unit * self.loss_price)

    def duals(self, theta: Array, phi: Array, states: LogStates) -> Duals:
        """The dual operators of `states`, which need not be optimal, at angles of shape (N,)."""
        shape = states.mean.shape
        value, mean, all_, tests = (np.zeros(s) for s in (shape[1:], shape, shape, shape))
        axis, by_theta, by_phi = (np.zeros(shape, dtype=np.complex128) for _ in range(3))
        for term in self._terms(theta, phi, states):
            value += term.weight * term.value
            mean += term.weight * term.mean
            weighted = term.weight * term.axis
            axis += weighted
            by_theta += 1j * term.sign_x * BLOCK_SIGN * weighted
            size = 0.5 * np.abs(weighted)
            all_ += size
            if term.sign_y:
                by_phi += 1j * term.sign_y * weighted
                tests += size
        return Duals(value, mean, axis, by_theta, by_phi, all_, tests)

    def ascend(self, theta: Array, phi: Array, states: LogStates, num_steps: int) -> LogStates:
        """States nearer to the maximum: ln tau <- ln tau + grad f / (alpha - 1), as in 6b."""
        for _ in range(num_steps):
            duals = self.duals(theta, phi, states)
            mean = states.mean + (duals.mean - 1.0) / self.order_minus_one
            states = LogStates(mean, states.axis + duals.axis / self.order_minus_one).normalised()
        return states

    def _terms(self, theta: Array, phi: Array, states: LogStates) -> Iterator[_Term]:
        order, excess = 1.0 + self.order_minus_one, self.order_minus_one
        radius = np.abs(states.axis)
        direction = states.axis / radius
        logs = np.stack([states.mean + radius, states.mean - radius])
        roots, slopes = np.exp(logs / order), np.exp(-logs * (excess / order))
        # alpha times the divided difference of t^(1/alpha); `normalised` keeps the eigenvalues apart.
        mixed = order * np.exp(-states.mean * (excess / order)) * np.sinh(radius / order) / np.sinh(radius)
        root_axis = (roots[0] - roots[1]) / 2 * direction
        half_trace = roots.sum(axis=(0, 1)) / 4
        weight = math.exp(-excess * self.loss_price * math.log(2) / order)
        test_weight = self.gamma * math.exp(excess * self.test_credit * math.log(2)) / 4
        for x in (0, 1):
            sign_x = 1 - 2 * x
            turn = np.exp(1j * sign_x * theta)
            turns = np.stack([turn, np.conj(turn)])
            bob = (root_axis * turns).sum(axis=0) / 2
            # det C as a sum of positive terms (Cauchy-Binet): no digits cancel where C is nearly pure.
            overlap = (direction[0] * turn * np.conj(direction[1] * np.conj(turn))).real
            apart, along = np.maximum((1 - overlap) / 2, 0), np.maximum((1 + overlap) / 2, 0)
            (a, c), (b, d) = roots
            det = (a * b + c * d + (a * c + b * d) * apart + (a * d + b * c) * along) / 4

            def gradient(scalar: Array, vector: Complex, turns: Complex = turns) -> tuple[Array, Complex]:
                turned = vector * np.conj(turns) * np.conj(direction)
                upper, lower = slopes[0] * (scalar + turned.real), slopes[1] * (scalar - turned.real)
                return (upper + lower) / 2, ((upper - lower) / 2 + 1j * mixed * turned.imag) * direction

            if x < self.num_key_bases:
                larger = half_trace + np.abs(bob)
                value, first, second = self._powers(larger, det / larger)
                blocks = gradient(first - second * half_trace, second * bob)
                yield _Term((1 - self.gamma) / self.num_key_bases, sign_x, 0, 2 * value, *blocks)
            for y in (0, 1):
                sign_y = 1 - 2 * y
                win = np.exp(1j * sign_y * phi) * (1 - 2 * x * y)
                mean, half = (1 + weight) / 2, (1 - weight) / 2
                trace = mean * half_trace + half * (bob * np.conj(win)).real
                larger = trace + np.sqrt(np.maximum(trace * trace - weight * det, 0.0))
                value, first, second = self._powers(larger, weight * det / larger)
                scalar = first * mean - second * weight * half_trace
                blocks = gradient(scalar, first * half * win + second * weight * bob)
                yield _Term(test_weight, sign_x, sign_y, 2 * value, *blocks)

    def _powers(self, larger: Array, smaller: Array) -> tuple[Array, Array, Array]:
        """Tr X^alpha, and the divided differences of t^alpha and t^(alpha-1) at X's two eigenvalues.

        With them W^(1/2) X^(alpha-1) W^(1/2) = first W - second det(W) adj(C) for X = W^(1/2) C W^(1/2), by
        Cayley-Hamilton.
        """
        logs, small_logs = np.log(larger), np.log(np.maximum(smaller, 1e-300))
        power = np.exp(self.order_minus_one * logs)
        ratio = np.expm1(self.order_minus_one * (small_logs - logs))
        value = larger * power + smaller * power * (1 + ratio)
        gap = larger - smaller
        equal = gap < DEGENERATE * larger
        safe = np.where(equal, 1.0, gap)
        first = np.where(equal, (1 + self.order_minus_one) * power, power * (gap - smaller * ratio) / safe)
        second = np.where(equal, self.order_minus_one * power / larger, -power * ratio / safe)
        return value, first, second


def cell_bounds(duals: Duals, corners: Indices, width_theta: float, width_phi: float) -> Array:
    """(n,) bounds of the value over rectangles of angles.

    corners: (n, 4) indices of the points (0, 0), (theta, 0), (0, phi), (theta, phi) among those of `duals`.
    """
    grids = corners.reshape(-1, 2, 2)
    mean = _raised(_raised(duals.mean[:, grids], 2), 3)
    axis = _raised(_raised(duals.axis[:, grids], 2), 3)
    slope = duals.by_theta[:, grids]
    axis[..., :, 1] += _raised(0.5 * width_theta * (slope[..., 0] - slope[..., 1]), 2)
    slope = duals.by_phi[:, grids]
    axis[..., 1, :] += _raised(0.5 * width_phi * (slope[..., 0, :] - slope[..., 1, :]), 2)
    all_, tests = (r[:, corners].max(axis=2) for r in (duals.remainder_all, duals.remainder_tests))
    # sum_c N_c |p - c|^2 <= width^2 / 4 in each variable, and the mixed term width width' / 4 as well.
    remainder = (all_ * width_theta**2 + tests * (2 * width_theta * width_phi + width_phi**2)) / 4
    bounds: Array = ((mean + np.abs(axis)).max(axis=(2, 3)) + remainder).max(axis=0)
    return bounds


def _raised(values: _Values, axis: int) -> _Values:
    """Bernstein coefficients of degree two of functions of degree one along `axis`."""
    first, last = np.take(values, 0, axis), np.take(values, 1, axis)
    return np.stack([first, (first + last) / 2, last], axis=axis)
