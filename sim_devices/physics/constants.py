"""True constants of the simulated laboratory, which the nodes' configuration only estimates.

Sources: Nadlinger et al., Nature 607, 682 (2022), Supplementary Information (SI): section S2 A-D, Tables S3
and S4, Figs. S3 and S5. The four numbers of `LINK_POPULATIONS` and `LINK_COHERENCE` follow from the published
S and Q by `sim_devices.physics.expected_statistics`, which takes the imperfections of the ions out of them.
"""

import math

# S1/2 m=-1/2, S1/2 m=+1/2, D5/2 m=-3/2, D5/2 m=+3/2: the order of the levels in every matrix.
NUM_LEVELS = 4
S_MINUS, S_PLUS, D_MINUS, D_PLUS = range(NUM_LEVELS)

# Magnetic moment of each level in Bohr magnetons. A stretched level is orbit plus spin: 1/2 g_e for S1/2
# m=1/2, and 2 + 1/2 g_e for D5/2 m=5/2, of which m=3/2 has three fifths.
ELECTRON_G = 2.002319
S_MOMENT, D_MOMENT = ELECTRON_G / 2, 0.6 * (2 + ELECTRON_G / 2)
LEVEL_MOMENTS = (-S_MOMENT, S_MOMENT, -D_MOMENT, D_MOMENT)
BOHR_MAGNETON_HZ_PER_T = 9.2740101e-24 / 6.62607015e-34
MAGNETIC_FIELD = 0.5e-3  # T

# The two levels that a 674 nm pulse drives (SI S2 B).
MAP_LEVELS = (S_PLUS, D_MINUS)  # mapping of the Zeeman qubit to the optical one
QUBIT_LEVELS = (S_MINUS, D_MINUS)  # optical qubit: analysis pulses
SHELVE_LEVELS = (S_PLUS, D_PLUS)
QUBIT_FREQUENCY = 108.0e6  # Hz of the AOM at which the qubit pulses are resonant in this field


def line_frequency(levels: tuple[int, int], field: float = MAGNETIC_FIELD) -> float:
    """AOM frequency (Hz) at which a pulse on two levels is resonant in a field (T)."""

    def moment(lower: int, upper: int) -> float:
        return LEVEL_MOMENTS[upper] - LEVEL_MOMENTS[lower]

    shifts = field * moment(*levels) - MAGNETIC_FIELD * moment(*QUBIT_LEVELS)
    return QUBIT_FREQUENCY + BOHR_MAGNETON_HZ_PER_T * shifts


TRANSITIONS = tuple((line_frequency(levels), *levels) for levels in (MAP_LEVELS, QUBIT_LEVELS, SHELVE_LEVELS))
ADDRESSING_WIDTH = 1.0e6  # Hz; a pulse further than this from every resonance does nothing
PI_TIME = 5.0e-6  # s at PI_AMPLITUDE; the Rabi frequency is proportional to the amplitude
PI_AMPLITUDE = 0.5

PUMPING_ERROR = 2e-3  # population that optical pumping leaves in S1/2 m=-1/2
PUMPING_TIME = 0.1e-6  # s, its time constant
REPUMPING_TIME = 0.1e-6  # s, that of 1092 nm light on an ion in D3/2
PULSE_ERROR = 5e-4  # depolarising probability of a pulse (SI S2 B: per Clifford gate)
COHERENCE_TIME = {"alice": 4.2e-3, "bob": 7.5e-3}  # s, Gaussian 1/e (SI Table S3, qubit transition)
D_LIFETIME = 0.39  # s, D5/2
# How far a magnetic field shifts each level, as a multiple of the qubit transition's shift (SI Table S3).
LEVEL_SENSITIVITY = tuple(moment / (D_MOMENT - S_MOMENT) for moment in LEVEL_MOMENTS)

BRIGHT_COUNT_RATE = 60 / 250e-6  # 1/s
DARK_COUNT_RATE = 1.5 / 250e-6  # 1/s
READOUT_WINDOW = 250e-6  # s, of the calibration
READOUT_THRESHOLD = 15  # counts, of the calibration
DESHELVING_TIME = {"alice": 3.88e-6, "bob": 6.70e-6}  # s (SI Fig. S5)

SHUTTLE_DISTANCE_UM = 3.0  # at +1.0 V on all four electrodes (SI S2 D)
ELECTRODE_CHANNELS = (15, 16, 23, 24)
ELECTRODE_TIME_CONSTANT = 30e-6  # s, low-pass of the electrodes
FOCUS_RADIUS_UM = 0.62  # coupling falls by 1e-4 within 30 us of the step
COUPLING_FLOOR = 1e-6  # scattered light that displacement does not remove

ATTEMPT_SUCCESS = 1.6e-4  # per attempt with both ions in focus (SI Fig. S3)
# The station sees a photon of one node's pulse with probability p; half of the pairs herald: p^2/2 = 1.6e-4.
PHOTON_PROBABILITY = math.sqrt(2 * ATTEMPT_SUCCESS)
PHOTON_DELAY = 24e-9  # s, from the switch of the pulse to the first photons at the detectors
PHOTON_LIFETIME = 7.4e-9  # s, 5P1/2; "7 ns duration" (SI S2 A)
PHOTON_JITTER = 0.5e-9  # s, standard deviation of detectors and laser pulse
STATION_COUNT_RATE = 2e5  # 1/s, of an ion in focus under cooling light
STATION_DARK_RATE = 110.0  # 1/s, all four detectors together (SI Table S5: 0.0277 in 250 us)

# Phase phi (rad) of (|01> + e^(i phi) |10>)/sqrt2, Alice's label first, 0 = m=-1/2. SI Fig. S3 prints the
# phase of <01|rho|10> in units of pi; its panels a to d are 0101, 1010, 0011 and 1100, as Table S2 tells.
BELL_PHASES = {0b0011: 1.728, 0b0101: -1.332, 0b1010: -1.470, 0b1100: 1.759}
# Relative size of the coherence by pattern, mean 1 (fidelities 95.8, 96.1, 96.4, 95.8 %).
COHERENCE_BY_PATTERN = {0b0011: 0.9952, 0b0101: 1.0016, 0b1010: 1.0080, 0b1100: 0.9952}

# Populations of |00>, |01>, |10>, |11> and the magnitude of the coherence between |01> and |10>.
LINK_POPULATIONS = (0.002831, 0.501973, 0.484176, 0.01102)
LINK_COHERENCE = 0.463064

CHSH_SCORE = 2.677  # what the whole chain gives (SI Table S4 and main text)
QBER = 0.0144


def nominal_phase_turns(bell_phase: float) -> float:
    """Phase (turns) that Bob adds to his analysis pulses for a Bell phase (rad).

    With Rxy(theta, phi) = exp(-i theta/2 (cos phi X + sin phi Y)), Rxy^+ Z Rxy = cos theta Z +
    sin theta (cos phi Y - sin phi X). Alice's Rxy(pi/2, 0) measures Y, at azimuth pi/2; Bob's pulses measure
    (Z +- M)/sqrt2 with M at azimuth pi/2 + phi. In the state above <Y M> = cos(bell_phase + phi), and with
    bright = bit 0 for Alice and bit 1 for Bob the bits' correlation is its negative. Test rounds are won with
    A xor B = x y when it is +1 for (x, y) = (1, 0): phi = pi - bell_phase.
    """
    return (0.5 - bell_phase / (2 * math.pi)) % 1.0


NOMINAL_PATTERN_PHASES = {
    pattern: round(nominal_phase_turns(phase), 6) for pattern, phase in BELL_PHASES.items()
}
