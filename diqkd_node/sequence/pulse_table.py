"""Table of the 674 nm pulses that select the measurement basis: one for each setting and herald pattern.

The kernel of a node is the same for every basis; it looks its pulse up here, so that a round takes the same
time whatever its setting. A scan of the link plays other pulses from the same kernel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from diqkd_node.configuration import NodeConfiguration
from diqkd_postproc.protocol.roles import BOB_KEY_SETTING, HERALD_PATTERNS, KEY_SETTING, SETTINGS

AnalysisPulse = tuple[float, float, float]
"""Frequency (Hz), phase (turns), duration (s)."""

NO_KEY_SETTING = -1

NUM_COLUMNS = len(HERALD_PATTERNS) + 1
"""The last column is for a herald of which this node's core has seen no pattern: as after the first."""

COLUMNS = (*range(len(HERALD_PATTERNS)), 0)


@dataclass(frozen=True)
class PulseTable:
    """`pulses[setting][pattern index]`, and the setting of key rounds or `NO_KEY_SETTING`."""

    pulses: tuple[tuple[AnalysisPulse, ...], ...]
    key_setting: int

    @classmethod
    def of_rounds(cls, configuration: NodeConfiguration) -> Self:
        """The pulses of a key run."""
        role = configuration.role
        rows = (
            tuple(analysis_pulse(configuration, setting, index) for index in COLUMNS)
            for setting in SETTINGS[role]
        )
        return cls(tuple(rows), KEY_SETTING[role])

    @classmethod
    def of_scan(cls, pulses: Sequence[AnalysisPulse]) -> Self:
        """One pulse a setting, whatever the herald pattern; no key rounds."""
        return cls(tuple((pulse,) * NUM_COLUMNS for pulse in pulses), NO_KEY_SETTING)


def analysis_pulse(configuration: NodeConfiguration, setting: int, pattern_index: int) -> AnalysisPulse:
    """The pulse of a setting after a herald pattern.

    Rxy(theta, phi) rotates by theta about an axis at phi in the equator; Rxy(-theta, phi) equals
    Rxy(theta, phi + pi). The computational basis takes the shelving pulse instead.
    """
    analysis = configuration.analysis
    shelving = (analysis.frequency_of("shelve"), 0.0, analysis.pi_time_of("shelve"))
    if configuration.role == "alice":
        return shelving if setting == 0 else (analysis.frequency_of("qubit"), 0.0, analysis.pi_time_qubit / 2)
    if setting == BOB_KEY_SETTING:
        return shelving
    if setting == BOB_KEY_SETTING + 1:  # twice the rotation of y = 0: the basis of x = 1
        phase = analysis.pattern_phase_turns[pattern_index]
        return (analysis.frequency_of("qubit"), phase % 1.0, analysis.pi_time_qubit / 2)
    phase = analysis.pattern_phase_turns[pattern_index] + (0.0 if setting == 0 else 0.5)
    return (analysis.frequency_of("qubit"), phase % 1.0, analysis.pi_time_qubit / 4)
