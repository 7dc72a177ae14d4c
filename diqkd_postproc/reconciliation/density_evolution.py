"""Density evolution: the distance from the Shannon limit at which an ensemble decodes infinite blocks.

Quantised density evolution (Richardson, Urbanke, IEEE TIT 47, 599 (2001); Chung et al., IEEE Commun. Lett. 5,
58 (2001)): the distribution of a message, given that the transmitted bit is 0, is followed through the
iterations on a grid of log-likelihood ratios. Key and test columns have their own channels and degrees and
mix in the checks, whose degrees are concentrated, so one density of check-to-variable messages suffices.

A check multiplies signs and combines magnitudes by box-plus, 2 atanh(tanh(a/2) tanh(b/2)). With p+ and p-
the masses at +a and -a, the sums p+ + p- and the differences p+ - p- combine separately.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numba as nb
import numpy as np
from numpy.typing import NDArray

from diqkd_postproc.reconciliation.ensemble import DegreeEnsemble, conditional_entropy

Density = NDArray[np.float64]
"""(2 K + 1,) masses at the ratios -K step .. K step."""

MIN_RELATIVE_PROGRESS = 1e-6
"""Relative gain of entropy in an iteration below which a fixed point is reached."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Quantisation: `half_size` steps of `step` on either side of zero; the ends collect all beyond."""

    step: float = 0.05
    half_size: int = 500

    def two_point(self, error_rate: float) -> Density:
        """Density of a binary symmetric channel's ratio, its mass shared by the nearest grid points.

        (2 half_size + 1,) float64, log-likelihood ratios +-log((1 - e) / e) given a zero; linear
        interpolation keeps their mean.
        """
        place = math.log((1 - error_rate) / error_rate) / self.step
        place = min(place, self.half_size - 1e-9)
        low = math.floor(place)
        density = np.zeros(2 * self.half_size + 1)
        for sign, mass in ((1, 1 - error_rate), (-1, error_rate)):
            density[self.half_size + sign * low] += mass * (low + 1 - place)
            density[self.half_size + sign * (low + 1)] += mass * (place - low)
        return density

    def error_rate(self, density: Density) -> float:
        """Probability that the hard decision is wrong; ties count half."""
        return float(density[: self.half_size].sum() + density[self.half_size] / 2)

    def entropy(self, density: Density) -> float:
        """Mean of log2(1 + exp(-ratio)): what is not known of the bit; falls with every iteration.

        Bits, from 0 (known) to 1.
        """
        ratios = np.arange(-self.half_size, self.half_size + 1) * self.step
        return float(density @ np.logaddexp(0.0, -ratios)) / math.log(2)


COARSE_GRID = Grid(step=0.1, half_size=220)
"""Thresholds 0.04 % and 0.16 % above the fine grid's, for the robust and the near-limit ensemble."""


@lru_cache(maxsize=4)
def _box_plus_table(grid: Grid) -> NDArray[np.int32]:
    """(K + 1, K + 1) int32: grid index of the box-plus of two magnitudes, rounded to nearest."""
    tanh = np.tanh(np.arange(grid.half_size + 1) * grid.step / 2)
    product = np.minimum(np.outer(tanh, tanh), 1 - 1e-16)
    table: NDArray[np.int32] = np.rint(2 * np.arctanh(product) / grid.step).astype(np.int32)
    return np.minimum(table, grid.half_size)


NEGLIGIBLE = 1e-16
"""Mass that is left out of products; all of it together changes no entropy that matters."""


@nb.njit("void(float64[:, ::1], float64[:, ::1], int32[:, ::1], float64[:, ::1])", cache=True, nogil=True)
def _combine(a, b, table, out):  # type: ignore[no-untyped-def]
    """Box-plus of two densities in sums-and-differences form, (2, K + 1) each."""
    out[:] = 0.0
    first, last = 0, b.shape[1]
    while first < last and b[0, first] < NEGLIGIBLE:
        first += 1
    while last > first and b[0, last - 1] < NEGLIGIBLE:
        last -= 1
    for i in range(a.shape[1]):
        if a[0, i] < NEGLIGIBLE:
            continue
        for j in range(first, last):
            k = table[i, j]
            out[0, k] += a[0, i] * b[0, j]
            out[1, k] += a[1, i] * b[1, j]


def _power(base: Density, exponent: int, product: Callable[[Density, Density], Density]) -> Density:
    """base combined with itself, `exponent` factors, by repeated squaring; exponent >= 1."""
    result = None
    while True:
        if exponent & 1:
            result = base if result is None else product(result, base)
        exponent >>= 1
        if exponent == 0:
            assert result is not None
            return result
        base = product(base, base)


def check_update(density: Density, degrees: Mapping[int, float], grid: Grid) -> Density:
    """Density out of the checks; `degrees` are fractions of edges by check degree."""
    table = _box_plus_table(grid)
    half = grid.half_size
    positive, negative = density[half:].copy(), density[half::-1].copy()
    positive[0] = negative[0] = density[half] / 2

    def product(a: Density, b: Density) -> Density:
        out = np.empty_like(a)
        _combine(a, b, table, out)
        return out

    base = np.stack((positive + negative, positive - negative))
    lowest = min(degrees)
    power = _power(base, lowest - 1, product)
    mixed = np.zeros_like(base)
    for degree in range(lowest, max(degrees) + 1):
        mixed += degrees.get(degree, 0.0) * power
        if degree < max(degrees):
            power = product(power, base)
    result = np.zeros_like(density)
    result[half:] += (mixed[0] + mixed[1]) / 2
    result[half::-1] += (mixed[0] - mixed[1]) / 2
    return result


