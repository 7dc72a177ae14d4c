"""Coupling to the link against the ion's displacement from the focus."""

import numpy as np
from artiq.experiment import *

from diqkd_node.calibration import experiment
from diqkd_node.calibration.fits.isolation_displacement import fit_isolation_displacement
from diqkd_node.calibration.station_scan import IsolationDisplacementScan

BACKGROUNDS = 4
NEAR = 0.5  # part of the way within which a tenth of the shots will do


class IsolationDisplacement(experiment.CalibrationExperiment, EnvExperiment):
    """Isolation: displacement

    Photons of this node's ion at the heralding station, from places in and out of the focus (SI Fig. S5)."""

    calibration = "isolation_displacement"

    def build_scan_arguments(self):
        self.setattr_count("num_points", 15, 200, "Places from 0.3 of the way on the other side to the end.")
        self.setattr_count("num_shots", 20_000, 10_000_000, "Shots at a distant place, 0.5 ms each.")
        self.setattr_argument(
            "gate_time",
            NumberValue(default=200e-6, unit="us", min=1e-6, max=250e-6, precision=0, step=10e-6),
            "Scan",
            "Time in which photons count. A detector's input holds 64 on hardware.",
        )
        self.setattr_arrival_time("to a place")
        self.setattr_argument(
            "distance_um",
            NumberValue(default=3.0, min=0.1, max=1000.0, precision=2),
            "Scan",
            "Way from the focus to the isolated position, um; only for the scale.",
        )

    def make_scan(self):
        self.parts = np.linspace(-0.3, 1.0, self.num_points)
        near = np.abs(self.parts) < NEAR
        shots = np.where(near, -(-self.num_shots // 10), self.num_shots)
        return IsolationDisplacementScan(
            self,
            self.configuration,
            self.scan_data([*shots, *[self.num_shots] * BACKGROUNDS]),
            gate_time=self.gate_time,
            arrival_time=self.arrival_time,
            repumped=[True] * len(shots) + [False] * BACKGROUNDS,
            part=[float(part) for part in self.parts] + [0.0] * BACKGROUNDS,
        )

    def find(self):
        exposures = self.gate_time * np.array(self.data.num_shots)
        photons = np.array([len(self.data.values(point)) for point in range(len(exposures))])
        places = len(self.parts)
        background = int(photons[places:].sum()), float(exposures[places:].sum())
        return fit_isolation_displacement(
            self.parts, photons[:places], exposures[:places], background, self.distance_um
        )
