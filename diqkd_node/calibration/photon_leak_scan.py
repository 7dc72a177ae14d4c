"""Photons that reach the heralding station while an ion is read out: the outcome that leaks (SI Table S5).

A shot prepares the ion bright or dark, opens the station's detectors while the readout light is on, and
scrambles the ion afterwards. Where bright and dark ions give the same number of clicks, nothing leaks.
"""

from artiq.experiment import *

from diqkd_node.calibration.station_scan import IsolationDisplacementScan


class PhotonLeakScan(IsolationDisplacementScan):
    """A click a number. `dark`: for each point whether a mapping pulse hides the ion in D5/2."""

    kernel_invariants = IsolationDisplacementScan.kernel_invariants | {"dark"}

    def build_scan(self, gate_time, arrival_time, part, dark):
        IsolationDisplacementScan.build_scan(self, gate_time, arrival_time, [True] * len(part), part)
        self.dark = dark

    @kernel
    def shot(self, point: TInt32, values: TList(TInt32), num_values: TInt32) -> TInt32:
        """Prepare, read out, scramble. Consumes all slack."""
        self.cooling.pulse()
        self.preparation.pump()
        if self.dark[point]:
            self.analysis.map_from(now_mu())
        t_open = now_mu() + self.slack_mu
        at_mu(t_open)
        t_close = self.illuminate(point)
        num_values = self.read(t_open, t_close, values, num_values)
        self.scrambling.scramble()
        return num_values
