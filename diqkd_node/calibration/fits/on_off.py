"""Rate of a weak signal above a measured background: its posterior (SI Fig. S5).

Counts are seen in an exposure with signal and background, and in one with background alone. With flat priors
for both rates, not negative, the background is integrated out exactly: the posterior of the signal is a
mixture of gamma distributions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Array = NDArray[np.float64]
_GRID = 4001
_LARGE = 3000  # counts from which on the posterior is normal, to a part in a thousand of its width


@dataclass(frozen=True)
class SignalRate:
    """Mode and highest-density 95 % interval of the rate of a signal; `low` is 0 where nothing is seen."""

    mode: float
    low: float
    high: float


def signal_rate(
    num_on: int, exposure_on: float, num_off: int, exposure_off: float, probability: float = 0.95
) -> SignalRate:
    """Rate of the signal from `num_on` counts in `exposure_on` above a background of `num_off` counts in
    `exposure_off`; rates are per unit of exposure."""
    estimate = num_on / exposure_on - num_off / exposure_off
    spread = np.sqrt((num_on + 1) / exposure_on**2 + (num_off + 1) / exposure_off**2)
    grid = np.linspace(max(0.0, estimate - 7 * spread), max(estimate, 0.0) + 9 * spread, _GRID)
    if num_on > _LARGE:
        density = np.exp(-(((grid - estimate) / spread) ** 2) / 2)
    else:
        density = _density(grid, num_on, exposure_on, num_off, exposure_off)
    weights = density / density.sum()
    order = np.argsort(-weights, kind="stable")
    inside = order[: int(np.searchsorted(np.cumsum(weights[order]), probability)) + 1]
    return SignalRate(float(grid[np.argmax(density)]), float(grid[inside.min()]), float(grid[inside.max()]))


def _density(grid: Array, num_on: int, exposure_on: float, num_off: int, exposure_off: float) -> Array:
    """Posterior density on the grid, not normalised."""
    terms = np.arange(num_on + 1.0)
    # Weight of the term in which `terms` of the counts are the signal's.
    weights = terms * np.log1p(exposure_off / exposure_on)
    weights += gammaln(num_on + num_off - terms + 1) - gammaln(num_on - terms + 1)
    weights -= weights.max()
    kept = weights > -60
    terms, weights = terms[kept], weights[kept]
    mean = np.maximum(grid * exposure_on, 1e-300)
    logarithms = (
        weights[:, None]
        + terms[:, None] * np.log(mean)[None, :]
        - mean[None, :]
        - gammaln(terms + 1)[:, None]
    )
    density: Array = np.exp(logarithms - logarithms.max()).sum(axis=0)
    return density
