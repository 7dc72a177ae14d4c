"""Maximum likelihood for counts: binomial (bright shots) or Poisson (photons), with errors and a test.

Least squares of the signed square roots of each point's deviance, whose sum of squares is the deviance of the
fit: its minimum is the maximum of the likelihood, so that points near 0 or 1 and bins with few counts get
their due. The covariance is the inverse of the expected Fisher information.

The goodness of fit is the deviance (twice the log-likelihood ratio to the saturated model). For few counts it
does not follow a chi-squared distribution; its p-value is found by sampling counts from the fitted means. The
fit has absorbed part of the scatter, which scales the sampled deviances by degrees of freedom over points.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
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

    def deviances(counts: Array, expected: Array) -> Array:
        missing, expected_missing = shots - counts, shots - expected
        # The ratio is 0/0 only where the count is 0, for which xlogy gives 0.
        terms = xlogy(counts, counts / expected) + xlogy(missing, missing / expected_missing)
        return np.maximum(2 * terms, 0.0)

    def sample(rng: np.random.Generator, expected: Array) -> Array:
        chances = expected / shots
        return rng.binomial(shots.astype(np.int64), chances, (_SAMPLES, len(shots))).astype(np.float64)

    return _fit(mean, variance, deviances, sample, names, starts, np.asarray(bright, dtype=np.float64))


def fit_poisson(
    model: Model, names: Sequence[str], starts: Sequence[Sequence[float]], counts: Any
) -> CountFit:
    """Fit means `model(parameters)` (n,) to `counts` (n,); otherwise as `fit_binomial`."""

    def mean(parameters: Array) -> Array:
        return np.maximum(model(parameters), _TINY)

    def variance(expected: Array) -> Array:
        return expected

    def deviances(counts: Array, expected: Array) -> Array:
        return np.maximum(2 * (xlogy(counts, counts / expected) - counts + expected), 0.0)

    def sample(rng: np.random.Generator, expected: Array) -> Array:
        return rng.poisson(expected, (_SAMPLES, len(expected))).astype(np.float64)

    return _fit(mean, variance, deviances, sample, names, starts, np.asarray(counts, dtype=np.float64))


def _fit(
    mean: Model,
    variance: Callable[[Array], Array],
    deviances: Callable[[Array, Array], Array],
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
    scales = np.where(np.asarray(starts[0]) == 0, 1.0, np.abs(starts[0]))

    def jacobian(parameters: Array) -> Array:
        steps = np.diag(1e-6 * scales)
        columns = [mean(parameters + step) - mean(parameters - step) for step in steps]
        return np.array(columns).T / (2e-6 * scales)

    def roots(parameters: Array) -> Array:
        expected = mean(parameters)
        return np.sign(expected - counts) * np.sqrt(deviances(counts, expected))

    def slopes(parameters: Array) -> Array:
        # d(deviance)/d(mean) = 2 (mean - count)/variance; at the count itself the root's slope is 1/sigma.
        expected = mean(parameters)
        excess, root, spread = expected - counts, roots(parameters), variance(expected)
        near = np.abs(root) < 1e-3  # where the quotient would be one of rounding errors
        slope = np.where(near, 1 / np.sqrt(spread), excess / (spread * np.where(near, 1.0, root)))
        return slope[:, None] * jacobian(parameters)

    fits = [least_squares(roots, start, slopes, x_scale=scales, max_nfev=_MAX_STEPS) for start in starts]
    parameters = min(fits, key=lambda fit: fit.cost).x
    expected = mean(parameters)
    reached = float(deviances(counts, expected).sum())
    # The pseudo-inverse of the scaled root, since parameters may differ by twenty orders of magnitude.
    root = np.linalg.pinv(jacobian(parameters) * scales / np.sqrt(variance(expected))[:, None])
    covariance = root @ root.T * np.outer(scales, scales)
    counted = sample(np.random.default_rng(0), expected)
    sampled = deviances(counted, expected).sum(axis=-1) * freedom / len(counts)
    # Never 0: the observed deviance counts as one of the samples.
    p_value = (1 + int((sampled >= reached).sum())) / (1 + len(sampled))
    return CountFit(tuple(names), parameters, covariance, expected, reached, freedom, p_value)
