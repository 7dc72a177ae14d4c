"""Degree distributions for a channel, by successive linear programmes on density evolution.

The method of Chung, Forney, Richardson and Urbanke (IEEE Commun. Lett. 5, 58 (2001)), with two classes of
columns: follow density evolution of the present ensemble; the entropy of the next message is linear in the
edge fractions; move them, a little at a time, to shorten the syndrome while the entropy still falls in every
iteration. The check degree is held fixed in a run. The search has no randomness.

The results are shipped as numbers in `ensemble`: both parties must build the same code, and the outcome of a
floating-point optimisation is nothing to agree on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.reconciliation.density_evolution import (
    COARSE_GRID,
    Density,
    Grid,
    add_ratios,
    check_update,
)
from diqkd_postproc.reconciliation.ensemble import DegreeEnsemble, conditional_entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignProblem:
    """A channel, the degrees to choose from, and limits for the sake of finite blocks.

    weak_share: upper limit of (edge fraction of degree two) x (check degree) / 2, which keeps the columns of
    degree two off short cycles. retained_gap: share of the entropy gain of every iteration that a step must
    leave, which keeps the decoder quick.
    """

    gamma: float
    qber: float
    test_error: float
    check_degree: int
    key_degrees: Sequence[int]
    test_degrees: Sequence[int]
    weak_share: float = 1.8
    retained_gap: float = 0.5
    trust: float = 0.02
    max_iterations: int = 300
    grid: Grid = COARSE_GRID

    @property
    def types(self) -> list[tuple[bool, int]]:
        """(is test, degree) of every kind of column."""
        return [(False, d) for d in self.key_degrees] + [(True, d) for d in self.test_degrees]

    def efficiency(self, edges: NDArray[np.float64]) -> float:
        """Syndrome length in units of the Shannon limit, for edge fractions in the order of `types`."""
        columns = edges @ (1.0 / np.array([d for _, d in self.types]))
        limit = conditional_entropy(self.gamma, self.qber, self.test_error)
        return float(1.0 / (self.check_degree * columns * limit))


def _trajectory(
    problem: DesignProblem, edges: NDArray[np.float64], target: float = 1e-5
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Entropies before each iteration (T,) and, by kind of column, after it (T, kinds); None if stuck."""
    grid = problem.grid
    channel = {False: grid.two_point(problem.qber), True: grid.two_point(problem.test_error)}

    def outputs(message: Density) -> list[Density]:
        powers: dict[int, Density] = {1: message}

        def power(exponent: int) -> Density:
            if exponent not in powers:
                powers[exponent] = add_ratios(power(exponent // 2), power(exponent - exponent // 2))
            return powers[exponent]

        return [add_ratios(channel[is_test], power(degree - 1)) for is_test, degree in problem.types]

    def mix(densities: list[Density]) -> Density:
        mixed: Density = np.tensordot(edges, np.array(densities), axes=1)
        total: float = mixed.sum()
        return np.asarray(mixed / total)

    silent = np.zeros(2 * grid.half_size + 1)
    silent[grid.half_size] = 1.0
    message = mix(outputs(silent))
    before: list[float] = []
    after: list[list[float]] = []
    for _ in range(problem.max_iterations):
        entropy = grid.entropy(message)
        densities = outputs(check_update(message, {problem.check_degree: 1.0}, grid))
        before.append(entropy)
        after.append([grid.entropy(d) for d in densities])
        message = mix(densities)
        new_entropy = grid.entropy(message)
        if new_entropy < target:
            return np.array(before), np.array(after)
        if new_entropy > entropy * (1 - 1e-5):
            return None
    return None


def _step(
    problem: DesignProblem, edges: NDArray[np.float64], trust: float
) -> tuple[NDArray[np.float64] | None, bool]:
    """Edge fractions of a shorter syndrome nearby; whether the present ones decode at all."""
    trajectory = _trajectory(problem, edges)
    if trajectory is None:
        return None, False
    before, after = trajectory
    gain = before - after @ edges
    inverse = 1.0 / np.array([d for _, d in problem.types])
    is_test = np.array([t for t, _ in problem.types], dtype=float)
    scale = 1.0 / before
    upper = np.minimum(1.0, edges + trust)
    for kind, (_, degree) in enumerate(problem.types):
        if degree == 2:
            upper[kind] = min(upper[kind], 2 * problem.weak_share / problem.check_degree)
    solution = linprog(
        -inverse,
        A_ub=after * scale[:, None],
        b_ub=(before - problem.retained_gap * gain) * scale,
        A_eq=np.stack((np.ones_like(inverse), inverse * (is_test - problem.gamma))),
        b_eq=np.array([1.0, 0.0]),
        bounds=list(zip(np.maximum(0.0, edges - trust), upper, strict=True)),
        method="highs",
    )
    return (np.asarray(solution.x) if solution.status == 0 else None), True


def starting_point(
    problem: DesignProblem, key: dict[int, float], test: dict[int, float]
) -> NDArray[np.float64]:
    """Edge fractions of column fractions by degree within each class."""
    shares = {False: key, True: test}
    weight = {False: (1 - problem.gamma) / sum(key.values()), True: problem.gamma / sum(test.values())}
    edges = np.array([weight[t] * shares[t].get(d, 0.0) * d for t, d in problem.types])
    total: float = edges.sum()
    return edges / total


def design(
    problem: DesignProblem, start: NDArray[np.float64], name: str, max_steps: int = 40
) -> DegreeEnsemble:
    """Improve `start` (edge fractions in the order of `types`, must decode) step by step.

    Raises ParameterError if the start does not decode.
    """
    best, trust = start, problem.trust
    candidate, decodes = _step(problem, best, trust)
    if not decodes:
        raise ParameterError(
            f"the starting ensemble does not decode at check degree {problem.check_degree} "
            f"(efficiency {problem.efficiency(start):.3f}); lower the check degree"
        )
    for _ in range(max_steps):
        following, decodes = (None, False) if candidate is None else _step(problem, candidate, trust)
        if candidate is not None and decodes:
            gained = problem.efficiency(best) - problem.efficiency(candidate)
            best, candidate = candidate, following
            if gained < 1e-4:
                break
        else:
            trust /= 2
            if trust < 1e-3:
                break
            candidate, _ = _step(problem, best, trust)
    columns = {kind: best[i] / kind[1] for i, kind in enumerate(problem.types) if best[i] > 1e-4}
    return DegreeEnsemble(
        name,
        key_degrees={d: share for (is_test, d), share in columns.items() if not is_test},
        test_degrees={d: share for (is_test, d), share in columns.items() if is_test},
        threshold=problem.efficiency(best),
    )
