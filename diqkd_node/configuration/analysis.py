"""674 nm pulses that map the ion and select its basis (PROTOCOL 3.4 and 3.7)."""

import math
from typing import Any

from diqkd_node.configuration.ion_lines import PUBLISHED_FIELD, ZERO_FIELD_FREQUENCY, line_frequency
from diqkd_node.configuration.quantities import (
    Amplitude,
    Frequency,
    MagneticField,
    PiTime,
    Step,
    Time,
    Turns,
)


def _winning_turns(state_phase: float) -> float:
    """Phase of Bob's pulses that wins test rounds after a state (|01> + e^{i state_phase} |10>)/sqrt(2)."""
    return 0.5 - state_phase / math.tau


PATTERN_PHASE_TURNS = (
    _winning_turns(1.728),
    _winning_turns(-1.332),
    _winning_turns(-1.470),
    _winning_turns(1.759),
)
"""For the phases that the herald patterns announce (SI Table S2)."""


class AnalysisParameters(Step):
    """Frequencies and pi times of the three transitions, at one amplitude.

    magnetic_field, zero_field_frequency: give the lines (`ion_lines`); frequency_map, frequency_qubit,
    frequency_shelve: of a line that was calibrated by itself, None: as the field has it;
    pi_time_qubit: of the optical qubit, fractions of which are the analysis pulses; the other two are the
    same where they are None; pattern_phase_turns: of Bob's analysis pulses after each herald pattern;
    pulse_gap: from the end of a DDS setting to the pulse that uses it.
    """

    herald_latency: Time = 30e-6
    magnetic_field: MagneticField = PUBLISHED_FIELD
    zero_field_frequency: Frequency = ZERO_FIELD_FREQUENCY
    frequency_map: Frequency | None = None
    frequency_qubit: Frequency | None = None
    frequency_shelve: Frequency | None = None
    amplitude: Amplitude = 0.5
    pi_time_qubit: PiTime = 5.0e-6
    pi_time_map: PiTime | None = None
    pi_time_shelve: PiTime | None = None
    pattern_phase_turns: tuple[Turns, Turns, Turns, Turns] = PATTERN_PHASE_TURNS
    pulse_gap: Time = 2e-6
    dds_set_time: Time = 6e-6

    def frequency_of(self, transition: str) -> float:
        """Frequency (Hz) of "map", "qubit" or "shelve"."""
        own: float | None = getattr(self, f"frequency_{transition}")
        if own is None:
            return line_frequency(transition, self.magnetic_field, self.zero_field_frequency)
        return own

    def pi_time_of(self, transition: str) -> float:
        """Pi time (s) of "map", "qubit" or "shelve"."""
        own: float | None = getattr(self, f"pi_time_{transition}")
        return self.pi_time_qubit if own is None else own

    def value(self, field: str) -> Any:
        """As it is used: that of a line that follows from the field is its frequency."""
        kind, _, transition = field.partition("_")
        return self.frequency_of(transition) if kind == "frequency" else super().value(field)
