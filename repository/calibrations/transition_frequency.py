"""Frequency of a 674 nm transition, from a spectrum with a weak pulse."""

import numpy as np
from artiq.experiment import *

from diqkd_node.calibration import experiment
from diqkd_node.calibration.fits.transition_frequency import fit_transition_frequency
from diqkd_node.calibration.pulse_scan import PulseScan, ScanPulse
from diqkd_node.calibration.transitions import TRANSITIONS, transition


class TransitionFrequency(experiment.CalibrationExperiment, EnvExperiment):
    """Transition frequency

    Scans the frequency of a weak pulse around the configured resonance of one transition."""

    calibration = "transition_frequency"

    def build_scan_arguments(self):
        self.setattr_transition(*TRANSITIONS)
        self.setattr_argument(
            "span",
            NumberValue(default=80e3, unit="kHz", min=100.0, max=2e6, precision=1),
            "Scan",
            "Width of the scan. A wide one finds a lost line, a narrow one is precise.",
        )
        self.setattr_argument(
            "weakening",
            NumberValue(default=10.0, min=1.0, max=100.0, precision=1, step=1.0),
            "Scan",
            "How much weaker and longer than a pi pulse the pulse is; the line is narrower by as much.",
        )
        self.setattr_count("num_points", 41, 1000, "Frequencies, evenly spaced.")
        self.setattr_count("num_shots", 100, 100_000, "Shots at each frequency.")

    def make_scan(self):
        line = transition(self.transition, self.configuration)
        self.duration = line.pi_time * self.weakening
        amplitude = self.configuration.analysis.amplitude / self.weakening
        self.frequencies = line.frequency + self.span * np.linspace(-0.5, 0.5, self.num_points)
        points = [
            (*line.preparation, ScanPulse(float(frequency), self.duration, amplitude))
            for frequency in self.frequencies
        ]
        return PulseScan(
            self, self.configuration, self.scan_data([self.num_shots] * len(points)), points=points
        )

    def find(self):
        setting = transition(self.transition, self.configuration).frequency_field
        return fit_transition_frequency(self.frequencies, *self.bright_shots(), self.duration, setting)
