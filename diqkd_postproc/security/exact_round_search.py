"""Certified maximum over all strategies of one round: branch and bound on the two angles of Theorem 5.

Rectangles of angles (theta, phi) are halved until every one of them is bounded by `exact_round.cell_bounds`
below the best value found plus a tolerance. The states at their corners start from the mean of the parents'
(of the logarithms) and are improved until the duality gap is a tenth of the tolerance: bad states cost cells,
never safety.

Double precision: with eigenvalues above 1e-9 the bounds err by at most 7.2e-8 (alpha - 1); `ROUNDING_SHARE`
times alpha - 1 is added (docs/one_round.md, 4). A cover can be kept and bounded again in ball arithmetic.
Derived for this project, not peer-reviewed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.security.exact_round import Array, ExactRound, Indices, LogStates, cell_bounds
from diqkd_postproc.security.renyi_round import Certificate

ROUNDING_SHARE = 1e-6
"""Added to certified values of f - 1, in units of alpha - 1: the margin of docs/one_round.md, section 4."""

TOLERANCE_SHARE = 2e-6
"""Default tolerance, in units of alpha - 1: 2.9e-6 bits of key a round."""

NUM_DIVISIONS = 16
"""Divisions of pi/4 in the first cover; phi has as many on each pi/4."""

MAX_LEVELS = 22
MAX_CELLS = 400_000
"""Beyond, the tolerance is widened: `upper - lower` tells by how much."""

FIRST_STEPS = 60
STEPS_AT_A_TIME = 4
MAX_STEPS = 40
GAP_SHARE = 0.1
"""Duality gap of the states to aim at, as a part of the tolerance."""

# Lattice points of a halved rectangle, rows of phi, as mixtures of its corners (0,0), (1,0), (0,1), (1,1).
_CHILD_COLUMNS = np.array([0, 1, 2] * 3)
_CHILD_ROWS = np.repeat([0, 1, 2], 3)
_CHILD_WEIGHTS = np.array(
    [
        [(2 - c) * (2 - r) / 4, c * (2 - r) / 4, (2 - c) * r / 4, c * r / 4]
        for c, r in zip(_CHILD_COLUMNS, _CHILD_ROWS, strict=True)
    ]
)


@dataclass(frozen=True, slots=True)
class Strategies:
    """K strategies: angles and values of shape (K,), and their states."""

    theta: Array
    phi: Array
    states: LogStates
    value: Array


@dataclass(frozen=True, slots=True)
class Leaves:
    """Rectangles of one size that are bounded, as lattice points in units of pi / (4 divisions).

    columns, rows: (N,) lattice coordinates of theta and phi of the corners. states: theirs. corners: (n, 4)
    indices of each rectangle's corners, in the order of `cell_bounds`.
    """

    divisions: int
    columns: Indices
    rows: Indices
    states: LogStates
    corners: Indices


def _lattice(problem: ExactRound, divisions: int) -> tuple[Indices, Indices, Indices]:
    """Columns and rows of a full lattice, and the corners of its rectangles."""
    num_columns = divisions + 1
    num_rows = round(problem.largest_phi / problem.largest_theta) * divisions + 1
    columns, rows = np.meshgrid(np.arange(num_columns), np.arange(num_rows), indexing="ij")
    index = np.arange(columns.size, dtype=np.int64).reshape(columns.shape)
    corners = np.stack([index[:-1, :-1], index[1:, :-1], index[:-1, 1:], index[1:, 1:]], axis=-1)
    return columns.ravel().astype(np.int64), rows.ravel().astype(np.int64), corners.reshape(-1, 4)


def _angles(places: Indices, unit: float) -> Array:
    angles: Array = places.astype(np.float64) * unit
    return angles


def improve(
    problem: ExactRound, theta: Array, phi: Array, states: LogStates, goal: float, steps: int
) -> LogStates:
    """States whose duality gap is below `goal`, or that have had `steps` steps."""
    mean, axis = states.mean.copy(), states.axis.copy()
    active = np.arange(theta.size)
    for _ in range(-(-steps // STEPS_AT_A_TIME)):
        part = LogStates(mean[:, active], axis[:, active])
        part = problem.ascend(theta[active], phi[active], part, STEPS_AT_A_TIME)
        mean[:, active], axis[:, active] = part.mean, part.axis
        duals = problem.duals(theta[active], phi[active], part)
        active = active[duals.largest - duals.value > goal]
        if not active.size:
            break
    return LogStates(mean, axis)


def local_maxima(problem: ExactRound, divisions: int = NUM_DIVISIONS, num_kept: int = 4) -> Strategies:
    """The best strategies of a lattice, each improved by a pattern search: lower bounds of the value."""
    columns, rows, _ = _lattice(problem, divisions)
    unit = math.pi / 4 / divisions
    theta, phi = _angles(columns, unit), _angles(rows, unit)
    goal = 1e-4 * problem.order_minus_one
    states = improve(problem, theta, phi, LogStates.start(theta.size), goal, FIRST_STEPS)
    values = problem.duals(theta, phi, states).value.reshape(divisions + 1, -1)
    padded = np.pad(values, 1, constant_values=-np.inf)
    around = [
        padded[1 + i : padded.shape[0] - 1 + i, 1 + j : padded.shape[1] - 1 + j]
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
    ]
    peaks = np.flatnonzero((values >= np.max(around, axis=0)).ravel())
    peaks = peaks[np.argsort(-values.ravel()[peaks], kind="stable")][:num_kept]
    return _climbed(problem, theta[peaks], phi[peaks], states.take(peaks), unit / 2)


def _climbed(problem: ExactRound, theta: Array, phi: Array, states: LogStates, step: float) -> Strategies:
    """Pattern search from each strategy: the best of nine points, then half the step."""
    shift = np.array([(i, j) for i in (0, -1, 1) for j in (0, -1, 1)], dtype=np.float64)
    kept = np.arange(theta.size)
    values = problem.duals(theta, phi, states).value
    for _ in range(10):
        thetas = np.clip(theta[:, None] + step * shift[:, 0], 0.0, problem.largest_theta)
        phis = np.clip(phi[:, None] + step * shift[:, 1], 0.0, problem.largest_phi)
        around = states.take(np.repeat(kept, 9))
        around = problem.ascend(thetas.ravel(), phis.ravel(), around, 8)
        found = problem.duals(thetas.ravel(), phis.ravel(), around).value.reshape(-1, 9)
        best = found.argmax(axis=1)
        theta, phi, values = thetas[kept, best], phis[kept, best], found[kept, best]
        states = around.take(9 * kept + best)
        step /= 2
    return Strategies(theta, phi, states, values)


def certify_exact(
    problem: ExactRound, tolerance: float | None = None, leaves: list[Leaves] | None = None
) -> Certificate:
    """Certified maximum of f - 1 over all strategies of one round, to within `tolerance` and the margin.

    tolerance: absolute; None for `TOLERANCE_SHARE` (alpha - 1). `leaves` collects rectangles that cover all
    angles, with the states that bound them.
    """
    if tolerance is None:
        tolerance = TOLERANCE_SHARE * problem.order_minus_one
    if not tolerance > 0.0:
        raise ParameterError(f"tolerance={tolerance} is not positive; give some 1e-6 times alpha - 1")
    best = float(local_maxima(problem).value.max())
    while True:
        found: list[Leaves] = []
        upper, best, num_cells = _cover(problem, best, tolerance, found)
        if math.isfinite(upper):
            break
        tolerance *= 4.0
    if leaves is not None:
        leaves.extend(found)
    return Certificate(upper - 1.0 + ROUNDING_SHARE * problem.order_minus_one, best - 1.0, num_cells, "exact")


def _cover(
    problem: ExactRound, best: float, tolerance: float, leaves: list[Leaves]
) -> tuple[float, float, int]:
    """Largest bound, infinite if it took too many cells; best value; number of cells looked at."""
    divisions = NUM_DIVISIONS
    columns, rows, corners = _lattice(problem, divisions)
    states, steps = LogStates.start(columns.size), FIRST_STEPS
    upper, num_cells = -math.inf, 0
    for _ in range(MAX_LEVELS):
        unit = math.pi / 4 / divisions
        theta, phi = _angles(columns, unit), _angles(rows, unit)
        states = improve(problem, theta, phi, states, GAP_SHARE * tolerance, steps)
        steps = MAX_STEPS
        duals = problem.duals(theta, phi, states)
        best = max(best, float(duals.value.max()))
        bounds = cell_bounds(duals, corners, unit, unit)
        num_cells += corners.shape[0]
        is_open = ~(bounds <= best + tolerance)
        if not is_open.all():
            upper = max(upper, float(bounds[~is_open].max()))
            leaves.append(Leaves(divisions, columns, rows, states, corners[~is_open]))
        if not is_open.any():
            return upper, best, num_cells
        if num_cells + 4 * int(is_open.sum()) > MAX_CELLS:
            break
        columns, rows, states, corners = _halved(columns, rows, states, corners[is_open])
        divisions *= 2
    return math.inf, best, num_cells


def _halved(
    columns: Indices, rows: Indices, states: LogStates, corners: Indices
) -> tuple[Indices, Indices, LogStates, Indices]:
    """The lattice, states and corners of rectangles halved in both variables."""
    lattice_columns = (2 * columns[corners[:, :1]] + _CHILD_COLUMNS).ravel()
    lattice_rows = (2 * rows[corners[:, :1]] + _CHILD_ROWS).ravel()
    mean = (states.mean[:, corners] @ _CHILD_WEIGHTS.T).reshape(2, -1)
    axis = (states.axis[:, corners] @ _CHILD_WEIGHTS.T).reshape(2, -1)
    key = lattice_columns * (1 << 32) + lattice_rows
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    points = inverse.reshape(-1, 9)
    children = [points[:, [o, o + 1, o + 3, o + 4]] for o in (0, 1, 3, 4)]
    mixed = LogStates(mean[:, first], axis[:, first]).normalised()
    return lattice_columns[first], lattice_rows[first], mixed, np.concatenate(children).astype(np.int64)
