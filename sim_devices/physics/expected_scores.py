"""Expected S and Q of a drifted laboratory with the nodes' present configuration, without sampling.

The counterpart of `calibration.chain_probabilities` for any state of the drift: the pulses that the two node
configurations make, in the light as it is, on the state as the station heralds it. Only a simulation can know
this; nodes and their calibrations never ask.
"""

from __future__ import annotations

import numpy as np

from diqkd_node.configuration import NodeConfiguration
from diqkd_node.sequence.pulse_table import analysis_pulse
from diqkd_postproc.protocol.roles import BOB_KEY_SETTING, HERALD_PATTERNS, SETTINGS
from sim_devices.physics import constants
from sim_devices.physics.drift import DriftState
from sim_devices.physics.expected_statistics import (
    ALICE_ANALYSIS_START,
    BOB_ANALYSIS_START,
    MAPPING_START,
    chsh_and_qber,
    observed_effect,
    pattern_probabilities,
)
from sim_devices.physics.ion import Ion, Pulse
from sim_devices.physics.link import joint_state

_ANALYSIS_START = {"alice": ALICE_ANALYSIS_START, "bob": BOB_ANALYSIS_START}


def true_chsh_and_qber(
    alice: NodeConfiguration, bob: NodeConfiguration, state: DriftState
) -> tuple[float, float]:
    """S and Q of the measured link, averaged over the herald patterns."""
    # Only Bob's test settings have a phase for each pattern.
    alice_effects = [_effect(alice, setting, 0, state) for setting in SETTINGS["alice"]]
    bob_key_effect = _effect(bob, BOB_KEY_SETTING, 0, state)
    tables = []
    for index, pattern in enumerate(HERALD_PATTERNS):
        rho = joint_state(pattern)
        turn = np.exp(-1j * state.phase_offsets[index])
        rho[0, 1, 1, 0] *= turn
        rho[1, 0, 0, 1] *= turn.conjugate()
        bob_effects = [_effect(bob, setting, index, state) for setting in (0, 1)]
        tables.append(pattern_probabilities(rho, alice_effects, [*bob_effects, bob_key_effect]))
    return chsh_and_qber(np.mean(tables, axis=0))


def _effect(node: NodeConfiguration, setting: int, pattern_index: int, state: DriftState) -> np.ndarray:
    """Observed "bright" effect of a setting's pulses in the light as it is."""
    frequency, phase, duration = analysis_pulse(node, setting, pattern_index)
    offset = state.frequency_offset
    configured = node.analysis
    amplitude = configured.amplitude * state.rabi_scale[node.role]
    map_time, map_frequency = configured.pi_time_of("map"), configured.frequency_of("map") + offset
    mapping = Pulse(MAPPING_START, map_time, map_frequency, 0.0, amplitude, 0.0)
    start = _ANALYSIS_START[node.role]
    analysis = Pulse(start, duration, frequency + offset, phase, amplitude, 0.0)
    ion = Ion(constants.COHERENCE_TIME[node.role])
    return observed_effect(ion.bright_effect((mapping, analysis), start + duration))
