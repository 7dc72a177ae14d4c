"""Photons at the heralding station while this node's ion is read out, link connected and isolated."""

import numpy as np
from artiq.experiment import *

from diqkd_node.calibration import experiment
from diqkd_node.calibration.fits.photon_leak import DETECTION_EFFICIENCY, PLACES, find_photon_leak
from diqkd_node.calibration.photon_leak_scan import PhotonLeakScan

REPETITIONS = 5  # points of each kind, in random order, so that a drift becomes noise
CONNECTED_PART = 100  # of the shots that isolation needs, one in so many does for the connected link


class PhotonLeak(experiment.CalibrationExperiment, EnvExperiment):
    """Photon leak during readout

    Counts clicks at the station while a bright or a dark ion is read out (SI Table S5). The other node rests
    meanwhile. Nothing is calibrated; the leak bounds what an adversary learns about outcomes."""

    calibration = "photon_leak"

    def build_scan_arguments(self):
        self.setattr_count(
            "num_shots", 100_000, 100_000_000, "Readouts each of a bright and a dark ion, 0.8 ms."
        )
        self.setattr_argument(
            "detection_efficiency",
            NumberValue(default=DETECTION_EFFICIENCY, min=0.001, max=1.0, precision=3),
            "Scan",
            "Clicks per photon in the fibre: coupling at the station times quantum efficiency.",
        )
        self.setattr_arrival_time("to its place")

    def make_scan(self):
        kinds = [(place, dark) for place in PLACES for dark in (False, True)]
        self.kinds = kinds * REPETITIONS
        isolated = -(-self.num_shots // REPETITIONS)
        connected = -(-isolated // CONNECTED_PART)
        shots = [isolated if PLACES[place] == 1.0 else connected for place, _ in self.kinds]
        return PhotonLeakScan(
            self,
            self.configuration,
            self.scan_data(shots),
            gate_time=self.configuration.readout.time,
            arrival_time=self.arrival_time,
            part=[PLACES[place] for place, _ in self.kinds],
            dark=[dark for _, dark in self.kinds],
        )

    def find(self):
        clicks, shots = {}, {}
        for place in PLACES:
            points = [
                [index for index, kind in enumerate(self.kinds) if kind == (place, dark)]
                for dark in (False, True)
            ]
            clicks[place] = tuple(sum(len(self.data.values(p)) for p in group) for group in points)
            shots[place] = tuple(int(np.sum([self.data.num_shots[p] for p in group])) for group in points)
        return find_photon_leak(clicks, shots, self.detection_efficiency)
