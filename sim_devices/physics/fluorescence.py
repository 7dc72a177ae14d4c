"""Photon counts of the readout: Poisson, with the decay of D5/2 turning dark ions bright on the way.

Counts are drawn from precomputed blocks, since a NumPy call a round would cost more than the rest of it.
"""

import math
from collections.abc import Callable, Iterator
from typing import Self

import numpy as np

from sim_devices.physics import constants

_BLOCK = 4096


class PhotonCounter:
    """Draws the counts of a gate of given duration (s) for a bright, dark or absent ion; rates in 1/s."""

    def __init__(
        self,
        rng: np.random.Generator,
        bright_rate: float = constants.BRIGHT_COUNT_RATE,
        dark_rate: float = constants.DARK_COUNT_RATE,
    ) -> None:
        self._rng = rng
        self._bright_rate = bright_rate
        self._dark_rate = dark_rate
        self._uniform = self._uniforms().__next__
        self._poisson: dict[float, Callable[[], int]] = {}

    def with_stream(self, rng: np.random.Generator) -> Self:
        """A counter of the same rates with random numbers of its own."""
        return type(self)(rng, self._bright_rate, self._dark_rate)

    def bright(self, duration: float) -> int:
        return self._draw(self._bright_rate * duration)

    def background(self, duration: float) -> int:
        return self._draw(self._dark_rate * duration)

    def dark(self, duration: float) -> int:
        """Counts of an ion that starts in D5/2."""
        decay_after = -constants.D_LIFETIME * math.log(1.0 - self._uniform())
        if decay_after >= duration:
            return self._draw(self._dark_rate * duration)
        excess = (self._bright_rate - self._dark_rate) * (duration - decay_after)
        return int(self._rng.poisson(self._dark_rate * duration + excess))

    def uniform(self) -> float:
        """A number in [0, 1)."""
        return self._uniform()

    def _draw(self, mean: float) -> int:
        draw = self._poisson.get(mean)
        if draw is None:
            if len(self._poisson) > 64:
                self._poisson.clear()
            draw = self._poisson[mean] = self._counts(mean).__next__
        return draw()

    def _counts(self, mean: float) -> Iterator[int]:
        while True:
            yield from self._rng.poisson(mean, _BLOCK).tolist()

    def _uniforms(self) -> Iterator[float]:
        while True:
            yield from self._rng.random(_BLOCK).tolist()


def _poisson_below(mean: float, threshold: int) -> float:
    return math.fsum(math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(threshold))


def discrimination(
    threshold: int = constants.READOUT_THRESHOLD, window: float = constants.READOUT_WINDOW
) -> tuple[float, float]:
    """P(counts >= threshold) for an ion in S1/2 and for one in D5/2 at the start of the window."""
    low, high = constants.DARK_COUNT_RATE * window, constants.BRIGHT_COUNT_RATE * window
    bright = 1 - _poisson_below(high, threshold)
    survives = math.exp(-window / constants.D_LIFETIME)
    # After a decay, the fraction of the window spent bright is uniform to first order in window/lifetime.
    fractions = (np.arange(400) + 0.5) / 400
    after_decay = np.mean([1 - _poisson_below(low + (high - low) * f, threshold) for f in fractions])
    dark = survives * (1 - _poisson_below(low, threshold)) + (1 - survives) * float(after_decay)
    return bright, dark
