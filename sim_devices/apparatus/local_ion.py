"""Ion of a node that works alone: optically pumped, driven at 674 nm and measured, without any herald.

A sequence begins with the end of the pumping light, in S1/2 m=+1/2, and ends with the next 422 nm light,
which projects. What it does to the four levels follows from the pulses alone. Between them a magnetic field
that differs from shot to shot, but not within one, turns their phases: a Gaussian field, averaged by
quadrature, gives each transition the contrast that SI Table S3 describes.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_devices.physics import constants
from sim_devices.physics.ion import Ion, Pulse
from sim_devices.physics.node_parameters import Nature

_NUM_FIELDS = 32
_MAX_SEQUENCES = 4096
_MAX_PULSES = 64


class LocalIon:
    """Population of S1/2 after a sequence, remembered for the sequences that a scan repeats."""

    def __init__(self, nature: Nature) -> None:
        self._nature = nature
        self._ion = Ion(nature.coherence_time, nature.pulse_error, nature.transitions)
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NUM_FIELDS)
        self._weights = weights / weights.sum()
        # Hz by which each level is shifted in each field (fields, levels).
        spread = math.sqrt(2.0) / (2 * math.pi * nature.coherence_time)
        self._shifts = spread * nodes[:, None] * np.array(constants.LEVEL_SENSITIVITY)
        self._sequences: dict[Any, float] = {}
        self._pumped_mu = -1
        self._wrong = 0.0
        self._pulses: list[tuple[Any, ...]] = []

    @property
    def coherent(self) -> bool:
        """Whether a sequence is under way."""
        return self._pumped_mu >= 0

    def pump(self, start_mu: int, stop_mu: int) -> None:
        """Optical pumping of an ion in S1/2; begins a sequence."""
        nature = self._nature
        unpumped = (
            math.exp(-1e-9 * (stop_mu - start_mu) / nature.pumping_time) if nature.pumping_time else 0.0
        )
        self._wrong = round(nature.pumping_error + (0.5 - nature.pumping_error) * unpumped, 9)
        self._pumped_mu = stop_mu
        self._pulses.clear()

    def drive(
        self, start_mu: int, stop_mu: int, frequency: float, phase: float, amplitude: float, ref_mu: int
    ) -> None:
        """A 674 nm pulse within a sequence; phase in turns, tracked from `ref_mu`."""
        if self.coherent and len(self._pulses) < _MAX_PULSES:
            self._pulses.append((start_mu, stop_mu, frequency, phase, amplitude, ref_mu))

    def forget(self) -> None:
        """End the sequence without a look at the ion."""
        self._pumped_mu = -1

    def ground_population(self) -> float:
        """Probability that the light which ends the sequence finds the ion in S1/2."""
        self._pumped_mu = -1
        if not self._pulses:
            return 1.0
        origin = self._pulses[0][0]
        key = (
            self._wrong,
            *(
                (start - origin, stop - origin, frequency, phase, amplitude, reference - origin)
                for start, stop, frequency, phase, amplitude, reference in self._pulses
            ),
        )
        population = self._sequences.get(key)
        if population is None:
            if len(self._sequences) >= _MAX_SEQUENCES:
                self._sequences.clear()
            population = self._sequences[key] = self._evolve(self._wrong, key[1:])
        return population

    def _evolve(self, wrong: float, pulses: tuple[Any, ...]) -> float:
        levels = constants.NUM_LEVELS
        state = np.zeros((_NUM_FIELDS, levels, levels), dtype=np.complex128)
        state[:, constants.S_PLUS, constants.S_PLUS] = 1.0 - wrong
        state[:, constants.S_MINUS, constants.S_MINUS] = wrong
        middle = 0.0
        for start, stop, frequency, phase, amplitude, reference in pulses:
            # The field acts from the middle of one pulse to that of the next.
            now = 0.5e-9 * (start + stop)
            self._wait(state, now - middle)
            middle = now
            pulse = Pulse(1e-9 * start, 1e-9 * (stop - start), frequency, phase, amplitude, 1e-9 * reference)
            self._ion.apply(state, pulse)
        ground = state[:, constants.S_MINUS, constants.S_MINUS] + state[:, constants.S_PLUS, constants.S_PLUS]
        return float(np.clip(self._weights @ ground.real, 0.0, 1.0))

    def _wait(self, state: NDArray[np.complex128], duration: float) -> None:
        phases = np.exp(-2j * math.pi * duration * self._shifts)
        state *= phases[:, :, None] * phases[:, None, :].conj()
        survival = math.exp(-duration / constants.D_LIFETIME)
        amplitude = np.array([1.0, 1.0, math.sqrt(survival), math.sqrt(survival)])
        upper = state[:, 2, 2] + state[:, 3, 3]
        state *= amplitude[:, None] * amplitude
        for lower in (constants.S_MINUS, constants.S_PLUS):
            state[:, lower, lower] += (1 - survival) * upper / 2
