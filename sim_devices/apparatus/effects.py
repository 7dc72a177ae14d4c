"""Effect of "bright" that a round's pulses make on an ion, on a grid.

A node reports to the laboratory what it has measured as an effect. Effects are rounded, so that those that
differ by the rounding of a phase or a time are one, and results may be known by the number of an effect.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from sim_devices.apparatus import wire
from sim_devices.physics.ion import Ion, Pulse

Effect = tuple[float, float, float, float]  # e00, e11, real and imaginary part of e10

EFFECT_STEP = 2.0**-14  # moves the probability of a result by less than 1e-4
MAX_EFFECTS = 4096
UNREAD: Effect = (0.5, 0.5, 0.0, 0.0)
"""Of a round that was not read out: it leaves the other ion its reduced state."""


def rounded(effect: Effect) -> Effect:
    """The effect on the grid of `EFFECT_STEP`."""
    e00, e11, real, imaginary = (round(value / EFFECT_STEP) * EFFECT_STEP for value in effect)
    return e00, e11, real, imaginary


@lru_cache(maxsize=1024)  # most rounds repeat one
def check_effect(e00: float, e11: float, real: float, imaginary: float) -> None:
    """Raise WireError unless both eigenvalues are in [0, 1], but for rounding."""
    middle = (e00 + e11) / 2
    radius = np.hypot((e00 - e11) / 2, np.hypot(real, imaginary))
    if not (middle - radius >= -2 * EFFECT_STEP and middle + radius <= 1 + 2 * EFFECT_STEP):  # NaN fails, too
        raise wire.WireError("an effect with eigenvalues outside [0, 1]")


class PulseEffects:
    """Effects of sequences of pulses, remembered for the rounds that repeat them."""

    def __init__(self, ion: Ion) -> None:
        self._ion = ion
        self._effects: dict[Any, Effect] = {}

    def of(self, key: tuple[Any, ...]) -> Effect:
        """Effect of (readout, *pulses), all times in mu after the herald; see `HeraldedRound.pulses`."""
        effect = self._effects.get(key)
        if effect is None:
            if len(self._effects) >= MAX_EFFECTS:
                self._effects.clear()
            effect = self._effects[key] = self._evolve(key)
        return effect

    def _evolve(self, key: tuple[Any, ...]) -> Effect:
        pulses = tuple(
            Pulse(1e-9 * start, 1e-9 * duration, frequency, phase, amplitude, 1e-9 * reference)
            for start, duration, frequency, phase, amplitude, reference in key[1:]
        )
        matrix = self._ion.bright_effect(pulses, 1e-9 * key[0])
        e00, e11, e10 = float(matrix[0, 0].real), float(matrix[1, 1].real), complex(matrix[1, 0])
        return rounded((e00, e11, e10.real, e10.imag))
