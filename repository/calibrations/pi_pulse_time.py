"""Pi-pulse time of a 674 nm transition, from Rabi oscillations."""

import numpy as np
from artiq.experiment import *

from diqkd_node.calibration import experiment
from diqkd_node.calibration.fits.pi_pulse_time import fit_pi_pulse_time
from diqkd_node.calibration.pulse_scan import PulseScan, ScanPulse
from diqkd_node.calibration.transitions import TRANSITIONS, transition


class PiPulseTime(experiment.CalibrationExperiment, EnvExperiment):
    """Pi-pulse time

    Scans the length of a pulse on one transition. Calibrate its frequency first."""

    calibration = "pi_pulse_time"

    def build_scan_arguments(self):
        self.setattr_transition(*TRANSITIONS)
        self.setattr_argument(
            "longest_pulse",
            NumberValue(default=20e-6, unit="us", min=0.1e-6, max=10e-3, precision=2),
            "Scan",
            "The scan goes from 0 to this; four pi times are a good choice.",
        )
        self.setattr_count("num_points", 41, 1000, "Pulse lengths, evenly spaced.")
        self.setattr_count("num_shots", 100, 100_000, "Shots at each pulse length.")

    def make_scan(self):
        line = transition(self.transition, self.configuration)
        amplitude = self.configuration.analysis.amplitude
        self.times = np.linspace(0.0, self.longest_pulse, self.num_points)
        points = [(*line.preparation, ScanPulse(line.frequency, time, amplitude)) for time in self.times]
        return PulseScan(
            self, self.configuration, self.scan_data([self.num_shots] * len(points)), points=points
        )

    def find(self):
        setting = transition(self.transition, self.configuration).pi_time_field
        return fit_pi_pulse_time(self.times, *self.bright_shots(), setting)
