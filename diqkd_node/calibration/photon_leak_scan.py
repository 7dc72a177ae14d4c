"""Photons that reach the heralding station while an ion is read out: the outcome that leaks (SI Table S5).

A shot prepares the ion bright or dark, opens the station's detectors while the readout light is on, and
scrambles the ion afterwards. Where bright and dark ions give the same number of clicks, nothing leaks.
"""

from artiq.experiment import *

from diqkd_node.calibration.station_scan import IsolationDisplacementScan


class PhotonLeakScan(IsolationDisplacementScan):
    """A click a number. `dark`: for each point whether a mapping pulse hides the ion in D5/2."""

    kernel_invariants = IsolationDisplacementScan.kernel_invariants | {
        "dark",
        "map_frequency",
        "map_amplitude",
        "map_mu",
    }

    def build_scan(self, gate_time, arrival_time, part, dark):
        IsolationDisplacementScan.build_scan(self, gate_time, arrival_time, [True] * len(part), part)
        self.dark = dark

    def prepare(self):
        IsolationDisplacementScan.prepare(self)
        self.map_frequency = self.configuration.analysis.frequency_of("map")
        self.map_amplitude = self.configuration.analysis.amplitude
        self.map_mu = self.mu(self.configuration.analysis.pi_time_of("map"))

    @kernel
    def shot(self, point: TInt32, values: TList(TInt32), num_values: TInt32) -> TInt32:
        """Prepare, read out, scramble. Consumes all slack."""
        self.cooling.pulse()
        self.preparation.pump()
        if self.dark[point]:
            self.analysis.play(now_mu(), self.map_frequency, 0.0, self.map_amplitude, self.map_mu)
        t_open = now_mu() + self.slack_mu
        at_mu(t_open)
        t_close = self.illuminate(point)
        num_values = self.read(t_open, t_close, values, num_values)
        self.scrambling.scramble()
        return num_values
