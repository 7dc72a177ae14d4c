"""Expected statistics of the whole chain, and the link that gives the published ones.

`chain_probabilities` multiplies the link's state with the effects of both nodes' pulses and the
discrimination of the readout: exact probabilities, without sampling. `calibrate` solves for the link's
populations and coherence so that the chain has the published mismatches and S; its results stand in
`constants`. Run ``python -m sim_devices.physics.expected_statistics`` after a change of the
imperfections or of the sequence.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from diqkd_postproc.protocol.roles import HERALD_PATTERNS
from sim_devices.physics import constants
from sim_devices.physics.fluorescence import discrimination
from sim_devices.physics.ion import Ion, Pulse
from sim_devices.physics.link import joint_state

# Start of the pulses after the herald (s), as the experiment plays them; the readout follows the last.
MAPPING_START = 38e-6
BOB_ANALYSIS_START = 93e-6
ALICE_ANALYSIS_START = 113e-6

MAP, QUBIT, SHELVE = (entry[0] for entry in constants.TRANSITIONS)


def measurement_pulses(
    analysis_start: float, quarter_turns: float, phase_turns: float
) -> tuple[tuple[Pulse, ...], float]:
    """Pulses of a measurement and the start of its readout; an angle of 0 is the computational basis,
    shelved.
    """
    amplitude = constants.PI_AMPLITUDE
    mapping = Pulse(MAPPING_START, constants.PI_TIME, MAP, 0.0, amplitude, 0.0)
    if quarter_turns:
        phase = phase_turns + (0.5 if quarter_turns < 0 else 0.0)
        duration = constants.PI_TIME * abs(quarter_turns) / 2
        last = Pulse(analysis_start, duration, QUBIT, phase, amplitude, 0.0)
    else:
        last = Pulse(analysis_start, constants.PI_TIME, SHELVE, 0.0, amplitude, 0.0)
    return (mapping, last), last.start + last.duration


def observed_effect(effect: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Effect of "counts reach the threshold" from that of "in S1/2"."""
    bright, dark = discrimination()
    return effect * bright + (np.eye(2) - effect) * dark


def alice_effects() -> list[NDArray[np.complex128]]:
    """Observed bright effects for X = 0, 1."""
    ion = Ion(constants.COHERENCE_TIME["alice"])
    played = [measurement_pulses(ALICE_ANALYSIS_START, angle, 0.0) for angle in (0.0, 1.0)]
    return [observed_effect(ion.bright_effect(*entry)) for entry in played]


def bob_effects(pattern: int) -> list[NDArray[np.complex128]]:
    """Observed bright effects for Y = 0, 1, 2 after a herald with `pattern`."""
    ion = Ion(constants.COHERENCE_TIME["bob"])
    phase = constants.NOMINAL_PATTERN_PHASES[pattern]
    played = [measurement_pulses(BOB_ANALYSIS_START, angle, phase) for angle in (0.5, -0.5, 0.0)]
    return [observed_effect(ion.bright_effect(*entry)) for entry in played]


def pattern_probabilities(
    rho: NDArray[np.complex128], alice: list[NDArray[np.complex128]], bob: list[NDArray[np.complex128]]
) -> NDArray[np.float64]:
    """P[x, y, a, b] of one state: Alice's bit 0 and Bob's bit 1 are "bright"."""
    identity = np.eye(2)
    table = np.empty((len(alice), len(bob), 2, 2))
    for x, bright_a in enumerate(alice):
        for y, bright_b in enumerate(bob):
            for a, effect_a in enumerate((bright_a, identity - bright_a)):
                for b, effect_b in enumerate((identity - bright_b, bright_b)):
                    table[x, y, a, b] = np.einsum("abcd,ca,db->", rho, effect_a, effect_b).real
    return table


def chain_probabilities(
    populations: tuple[float, float, float, float] = constants.LINK_POPULATIONS,
    coherence: float = constants.LINK_COHERENCE,
    kind: str = "measured",
    visibility: float = 1.0,
) -> NDArray[np.float64]:
    """P[x, y, a, b] of the whole chain, averaged over the (equally likely) herald patterns."""
    alice = alice_effects()
    tables = [
        pattern_probabilities(
            joint_state(pattern, kind, visibility, populations, coherence), alice, bob_effects(pattern)
        )
        for pattern in HERALD_PATTERNS
    ]
    mean: NDArray[np.float64] = np.mean(tables, axis=0)
    return mean


def chsh_and_qber(table: NDArray[np.float64]) -> tuple[float, float]:
    """CHSH score and key error rate of P[x, y, a, b]."""
    correlations = table[:, :2, 0, 0] + table[:, :2, 1, 1] - table[:, :2, 0, 1] - table[:, :2, 1, 0]
    score = correlations[0, 0] + correlations[0, 1] + correlations[1, 0] - correlations[1, 1]
    return float(score), float(table[0, 2, 0, 1] + table[0, 2, 1, 0])


def calibrate() -> tuple[tuple[float, float, float, float], float]:
    """Populations of |00>, |01>, |10>, |11> and coherence that give the published mismatches and S."""
    # Table S4, X = 0 and Y = 2: (A, B) = (0, 1) is both bright, (1, 0) both dark.
    scale = constants.QBER / (0.00339 + 0.0110)
    rest = (1 - constants.QBER) / (0.5017 + 0.4839)
    target = np.array([0.00339 * scale, 0.5017 * rest, 0.4839 * rest, 0.0110 * scale])
    responses = []
    for index in range(4):
        unit = tuple(float(index == column) for column in range(4))
        table = chain_probabilities((unit[0], unit[1], unit[2], unit[3]), 0.0)[0, 2]
        responses.append([table[0, 1], table[0, 0], table[1, 1], table[1, 0]])
    solved = np.linalg.solve(np.array(responses).T, target)
    populations = (float(solved[0]), float(solved[1]), float(solved[2]), float(solved[3]))

    def excess(coherence: float) -> float:
        return chsh_and_qber(chain_probabilities(populations, coherence))[0] - constants.CHSH_SCORE

    return populations, float(brentq(excess, 0.3, 0.5))


if __name__ == "__main__":
    new_populations, new_coherence = calibrate()
    print("LINK_POPULATIONS =", tuple(round(value, 6) for value in new_populations))
    print("LINK_COHERENCE =", round(new_coherence, 6))
    print("S, Q =", chsh_and_qber(chain_probabilities(new_populations, new_coherence)))
