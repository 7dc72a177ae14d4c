"""The one-round quantity of the `renyi` proof and certified upper bounds of its maximum.

For a Renyi order alpha = 1 + d, a loss weight kappa and a test probability gamma, the proof needs an upper
bound of the largest value over all single-round strategies. They are described by the squared correlations
0 <= l <= u <= 1 that Bob can have with the directions complementary to Alice's two measurements:

    q(t)   = 2^-d (e^(1/alpha) + (1-e)^(1/alpha))^alpha,  e = (1 - sqrt t)/2
    F(l,u) = 1 + l - A + sqrt(A^2 - c(l) (1-u)),  A = (l+u)/2,  c(l) = 1.6 l^3 / (1 + 1.6 l (1-l))
    G(l,u) = (1-gamma) q(l) + gamma [w0 ((q(l)+q(u))/2)^(1/alpha) + (1-w0) ((2+sqrt F)/4)^(1/alpha)]^alpha

with w0 = 2^(-d kappa / alpha). The `full` bound is the maximum of G; the `simple` one, which is larger,
replaces q(u) by q(l) and F by 1 + l, so that a single variable is left.

q decreases, F increases in l and u, and G increases in every q and in F. Hence G on a cell of (l, 1-u) is at
most the value at mixed corners, which makes branch and bound exact up to rounding. Everything is evaluated as
"value - 1" without cancellation; the error of that in double precision is below 5e-15 (3000 random points
against forty digits), and `ROUNDING_ALLOWANCE`, forty times as much, is added to what is returned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diqkd_postproc.protocol.errors import ParameterError

Array = NDArray[np.float64]

ROUNDING_ALLOWANCE = 2e-13
"""Added to a certified maximum of G - 1: bounds the rounding errors of the evaluation."""

SMALLEST_BETA_EXPONENT = -44
"""The first cells in 1 - u are (0, 2^-44, 2^-43, ..., 1), because the maximum lies close to u = 1."""

CHUNK_CELLS = 1 << 16
MAX_CELLS = 10_000_000


@dataclass(frozen=True, slots=True)
class Certificate:
    """Proof by computation: `lower` <= max(G - 1) (up to rounding), and max(G - 1) <= `upper`.

    num_cells: cells that branch and bound examined. bound: "simple" or "full".
    """

    upper: float
    lower: float
    num_cells: int
    bound: str


@dataclass(frozen=True, slots=True)
class RoundProblem:
    """G for given alpha - 1 in (0, 1], kappa >= 0 and gamma in (0, 1]."""

    order_minus_one: float
    loss_weight: float
    gamma: float

    def __post_init__(self) -> None:
        if not 0.0 < self.order_minus_one <= 1.0:
            raise ParameterError(f"order_minus_one={self.order_minus_one} is outside (0, 1]")
        if not 0.0 <= self.loss_weight < math.inf:
            raise ParameterError(f"loss_weight={self.loss_weight} is negative or infinite")
        if not 0.0 < self.gamma <= 1.0:
            raise ParameterError(f"gamma={self.gamma} is outside (0, 1]")

    def value(self, low: Array, beta: Array) -> Array:
        """G(l, 1 - beta) - 1, elementwise."""
        return self._combine(self._q(_error_of(low)), self._q(_error_of_beta(beta)), _chsh_form(low, beta))

    def simple_value(self, t: Array) -> Array:
        """The single-variable bound minus 1, elementwise."""
        entropic = self._q(_error_of(t))
        return self._combine(entropic, entropic, 1.0 + t)

    def cell_bound(self, low1: Array, low2: Array, beta1: Array, beta2: Array) -> Array:
        """Upper bound of G - 1 over cells [low1, low2] x [beta1, beta2] intersected with l <= u.

        There u is at least both 1 - beta2 and low1.
        """
        entropic = self._q(_error_of(low1))
        other = self._q(_error_of_beta(np.minimum(beta2, 1.0 - low1)))
        return self._combine(entropic, other, _chsh_form(np.minimum(low2, 1.0 - beta1), beta1))

    def simple_cell_bound(self, t1: Array, t2: Array) -> Array:
        """Upper bound of the single-variable bound minus 1 over cells [t1, t2]."""
        entropic = self._q(_error_of(t1))
        return self._combine(entropic, entropic, 1.0 + t2)

    def _q(self, error: Array) -> Array:
        """q - 1 as a function of Bob's error e."""
        order = 1.0 + self.order_minus_one
        powers = error ** (1 / order) + (1.0 - error) ** (1 / order)
        return np.expm1(-self.order_minus_one * math.log(2) + order * np.log(powers))

    def _combine(self, q_low: Array, q_high: Array, chsh_form: Array) -> Array:
        """G - 1 from q(l) - 1, q(u) - 1 and F."""
        order = 1.0 + self.order_minus_one
        log_weight = -self.order_minus_one * self.loss_weight * math.log(2) / order
        weight, complement = math.exp(log_weight), -math.expm1(log_weight)
        omega = (2.0 + np.sqrt(chsh_form)) / 4.0
        entropic = np.expm1(np.log1p(0.5 * (q_low + q_high)) / order)
        inner = weight * entropic + complement * np.expm1(np.log(omega) / order)
        total: Array = (1.0 - self.gamma) * q_low + self.gamma * np.expm1(order * np.log1p(inner))
        return total


