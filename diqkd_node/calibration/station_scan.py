"""Scans that look at the heralding station's detectors, of which every node has the signals.

Photons of the node's own ion that arrive there tell how well it is coupled to the link: after a displacement,
during one, or within an attempt. The detectors' inputs are read by their time stamps, 64 of which fit in an
input's buffer on hardware: gates are short enough for that.
"""

from artiq.experiment import *

from diqkd_node.calibration.scan import CAPACITY, Scan
from diqkd_node.sequence.attempts import TTLAttempts

NUM_DETECTORS = 4
PHOTON_ROOM = 200
"""Photons of a shot that are kept, at least."""


class StationScan(Scan):
    """One number a photon: its time after the shot's reference, mu."""

    MAX_PER_SHOT = PHOTON_ROOM
    kernel_invariants = Scan.kernel_invariants | {"detectors", "slack_mu", "limit"}

    def build_scan(self):
        self.detectors = [self.get_device(f"apd{index}") for index in range(NUM_DETECTORS)]
        for key in ("ttl_422_cool", "ttl_1092"):
            self.setattr_device(key)

    def prepare(self):
        Scan.prepare(self)
        self.slack_mu = self.mu(self.configuration.cooling.recooling_delay)
        self.limit = CAPACITY

    @kernel
    def setup_scan(self):
        """Set the directions of the detectors' lines. Breaks real time."""
        self.core.break_realtime()
        for detector in self.detectors:
            detector.input()

    @kernel
    def read(self, t_reference: TInt64, t_close: TInt64, values: TList(TInt32), num_values: TInt32) -> TInt32:
        """Append the time of every photon in the gates that close at `t_close`. Consumes all slack and
        leaves the cursor behind them, and ahead of the CPU, which takes a microsecond a photon."""
        for i in range(NUM_DETECTORS):
            t_click = self.detectors[i].timestamp_mu(t_close)
            while t_click >= int64(0):
                if num_values < self.limit:
                    values[num_values] = int32(t_click - t_reference)
                    num_values += 1
                t_click = self.detectors[i].timestamp_mu(t_close)
        t_read = self.core.get_rtio_counter_mu()
        if t_read < t_close:
            t_read = t_close
        at_mu(t_read + self.slack_mu)
        return num_values


class IsolationScan(StationScan):
    """Photons under cooling light. Without the repumper the ion goes dark: that is the background."""

    kernel_invariants = StationScan.kernel_invariants | {"gate_mu", "arrival_mu", "repumped"}

    def build_scan(self, gate_time, arrival_time, repumped):
        """`gate_time`: s in which photons count. `arrival_time`: s for the electrodes to follow a step.
        `repumped`: for each point whether the repumper is on."""
        StationScan.build_scan(self)
        self.gate_time = gate_time
        self.arrival_time = arrival_time
        self.repumped = repumped

    def prepare(self):
        StationScan.prepare(self)
        self.gate_mu = self.mu(self.gate_time)
        self.arrival_mu = self.mu(self.arrival_time)

    @kernel
    def illuminate(self, point: TInt32) -> TInt64:
        """Light on and gates open from the cursor on; returns the time at which both end, does not move the
        cursor."""
        t_open = now_mu()
        self.ttl_422_cool.pulse_mu(self.gate_mu)
        if self.repumped[point]:
            at_mu(t_open)
            self.ttl_1092.pulse_mu(self.gate_mu)
        for i in range(NUM_DETECTORS):
            at_mu(t_open)
            self.detectors[i].gate_rising_mu(self.gate_mu)
        at_mu(t_open)
        return t_open + self.gate_mu


class IsolationDisplacementScan(IsolationScan):
    """The ion at rest in a place between the focus (0) and the isolated position (1) or beyond."""

    kernel_invariants = IsolationScan.kernel_invariants | {"part"}

    def build_scan(self, gate_time, arrival_time, repumped, part):
        IsolationScan.build_scan(self, gate_time, arrival_time, repumped)
        self.part = part

    @kernel
    def begin_point(self, point: TInt32):
        """Move the ion, and wait until it has arrived. Breaks real time."""
        self.core.break_realtime()
        self.isolation.move(self.part[point])
        delay_mu(self.arrival_mu)

    @kernel
    def shot(self, point: TInt32, values: TList(TInt32), num_values: TInt32) -> TInt32:
        """Cool, then count. Consumes all slack."""
        self.cooling.pulse()
        t_open = now_mu() + self.slack_mu
        at_mu(t_open)
        t_close = self.illuminate(point)
        return self.read(t_open, t_close, values, num_values)


class IsolationTransientScan(IsolationScan):
    """The ion on its way: photons from `lead_time` before the electrodes' step to the end of the gate."""

    kernel_invariants = IsolationScan.kernel_invariants | {"lead_mu"}

    def build_scan(self, gate_time, arrival_time, repumped, lead_time):
        IsolationScan.build_scan(self, gate_time, arrival_time, repumped)
        self.lead_time = lead_time

    def prepare(self):
        IsolationScan.prepare(self)
        self.lead_mu = self.mu(self.lead_time)

    @kernel
    def shot(self, point: TInt32, values: TList(TInt32), num_values: TInt32) -> TInt32:
        """Back to the focus, cool, then step out under light; times are after the step. Consumes all
        slack."""
        self.isolation.reconnect()
        delay_mu(self.arrival_mu)
        self.cooling.pulse()
        t_open = now_mu() + self.slack_mu
        at_mu(t_open)
        t_close = self.illuminate(point)
        at_mu(t_open + self.lead_mu)
        self.isolation.step_out()
        return self.read(t_open + self.lead_mu, t_close, values, num_values)


class PhotonArrivalScan(StationScan):
    """Attempts with gates that are wide open: photons by their time after the picosecond pulse's switch."""

    kernel_invariants = StationScan.kernel_invariants | {"attempts_per_shot", "pulse_start_mu", "arrival_mu"}

    def build_scan(self, attempts_per_shot, gate, arrival_time):
        """`gate`: (start, stop) of the detectors' gates, s after the pulse's switch."""
        StationScan.build_scan(self)
        self.attempts_per_shot = attempts_per_shot
        self.arrival_time = arrival_time
        self.attempts = TTLAttempts(self, self.configuration, gate)

    def prepare(self):
        StationScan.prepare(self)
        self.pulse_start_mu = self.attempts.pulse_start_mu
        # Time to play an attempt's events, which take the CPU longer than the timeline.
        self.slack_mu = self.attempts.cycle_mu
        self.arrival_mu = self.mu(self.arrival_time)

    @kernel
    def setup_scan(self):
        """Set the directions of the attempts' lines, the detectors' among them. Breaks real time."""
        self.attempts.setup()

    @kernel
    def begin_point(self, point: TInt32):
        """Move the ion into the focus, and wait until it has arrived. Breaks real time."""
        self.core.break_realtime()
        self.isolation.reconnect()
        delay_mu(self.arrival_mu)

    @kernel
    def shot(self, point: TInt32, values: TList(TInt32), num_values: TInt32) -> TInt32:
        """Cool, then a number of attempts. Consumes all slack."""
        self.cooling.pulse()
        delay_mu(self.slack_mu)
        for _ in range(self.attempts_per_shot):
            t_start = now_mu()
            t_close = self.attempts.play()
            num_values = self.read(t_start + self.pulse_start_mu, t_close, values, num_values)
        return num_values
