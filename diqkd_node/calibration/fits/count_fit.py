"""Maximum likelihood for counts: binomial (bright shots) or Poisson (photons), with errors and a test.

Fisher scoring with Levenberg's damping: each step solves the weighted normal equations of the model's
Jacobian, the weights being the inverse variances that the model itself predicts, so that points near 0 or 1
and bins with few counts get their due. The covariance is the inverse of the expected Fisher information.

The goodness of fit is the deviance (twice the log-likelihood ratio to the saturated model). For few counts it
does not follow a chi-squared distribution; its p-value is found by sampling counts from the fitted means. The
fit has absorbed part of the scatter, which scales the sampled deviances by degrees of freedom over points.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from diqkd_postproc.protocol.errors import ParameterError

Array = NDArray[np.float64]
Model = Callable[[Array], Array]

_TINY = 1e-9
_SAMPLES = 2000
_MAX_STEPS = 200


def fraction(angle: float) -> float:
    """A probability by its angle: sin^2. Levels near 0 or 1 are fitted as angles, which no step takes out of
    range and of which a binomial count tells the same everywhere."""
    return float(np.sin(angle) ** 2)


def angle(fraction: float) -> float:
    """The angle of a probability; what is outside 0.001 to 0.999 is moved there, where gradients exist."""
    return float(np.arcsin(np.sqrt(min(max(fraction, 1e-3), 1 - 1e-3))))


@dataclass(frozen=True)
class CountFit:
    """Best parameters of a model, in the order of `names`.

    `expected` are the fitted means of the counts, (n,); `covariance` is (k, k).
    """

    names: tuple[str, ...]
    parameters: Array
    covariance: Array
    expected: Array
    deviance: float
    degrees_of_freedom: int
    p_value: float

    def __getitem__(self, name: str) -> float:
        return float(self.parameters[self.names.index(name)])

    def standard_error(self, name: str) -> float:
        """Standard error of one parameter."""
        index = self.names.index(name)
        return float(np.sqrt(max(self.covariance[index, index], 0.0)))

    def derived(self, function: Callable[[Array], float]) -> tuple[float, float]:
        """Value and standard error of a function of the parameters, by its gradient."""
        value = float(function(self.parameters))
        steps = 1e-4 * np.sqrt(np.maximum(np.diag(self.covariance), 1e-300))
        gradient = np.array(
            [
                (function(self.parameters + step) - function(self.parameters - step)) / (2 * size)
                for step, size in zip(np.diag(steps), steps, strict=True)
            ]
        )
        return value, float(np.sqrt(max(gradient @ self.covariance @ gradient, 0.0)))


def fit_binomial(
    model: Model, names: Sequence[str], starts: Sequence[Sequence[float]], bright: Any, shots: Any
) -> CountFit:
    """Fit probabilities `model(parameters)` (n,) to `bright` of `shots`, both (n,).

    :param starts: first guesses, the best of which wins; each parameter's scale is taken from them
    :raises ParameterError: fewer points than parameters
    """
    shots = np.asarray(shots, dtype=np.float64)

    def mean(parameters: Array) -> Array:
        expected: Array = shots * np.clip(model(parameters), _TINY, 1 - _TINY)
        return expected

    def variance(expected: Array) -> Array:
        spread: Array = expected * (1 - expected / shots)
        return spread

    def deviance(counts: Array, expected: Array) -> Array:
        missing, expected_missing = shots - counts, shots - expected
        # The ratio is 0/0 only where the count is 0, for which xlogy gives 0.
        terms = xlogy(counts, counts / expected) + xlogy(missing, missing / expected_missing)
        total: Array = 2 * terms.sum(axis=-1)
        return total

    def sample(rng: np.random.Generator, expected: Array) -> Array:
        chances = expected / shots
        return rng.binomial(shots.astype(np.int64), chances, (_SAMPLES, len(shots))).astype(np.float64)

    return _fit(mean, variance, deviance, sample, names, starts, np.asarray(bright, dtype=np.float64))


def fit_poisson(
    model: Model, names: Sequence[str], starts: Sequence[Sequence[float]], counts: Any
) -> CountFit:
    """Fit means `model(parameters)` (n,) to `counts` (n,); otherwise as `fit_binomial`."""

    def mean(parameters: Array) -> Array:
        return np.maximum(model(parameters), _TINY)

    def variance(expected: Array) -> Array:
        return expected

    def deviance(counts: Array, expected: Array) -> Array:
        total: Array = 2 * (xlogy(counts, counts / expected) - counts + expected).sum(axis=-1)
        return total

    def sample(rng: np.random.Generator, expected: Array) -> Array:
        return rng.poisson(expected, (_SAMPLES, len(expected))).astype(np.float64)

    return _fit(mean, variance, deviance, sample, names, starts, np.asarray(counts, dtype=np.float64))


def _fit(
    mean: Model,
    variance: Callable[[Array], Array],
    deviance: Callable[[Array, Array], Array],
    sample: Callable[[np.random.Generator, Array], Array],
    names: Sequence[str],
    starts: Sequence[Sequence[float]],
    counts: Array,
) -> CountFit:
    freedom = len(counts) - len(names)
    if freedom < 1:
        raise ParameterError(
            f"{len(counts)} points cannot determine {len(names)} parameters; measure more points"
        )
    best: tuple[float, Array] | None = None
    for start in starts:
        parameters, reached = _descend(mean, variance, deviance, np.array(start, dtype=np.float64), counts)
        if best is None or reached < best[0]:
            best = reached, parameters
    assert best is not None
    reached, parameters = best
    expected = mean(parameters)
    jacobian = _jacobian(mean, parameters, _scales(np.array(starts[0], dtype=np.float64)))
    information = jacobian.T @ (jacobian / variance(expected)[:, None])
    covariance = _inverse(information)
    sampled = deviance(sample(np.random.default_rng(0), expected), expected) * freedom / len(counts)
    # Never 0: the observed deviance counts as one of the samples.
    p_value = (1 + int((sampled >= reached).sum())) / (1 + len(sampled))
    return CountFit(tuple(names), parameters, covariance, expected, reached, freedom, p_value)


def _scales(start: Array) -> Array:
    scales: Array = np.where(start == 0, 1.0, np.abs(start))
    return scales


def _jacobian(mean: Model, parameters: Array, scales: Array) -> Array:
    columns = []
    for step in np.diag(1e-6 * scales):
        columns.append((mean(parameters + step) - mean(parameters - step)) / (2 * step.max()))
    return np.array(columns).T


def _inverse(information: Array) -> Array:
    """Inverse by way of a unit diagonal, since parameters may differ by twenty orders of magnitude."""
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    inverse: Array = np.linalg.pinv(information / np.outer(scale, scale)) / np.outer(scale, scale)
    return inverse


def _descend(
    mean: Model,
    variance: Callable[[Array], Array],
    deviance: Callable[[Array, Array], Array],
    parameters: Array,
    counts: Array,
) -> tuple[Array, float]:
    scales = _scales(parameters)
    expected = mean(parameters)
    reached = float(deviance(counts, expected))
    damping = 1e-3
    for _ in range(_MAX_STEPS):
        jacobian = _jacobian(mean, parameters, scales) * scales
        weighted = jacobian / variance(expected)[:, None]
        information, gradient = jacobian.T @ weighted, weighted.T @ (counts - expected)
        diagonal = np.diag(information)
        improved = False
        while damping < 1e9:
            damped = information + np.diag(damping * np.maximum(diagonal, 1e-12 * diagonal.max() + 1e-300))
            step = scales * np.linalg.solve(damped, gradient)
            trial = mean(parameters + step)
            value = float(deviance(counts, trial))
            if value <= reached:
                improved = True
                break
            damping *= 8
        if not improved:
            break
        gain, reached = reached - value, value
        parameters, expected = parameters + step, trial
        damping = max(damping / 8, 1e-12)
        if gain < 1e-9 * (1 + reached):
            break
    return parameters, reached
