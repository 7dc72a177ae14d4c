"""Time constant of deshelving, which scrambling rests on."""

import numpy as np
from artiq.experiment import *

from diqkd_node.calibration import experiment
from diqkd_node.calibration.fits.scrambling_time import fit_scrambling_time
from diqkd_node.calibration.pulse_scan import ScanPulse, ScramblingTimeScan
from diqkd_node.calibration.transitions import transition


class ScramblingTime(experiment.CalibrationExperiment, EnvExperiment):
    """Scrambling time

    Bright fraction of an ion shelved in D5/2 after 1033 nm pulses of many lengths (SI Fig. S5)."""

    calibration = "scrambling_time"

    def build_scan_arguments(self):
        self.setattr_argument(
            "longest_pulse",
            NumberValue(default=60e-6, unit="us", min=1e-6, max=10e-3, precision=1),
            "Scan",
            "The scan goes from 0 to this; ten time constants are a good choice.",
        )
        self.setattr_count("num_points", 31, 1000, "Pulse lengths, closer together where they are short.")
        self.setattr_count("num_shots", 300, 100_000, "Shots at each pulse length.")

    def make_scan(self):
        line = transition("map", self.configuration)
        shelving = ScanPulse(line.frequency, line.pi_time, self.configuration.analysis.amplitude)
        times = self.longest_pulse * np.linspace(0.0, 1.0, self.num_points) ** 2
        self.times = np.round(times, 9)
        return ScramblingTimeScan(
            self,
            self.configuration,
            self.scan_data([self.num_shots] * len(times)),
            points=[(shelving,)] * len(times),
            deshelving_times=[float(time) for time in self.times],
        )

    def find(self):
        return fit_scrambling_time(self.times, *self.bright_shots())
