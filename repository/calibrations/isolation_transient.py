"""Coupling to the link against the time after the electrodes' step."""

import numpy as np
from artiq.experiment import *

from diqkd_node.calibration import experiment
from diqkd_node.calibration.fits.isolation_transient import fit_isolation_transient
from diqkd_node.calibration.station_scan import IsolationTransientScan

POINTS = 10  # of signal and of background, taken in turns
LEAD_TIME = 10e-6


class IsolationTransient(experiment.CalibrationExperiment, EnvExperiment):
    """Isolation: transient

    Photons of this node's ion at the heralding station while it is moved out of the focus (SI Fig. S5)."""

    calibration = "isolation_transient"

    def build_scan_arguments(self):
        self.setattr_count("num_shots", 100_000, 10_000_000, "Shots with fluorescence, and as many without.")
        self.setattr_argument(
            "bin_time",
            NumberValue(default=2.5e-6, unit="us", min=0.1e-6, max=10e-6, precision=2),
            "Scan",
            "Width of the bins.",
        )
        self.setattr_argument(
            "span",
            NumberValue(default=100e-6, unit="us", min=50e-6, max=200e-6, precision=0, step=10e-6),
            "Scan",
            "Time after the step until which photons count.",
        )
        self.setattr_arrival_time("back into the focus")

    def make_scan(self):
        shots = -(-self.num_shots // POINTS)
        return IsolationTransientScan(
            self,
            self.configuration,
            self.scan_data([shots] * (2 * POINTS)),
            gate_time=LEAD_TIME + self.span,
            arrival_time=self.arrival_time,
            repumped=[True, False] * POINTS,
            lead_time=LEAD_TIME,
        )

    def find(self):
        num_bins = int(self.span / self.bin_time)
        lead_bins = int(LEAD_TIME / self.bin_time)
        edges = self.bin_time * np.arange(-lead_bins, num_bins + 1)
        times = [self.core.ref_period * self.data.joined(range(first, 2 * POINTS, 2)) for first in (0, 1)]
        photons, background = (np.histogram(part, edges)[0] for part in times)
        shots = sum(self.data.num_shots) // 2
        return fit_isolation_transient(
            edges, photons, background, (shots, shots), self.configuration.isolation.settling_time
        )
