"""One ion between herald and readout: its pulses make a measurement of the Zeeman qubit.

The ion has the four levels of `constants`. A list of 674 nm pulses, timed from the herald, acts on the driven
two-level transition with its detuning; in between the coherences fall with a Gaussian of the elapsed time and
D5/2 decays. `bright_effect` follows the four operators |i><j| of the qubit S1/2 m=-1/2 (0), m=+1/2 (1)
through all of it and returns the effect E of "the ion is found in S1/2 when the readout begins": P(bright) =
tr(rho E). Which basis that is, only the pulses say.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim_devices.physics import constants
from sim_devices.physics.node_parameters import Nature

Transitions = tuple[tuple[float, int, int, float], ...]
PUBLISHED = Nature().transitions

Matrix = NDArray[np.complex128]


class Pulse(NamedTuple):
    """A 674 nm pulse: times in s from the herald, frequency in Hz, phase in turns, relative amplitude."""

    start: float
    duration: float
    frequency: float
    phase_turns: float
    amplitude: float
    phase_reference: float  # time at which the tracked phase is `phase_turns`, s from the herald


def driven_transition(
    frequency: float, transitions: Transitions = PUBLISHED
) -> tuple[float, int, int, float] | None:
    """Resonance (Hz), lower and upper level and pi time (s) of what a frequency drives; None when it is off
    every resonance.
    """
    driven = min(transitions, key=lambda entry: abs(entry[0] - frequency))
    return None if abs(driven[0] - frequency) > constants.ADDRESSING_WIDTH else driven


def pulse_unitary(pulse: Pulse, transitions: Transitions = PUBLISHED) -> tuple[Matrix, int, int] | None:
    """2x2 unitary on (lower, upper) in the frame rotating at the resonance; None for a pulse that does
    nothing.
    """
    driven = driven_transition(pulse.frequency, transitions)
    if driven is None or pulse.duration <= 0:
        return None
    resonance, lower, upper, pi_time = driven
    detuning = 2 * math.pi * (pulse.frequency - resonance)
    rabi = math.pi / pi_time * pulse.amplitude / constants.PI_AMPLITUDE
    phase = 2 * math.pi * pulse.phase_turns + detuning * (pulse.start - pulse.phase_reference)
    total = math.hypot(rabi, detuning)
    if total == 0.0:
        return None
    half = total * pulse.duration / 2
    cosine, sine = math.cos(half), math.sin(half)
    coupling = -1j * sine * rabi / total
    tilt = 1j * sine * detuning / total
    rotation = np.array(
        [
            [cosine + tilt, coupling * np.exp(-1j * phase)],
            [coupling * np.exp(1j * phase), cosine - tilt],
        ]
    )
    # Back from the frame of the light to that of the transition; the common phase matters to third levels.
    common = np.exp(-0.5j * detuning * pulse.duration)
    frame = np.array([common, common * np.exp(1j * detuning * pulse.duration)])
    return frame[:, None] * rotation, lower, upper


class Ion:
    """The levels of one node's ion as operators, from the herald on."""

    def __init__(
        self,
        coherence_time: float,
        pulse_error: float = constants.PULSE_ERROR,
        transitions: Transitions = PUBLISHED,
    ) -> None:
        self.coherence_time = coherence_time
        self.pulse_error = pulse_error
        self.transitions = transitions

    def bright_effect(self, pulses: tuple[Pulse, ...], readout_start: float) -> Matrix:
        """(2, 2) effect of "in S1/2 at `readout_start`" (s after the herald) on the Zeeman qubit."""
        operators = np.zeros((2, 2, constants.NUM_LEVELS, constants.NUM_LEVELS), dtype=np.complex128)
        for row in (0, 1):
            for column in (0, 1):
                operators[row, column, row, column] = 1.0
        now = 0.0
        for pulse in pulses:
            self._wait(operators, now, pulse.start)
            self.apply(operators, pulse)
            now = pulse.start + pulse.duration
        self._wait(operators, now, readout_start)
        in_ground = operators[:, :, 0, 0] + operators[:, :, 1, 1]
        return np.ascontiguousarray(in_ground.T)

    def _wait(self, operators: Matrix, start: float, stop: float) -> None:
        if stop <= start:
            return
        contrast = math.exp((max(start, 0.0) ** 2 - stop**2) / self.coherence_time**2)
        surviving = math.exp(-(stop - start) / constants.D_LIFETIME)
        diagonal = np.einsum("ijkk->ijk", operators).copy()
        operators *= contrast
        decayed = (1 - surviving) * (diagonal[..., 2] + diagonal[..., 3])
        diagonal[..., 2:] *= surviving
        diagonal[..., 0] += decayed / 2
        diagonal[..., 1] += decayed / 2
        for level in range(constants.NUM_LEVELS):
            operators[..., level, level] = diagonal[..., level]

    def apply(self, operators: Matrix, pulse: Pulse) -> None:
        """Let a pulse act, in place, on (..., NUM_LEVELS, NUM_LEVELS) operators."""
        driven = pulse_unitary(pulse, self.transitions)
        if driven is None:
            return
        rotation, lower, upper = driven
        unitary = np.eye(constants.NUM_LEVELS, dtype=np.complex128)
        pair = [lower, upper]
        unitary[np.ix_(pair, pair)] = rotation
        turned = unitary @ operators @ unitary.conj().T
        population = (turned[..., lower, lower] + turned[..., upper, upper]) / 2
        others = [level for level in range(constants.NUM_LEVELS) if level not in pair]
        mixed = turned * (1 - self.pulse_error)
        for row in others:
            for column in others:
                mixed[..., row, column] = turned[..., row, column]
        mixed[..., lower, lower] += self.pulse_error * population
        mixed[..., upper, upper] += self.pulse_error * population
        operators[...] = mixed