def _error_of(t: Array) -> Array:
    """e = (1 - sqrt t)/2 without cancellation."""
    error: Array = (1.0 - t) / (2.0 * (1.0 + np.sqrt(t)))
    return error


def _error_of_beta(beta: Array) -> Array:
    """The same at t = 1 - beta."""
    error: Array = beta / (2.0 * (1.0 + np.sqrt(1.0 - beta)))
    return error


def _chsh_form(low: Array, beta: Array) -> Array:
    """F(l, 1 - beta), an upper bound of S^2/4."""
    mean = 0.5 * (low + 1.0 - beta)
    slack = 1.6 * low**3 / (1.0 + 1.6 * low * (1.0 - low))
    form: Array = 1.0 + low - mean + np.sqrt(np.maximum(mean * mean - slack * beta, 0.0))
    return form


def approximate_maximum(problem: RoundProblem, bound: str) -> tuple[float, float, float]:
    """(max(G - 1), l, beta) by a grid that is refined around its best point: fast, a lower bound only."""
    if bound == "simple":
        low, high = 0.0, 1.0
        for _ in range(8):
            grid = np.linspace(low, high, 65)
            values = problem.simple_value(grid)
            best = int(np.argmax(values))
            low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, 64)])
        return float(values[best]), float(grid[best]), 0.0
    return _approximate_full(problem)


def _approximate_full(problem: RoundProblem) -> tuple[float, float, float]:
    """The grid is one of l and of the logarithm of (1-u)/(1-l), which is free in (0, 1)."""
    l_low, l_high = 0.0, 1.0
    s_low, s_high = float(SMALLEST_BETA_EXPONENT), 0.0
    for _ in range(8):
        lows = np.linspace(l_low, l_high, 33)[:, None]
        exponents = np.linspace(s_low, s_high, 33)[None, :]
        shares = np.where(exponents <= SMALLEST_BETA_EXPONENT, 0.0, np.exp2(exponents))
        betas = (1.0 - lows) * shares
        values = problem.value(np.broadcast_to(lows, betas.shape), betas)
        i, j = divmod(int(np.argmax(values)), 33)
        l_low, l_high = float(lows[max(i - 2, 0), 0]), float(lows[min(i + 2, 32), 0])
        s_low, s_high = float(exponents[0, max(j - 2, 0)]), float(exponents[0, min(j + 2, 32)])
    return float(values[i, j]), float(lows[i, 0]), float(betas[i, j])


def certify(
    problem: RoundProblem, bound: str, tolerance: float, leaves: list[Array] | None = None
) -> Certificate:
    """Certified maximum of G - 1, `simple` or `full`, to within `tolerance` and the rounding allowance.

    Where branch and bound would need more than MAX_CELLS cells, which happens for `full` with long runs and
    test probabilities near 1/2, the tolerance is widened eightfold until it does not. `upper` is a bound in
    any case, and `upper - lower` is the gap to the true maximum at most. `leaves` collects the cells whose
    bounds `upper` is the largest of, which cover the domain: (2, k) arrays of t1, t2 (`simple`) or (4, k) of
    low1, low2, beta1, beta2 (`full`). Raises ParameterError for an unknown bound.
    """
    if bound not in ("simple", "full"):
        raise ParameterError(f"bound={bound!r} is unknown; choose 'simple' or 'full'")
    search = _certify_simple if bound == "simple" else _certify_full
    while True:
        found: list[Array] = []
        certificate = search(problem, tolerance, found)
        if certificate.num_cells < MAX_CELLS or tolerance > 1.0:
            if leaves is not None:
                leaves.extend(found)
            return certificate
        tolerance *= 8.0


