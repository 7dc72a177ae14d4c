"""Arrival histogram of the photons of the picosecond pulse, and the window for heralds."""

import numpy as np
from artiq.experiment import *

from diqkd_node.calibration import experiment
from diqkd_node.calibration.fits.photon_arrival import fit_photon_arrival
from diqkd_node.calibration.station_scan import PhotonArrivalScan

GATE_NS = (-50, 250)  # after the reference
ATTEMPTS_PER_SHOT = 10
POINTS = 20  # pieces of equal size, for the sake of progress and pauses


class PhotonArrival(experiment.CalibrationExperiment, EnvExperiment):
    """Photon arrival

    Attempts of this node alone, with wide gates: decay, probability and window of its photons."""

    calibration = "photon_arrival"

    def build_scan_arguments(self):
        self.setattr_count("num_attempts", 100_000, 100_000_000, "Attempts, 40 us each.")
        self.setattr_arrival_time("into the focus")

        self.setattr_argument(
            "reference_delay",
            NumberValue(default=0.0, unit="ns", min=0.0, max=10e-6, precision=0, step=1e-9),
            "Scan",
            "From the pulse's switch to the edge at the entangler core's reference input, from which its "
            "gates count. 0 without the core.",
        )

    def make_scan(self):
        shots = -(-self.num_attempts // (ATTEMPTS_PER_SHOT * POINTS))
        return PhotonArrivalScan(
            self,
            self.configuration,
            self.scan_data([shots] * POINTS),
            attempts_per_shot=ATTEMPTS_PER_SHOT,
            gate=tuple(1e-9 * limit + self.reference_delay for limit in GATE_NS),
            arrival_time=self.arrival_time,
        )

    def find(self):
        nanosecond = round(1e-9 / self.core.ref_period)
        times = np.floor_divide(self.data.joined(range(POINTS)), nanosecond)
        times -= round(self.reference_delay / 1e-9)
        return fit_photon_arrival(times, *GATE_NS, ATTEMPTS_PER_SHOT * sum(self.data.num_shots))
