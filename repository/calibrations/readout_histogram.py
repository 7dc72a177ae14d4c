"""Readout histograms of a bright and a dark ion, and the threshold between them."""

from artiq.experiment import *

from diqkd_node.calibration import experiment
from diqkd_node.calibration.fits.readout_histogram import fit_readout_histogram
from diqkd_node.calibration.pulse_scan import PulseScan, ScanPulse
from diqkd_node.calibration.transitions import transition

POINTS = 10  # of each state, taken in turns


class ReadoutHistogram(experiment.CalibrationExperiment, EnvExperiment):
    """Readout histogram

    Counts fluorescence of an ion in S1/2 and of one shelved in D5/2; finds the best threshold."""

    calibration = "readout_histogram"

    def build_scan_arguments(self):
        self.setattr_count("num_shots", 10_000, 1_000_000, "Shots of each of the two states.")

    def make_scan(self):
        line = transition("map", self.configuration)
        shelving = ScanPulse(line.frequency, line.pi_time, self.configuration.analysis.amplitude)
        nothing = ScanPulse(line.frequency, 0.0, self.configuration.analysis.amplitude)
        points = [(nothing,), (shelving,)] * POINTS
        shots = -(-self.num_shots // POINTS)
        return PulseScan(self, self.configuration, self.scan_data([shots] * len(points)), points=points)

    def find(self):
        bright, dark = (self.data.joined(range(first, 2 * POINTS, 2)) for first in (0, 1))
        return fit_readout_histogram(bright, dark, self.configuration.readout.time)
