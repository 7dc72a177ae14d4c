"""Coherence time of a 674 nm transition, from Ramsey fringes at many waits."""

import numpy as np
from artiq.experiment import *

from diqkd_node.calibration import experiment
from diqkd_node.calibration.fits.ramsey_coherence import fit_ramsey_coherence
from diqkd_node.calibration.pulse_scan import PulseScan, ScanPulse
from diqkd_node.calibration.transitions import transition

PHASES = (0.0, 0.25, 0.5, 0.75)


class RamseyCoherence(experiment.CalibrationExperiment, EnvExperiment):
    """Ramsey coherence

    Fringe contrast against the wait between two pi/2 pulses; its phase gives the frequency to some hertz."""

    calibration = "ramsey_coherence"

    def build_scan_arguments(self):
        self.setattr_transition("map", "qubit")
        self.setattr_argument(
            "longest_wait",
            NumberValue(default=10e-3, unit="ms", min=50e-6, max=1.0, precision=2),
            "Scan",
            "One and a half to two and a half coherence times are a good choice.",
        )
        self.setattr_argument(
            "set_frequency",
            BooleanValue(False),
            "Scan",
            "Propose the resonance for the configuration: a hundred times as precise as a spectrum, for a "
            "light that is within some kilohertz of it already.",
        )
        self.setattr_count("num_waits", 20, 500, "Waits, closer together where they are short.")
        self.setattr_count("num_shots", 100, 100_000, "Shots at each wait and each of four phases.")

    def make_scan(self):
        line = transition(self.transition, self.configuration)
        amplitude = self.configuration.analysis.amplitude
        half = line.pi_time / 2
        shortest = self.configuration.analysis.dds_set_time + self.configuration.analysis.pulse_gap + half
        # Uneven steps, so that no detuning looks like another.
        fractions = np.linspace(0.0, 1.0, self.num_waits) ** 1.6
        waits = shortest + (self.longest_wait - shortest) * fractions
        self.waits = np.repeat(waits, len(PHASES))
        self.phases = np.tile(PHASES, len(waits))
        points = [
            (
                *line.preparation,
                ScanPulse(line.frequency, half, amplitude),
                ScanPulse(line.frequency, half, amplitude, phase, wait - half),
            )
            for wait, phase in zip(self.waits, self.phases)
        ]
        return PulseScan(
            self, self.configuration, self.scan_data([self.num_shots] * len(points)), points=points
        )

    def find(self):
        line = transition(self.transition, self.configuration)
        setting = line.frequency_field if self.set_frequency else None
        return fit_ramsey_coherence(self.waits, self.phases, *self.bright_shots(), line.frequency, setting)
