"""Scans of 674 nm pulses: cool, pump, play the point's pulses, count photons.

A point is a row of pulses, so that a Rabi flop, a spectrum and a Ramsey fringe differ in a table only. The
ion is out of the focus, where it also is when a round plays its pulses.
"""

from dataclasses import dataclass

from artiq.experiment import *

from diqkd_node.calibration.scan import Scan


@dataclass(frozen=True)
class ScanPulse:
    """Hz, turns, part of full scale, s; `wait` is the dark time before the pulse, at least
    `dds_set_time + pulse_gap` of the configuration."""

    frequency: float
    duration: float
    amplitude: float
    phase: float = 0.0
    wait: float = 0.0


class PulseScan(Scan):
    """One number a shot: the photons of the readout."""

    kernel_invariants = Scan.kernel_invariants | {
        "num_pulses",
        "ftw",
        "pow",
        "asf",
        "pulse_mu",
        "wait_mu",
    }

    def build_scan(self, points):
        """`points`: for each point its `ScanPulse`s, as many for every point."""
        self.points = points

    def prepare(self):
        Scan.prepare(self)
        pulses = [pulse for point in self.points for pulse in point]
        self.num_pulses = len(self.points[0])
        setting = self.configuration.analysis.dds_set_time + self.configuration.analysis.pulse_gap
        # An empty list has no type for the compiler.
        pulses = pulses or [ScanPulse(self.configuration.analysis.frequency_of("qubit"), 0.0, 0.0)]
        words = [self.analysis.words_of(pulse.frequency, pulse.phase, pulse.amplitude) for pulse in pulses]
        self.ftw, self.pow, self.asf = (list(column) for column in zip(*words, strict=True))
        self.pulse_mu = [self.mu(pulse.duration) for pulse in pulses]
        self.wait_mu = [self.mu(max(pulse.wait - setting, 0.0)) for pulse in pulses]

    @kernel
    def play(self, point: TInt32):
        """From a cold ion to the end of the point's pulses."""
        self.cooling.pulse()
        self.preparation.pump()
        t_start = now_mu()
        for k in range(self.num_pulses):
            i = point * self.num_pulses + k
            delay_mu(self.wait_mu[i])
            if self.pulse_mu[i] > 0:
                self.analysis.play(t_start, self.ftw[i], self.pow[i], self.asf[i], self.pulse_mu[i])

    @kernel
    def shot(self, point: TInt32, values: TList(TInt32), num_values: TInt32) -> TInt32:
        """The pulses, then the readout. Consumes all slack but the scrambling time."""
        self.play(point)
        self.readout.detect()
        self.scrambling.scramble()
        values[num_values] = self.readout.fetch_count()
        return num_values + 1


class ScramblingTimeScan(PulseScan):
    """The same with a deshelving pulse before the readout, of a length that the point tells."""

    kernel_invariants = PulseScan.kernel_invariants | {"deshelving_mu"}

    def build_scan(self, points, deshelving_times):
        PulseScan.build_scan(self, points)
        self.deshelving_times = deshelving_times

    def prepare(self):
        PulseScan.prepare(self)
        self.deshelving_mu = [self.mu(duration) for duration in self.deshelving_times]

    @kernel
    def shot(self, point: TInt32, values: TList(TInt32), num_values: TInt32) -> TInt32:
        """The pulses, deshelving, then the readout. Consumes all slack but the scrambling time."""
        self.play(point)
        if self.deshelving_mu[point] > 0:
            self.scrambling.scramble_for(self.deshelving_mu[point])
        self.readout.detect()
        self.scrambling.scramble()
        values[num_values] = self.readout.fetch_count()
        return num_values + 1