def add_ratios(a: Density, b: Density) -> Density:
    """Density of the sum of two independent ratios, on the same saturating grid.

    By FFT; mass beyond the grid's ends is collected in its last bins.
    """
    half = a.size // 2
    size = 1 << (2 * a.size - 1).bit_length()
    full = np.fft.irfft(np.fft.rfft(a, size) * np.fft.rfft(b, size), size)[: 2 * a.size - 1]
    full = np.maximum(full, 0.0)
    result = full[half : half + a.size].copy()
    result[0] += full[:half].sum()
    result[-1] += full[half + a.size :].sum()
    return result


def _variable_update(
    density: Density, channels: Sequence[tuple[Density, Mapping[int, float]]], grid: Grid
) -> Density:
    """Density out of the variables; `channels`: each class's channel and its edge fractions by degree."""
    powers: dict[int, Density] = {1: density}

    def power(exponent: int) -> Density:
        if exponent not in powers:
            powers[exponent] = add_ratios(power(exponent // 2), power(exponent - exponent // 2))
        return powers[exponent]

    result = np.zeros_like(density)
    for channel, edges in channels:
        mixture = np.zeros_like(density)
        for degree, share in edges.items():
            if degree == 1:
                result += share * channel
            else:
                mixture += share * power(degree - 1)
        result += add_ratios(channel, mixture)
    total: float = result.sum()
    return result / total


def converges(
    channels: Sequence[tuple[Density, Mapping[int, float]]],
    check_degrees: Mapping[int, float],
    grid: Grid,
    max_iterations: int,
    target: float = 1e-6,
) -> bool:
    """Whether the error rate of variable-to-check messages falls below `target`.

    channels: densities with the edge fractions by column degree that see them. target: error probability.
    False where an iteration makes too little progress, or after `max_iterations`.
    """
    silent = np.zeros(2 * grid.half_size + 1)
    silent[grid.half_size] = 1.0
    message = _variable_update(silent, channels, grid)
    before = grid.entropy(message)
    for _ in range(max_iterations):
        message = _variable_update(check_update(message, check_degrees, grid), channels, grid)
        if grid.error_rate(message) < target:
            return True
        entropy = grid.entropy(message)
        if entropy > before * (1 - MIN_RELATIVE_PROGRESS):
            return False
        before = entropy
    return False


def edge_fractions(
    ensemble: DegreeEnsemble, gamma: float
) -> tuple[dict[int, float], dict[int, float], float]:
    """Edge fractions of key and of test columns by degree (together 1), and edges per round."""
    key_total, test_total = sum(ensemble.key_degrees.values()), sum(ensemble.test_degrees.values())
    key = {d: (1 - gamma) * d * share / key_total for d, share in ensemble.key_degrees.items()}
    test = {d: gamma * d * share / test_total for d, share in ensemble.test_degrees.items()}
    edges = sum(key.values()) + sum(test.values())
    return {d: e / edges for d, e in key.items()}, {d: e / edges for d, e in test.items()}, edges


def concentrated_check_degrees(mean: float) -> dict[int, float]:
    """Edge fractions of the two integer check degrees around `mean`."""
    low = math.floor(mean)
    upper_nodes = mean - low
    return {low: (1 - upper_nodes) * low / mean, low + 1: upper_nodes * (low + 1) / mean}


def decodes(
    ensemble: DegreeEnsemble,
    efficiency: float,
    gamma: float,
    qber: float,
    test_error: float,
    grid: Grid | None = None,
    max_iterations: int = 1000,
) -> bool:
    """Whether the ensemble decodes with a syndrome of `efficiency` times the Shannon limit.

    gamma, qber, test_error: the channel. grid: None for the default one; a coarser one is faster and
    slightly pessimistic.
    """
    grid = grid or Grid()
    key, test, edges = edge_fractions(ensemble, gamma)
    overhead = efficiency * conditional_entropy(gamma, qber, test_error)
    if overhead >= 1.0:
        return True  # A syndrome as long as the block: every outcome can be a bit of it.
    mean = edges / overhead
    channels = [(grid.two_point(qber), key), (grid.two_point(test_error), test)]
    return converges(channels, concentrated_check_degrees(mean), grid, max_iterations)


def threshold_efficiency(
    ensemble: DegreeEnsemble,
    gamma: float,
    qber: float,
    test_error: float,
    grid: Grid | None = None,
    max_iterations: int = 1000,
    precision: float = 1e-3,
) -> float:
    """Smallest efficiency in [1, 4] at which the ensemble decodes, to `precision`, from above.

    Of a spatially coupled chain, whose places would all have densities of their own, the stated threshold.
    """
    if ensemble.chain_length:
        return ensemble.threshold
    low, high = 1.0, 4.0
    while high - low > precision:
        middle = (low + high) / 2
        if decodes(ensemble, middle, gamma, qber, test_error, grid, max_iterations):
            high = middle
        else:
            low = middle
    return high