def _certify_simple(problem: RoundProblem, tolerance: float, leaves: list[Array]) -> Certificate:
    lower = approximate_maximum(problem, "simple")[0]
    upper = -math.inf
    num_cells = 0
    edges = np.linspace(0.0, 1.0, 257)
    t1, t2 = edges[:-1], edges[1:]
    while t1.size:
        num_cells += t1.size
        bounds = problem.simple_cell_bound(t1, t2)
        lower = max(lower, float(problem.simple_value(t1).max()))
        open_cells = bounds > lower + tolerance
        middle = 0.5 * (t1 + t2)
        open_cells &= (middle > t1) & (middle < t2) & (num_cells < MAX_CELLS)
        if not open_cells.all():
            upper = max(upper, float(bounds[~open_cells].max()))
            leaves.append(np.stack([t1, t2])[:, ~open_cells])
        t1, t2, middle = t1[open_cells], t2[open_cells], middle[open_cells]
        t1, t2 = np.concatenate((t1, middle)), np.concatenate((middle, t2))
    return Certificate(upper + ROUNDING_ALLOWANCE, lower, num_cells, "simple")


def _first_cells() -> Array:
    """(4, k): low1, low2, beta1, beta2 of cells that cover 0 <= l <= 1 - beta."""
    lows = np.linspace(0.0, 1.0, 33)
    betas = np.concatenate(([0.0], np.exp2(np.arange(SMALLEST_BETA_EXPONENT, 1))))
    low1, beta1 = np.meshgrid(lows[:-1], betas[:-1], indexing="ij")
    low2, beta2 = np.meshgrid(lows[1:], betas[1:], indexing="ij")
    return np.stack([low1.ravel(), low2.ravel(), beta1.ravel(), beta2.ravel()])


def _certify_full(problem: RoundProblem, tolerance: float, leaves: list[Array]) -> Certificate:
    lower = approximate_maximum(problem, "full")[0]
    upper = -math.inf
    num_cells = 0
    stack = [_first_cells()]
    while stack:
        cells = stack.pop()
        if cells.shape[1] > CHUNK_CELLS:
            stack.append(cells[:, CHUNK_CELLS:])
            cells = cells[:, :CHUNK_CELLS]
        cells = cells[:, cells[0] + cells[2] <= 1.0]  # elsewhere l > u
        if not cells.size:
            continue
        num_cells += cells.shape[1]
        low1, low2, beta1, beta2 = cells
        bounds = problem.cell_bound(low1, low2, beta1, beta2)
        lower = max(lower, float(problem.value(low1, beta1).max()))
        width = np.maximum(low2 - low1, (beta2 - beta1) / np.maximum(beta2, 1e-300))
        open_cells = (bounds > lower + tolerance) & (width > 1e-15) & (num_cells < MAX_CELLS)
        if not open_cells.all():
            upper = max(upper, float(bounds[~open_cells].max()))
            leaves.append(cells[:, ~open_cells])
        if open_cells.any():
            stack.append(_split(problem, cells[:, open_cells], bounds[open_cells]))
    return Certificate(upper + ROUNDING_ALLOWANCE, lower, num_cells, "full")


def _split(problem: RoundProblem, cells: Array, bounds: Array) -> Array:
    """Halve every cell along the variable whose width contributes more to its bound."""
    low1, low2, beta1, beta2 = cells
    low, beta = 0.5 * (low1 + low2), 0.5 * (beta1 + beta2)
    inside = np.minimum(low, 1.0 - beta1)
    gain_low = bounds - problem.cell_bound(inside, inside, beta1, beta2)
    beta_inside = np.minimum(beta, 1.0 - low1)
    gain_beta = bounds - problem.cell_bound(low1, low2, beta_inside, beta_inside)
    by_low = gain_low >= gain_beta
    first = np.stack([low1, np.where(by_low, low, low2), beta1, np.where(by_low, beta2, beta)])
    second = np.stack([np.where(by_low, low, low1), low2, np.where(by_low, beta1, beta), beta2])
    return np.concatenate((first, second), axis=1)
