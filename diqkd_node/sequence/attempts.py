"""The search for a herald: windows of entanglement attempts, with cooling between them (PROTOCOL 3.2).

`EntanglerAttempts` leaves the attempts and their gating to the entangler gateware core, which also keeps
master and slave in step within a window; the kernel only cools and starts windows.

Bob's core is the master: it decides on heralds, and its pattern is the record. Alice's, the slave, has to
start a window after it, or the master's time-out line ends hers at once and Bob waits his out alone. With
equal pauses she follows by the 16 ns that her windows end later; she waits another `SLAVE_LAG` on purpose.

`TTLAttempts` does all of it with ordinary TTL channels, for a node without that core: slower, since every
attempt takes the CPU's time. There the handshake alone keeps the nodes in step, so their cores have to share
a clock.
"""

from artiq.experiment import *
from numpy import int64

from diqkd_node.configuration.attempts import CYCLE_OVERHEAD
from diqkd_node.sequence.timebase import CYCLE_MU, machine_units, register_units
from diqkd_postproc.protocol.errors import ParameterError

# Timing channels of the entangler core: four sequencer outputs, then the gates of the four detectors.
FIRST_SEQUENCER_OUTPUT = 0b001000
FIRST_DETECTOR_GATE = 0b001100
WINDOW_ENDED = 0x3FFF

SLAVE_LAG = 200e-9
"""s, from the master's window to the slave's: above what cables and inputs take off, 25 coarse cycles, and
0.02 % of a window with its cooling."""


class EntanglerAttempts(HasEnvironment):
    """Herald source of a node with the entangler core. Patterns are reported by their index."""

    kernel_invariants = {
        "cooling_mu",
        "recooling_mu",
        "lag_mu",
        "window_mu",
        "cycle_mu",
        "num_windows",
        "patterns",
        "output_start_mu",
        "output_stop_mu",
        "gate_start_mu",
        "gate_stop_mu",
        "index_of_reason",
    }

    def build(self, configuration):
        self.configuration = configuration
        for key in ("core", "entangler", "ttl_422_cool", "ttl_1092"):
            self.setattr_device(key)

    def prepare(self):
        if self.entangler.is_master != (self.configuration.role == "bob"):
            raise ParameterError(
                f"entangler of {self.configuration.role} has is_master={self.entangler.is_master}, but Bob's "
                "core is the master, whose pattern is the record: correct the device databases and the wires"
            )
        attempts, cooling = self.configuration.attempts, self.configuration.cooling
        self.cooling_mu = machine_units(self.core, cooling.time)
        self.recooling_mu = machine_units(self.core, cooling.recooling_delay)
        self.window_mu = register_units(self.core, attempts.window_time)
        self.cycle_mu = register_units(self.core, attempts.attempt_time - CYCLE_OVERHEAD)
        self.lag_mu = int64(0) if self.entangler.is_master else machine_units(self.core, SLAVE_LAG)
        self.num_windows = attempts.windows_per_search
        self.patterns = list(attempts.herald_patterns)
        # An output that starts and stops at once would stay on to the end of the cycle: it starts after that.
        self.output_start_mu = [
            register_units(self.core, start if start < stop else attempts.attempt_time)
            for start, stop in attempts.outputs
        ]
        self.output_stop_mu = [register_units(self.core, stop) for _, stop in attempts.outputs]
        self.gate_start_mu = register_units(self.core, attempts.photon_window[0])
        self.gate_stop_mu = register_units(self.core, attempts.photon_window[1])
        # The core reports one bit a pattern; patterns exclude each other, so one bit is set.
        # Reason 0: the core has the success from its partner and saw none of its patterns itself.
        unknown = len(self.patterns)
        self.index_of_reason = [unknown, *(reason.bit_length() - 1 for reason in range(1, 16))]
        self.num_windows_run = 0
        self.timestamp_mu = 0
        self.pattern_index = 0

    @kernel
    def setup(self):
        """Program the attempt sequence and the herald patterns. Breaks real time."""
        self.core.break_realtime()
        self.entangler.init()
        for i in range(4):
            self.entangler.set_timing_mu(
                FIRST_SEQUENCER_OUTPUT + i, self.output_start_mu[i], self.output_stop_mu[i]
            )
            self.entangler.set_timing_mu(FIRST_DETECTOR_GATE + i, self.gate_start_mu, self.gate_stop_mu)
        self.entangler.set_cycle_length_mu(self.cycle_mu)
        self.entangler.set_heralds(self.patterns)

    @kernel
    def take_outputs(self):
        """Have the core drive the outputs. Advances by a coarse cycle."""
        self.entangler.set_config(enable=True)

    @kernel
    def release_outputs(self):
        """Give the outputs back to their TTL channels, which are low. Advances by a coarse cycle.

        While the master's core has them, the slave's TTL cannot trigger the picosecond laser."""
        self.entangler.init()

    @kernel
    def search(self) -> TTuple([TInt64, TInt32]):
        """Attempt until a herald comes or all windows are spent, cooling between windows.

        Returns its time and the index of its pattern, or (end of the last window, -1). Consumes all slack
        and leaves the cursor behind that time.
        """
        cool = self.ttl_422_cool
        repump = self.ttl_1092
        entangler = self.entangler
        delay_mu(self.lag_mu)
        timestamp, reason = entangler.run_mu(self.window_mu)
        num_left = self.num_windows - 1
        while reason == WINDOW_ENDED and num_left > 0:
            at_mu(timestamp + self.recooling_mu)
            with parallel:
                cool.pulse_mu(self.cooling_mu)
                repump.pulse_mu(self.cooling_mu)
            delay_mu(self.lag_mu)
            timestamp, reason = entangler.run_mu(self.window_mu)
            num_left -= 1
        at_mu(timestamp + self.recooling_mu)
        if reason == WINDOW_ENDED:
            return timestamp, -1
        return timestamp, self.index_of_reason[reason & 15]


class TTLAttempts(HasEnvironment):
    """Herald source of a node without the entangler core; interface as `EntanglerAttempts`.

    Outputs `ttl_422_sigma`, `ttl_1092` and `ttl_422_ps` play the attempt, inputs `apd0` to `apd3` are the
    station's detectors.
    """

    kernel_invariants = {
        "cooling_mu",
        "recooling_mu",
        "cycle_mu",
        "num_windows",
        "num_attempts",
        "sigma_mu",
        "repump_mu",
        "pulse_start_mu",
        "pulse_mu",
        "gate_start_mu",
        "gate_mu",
        "detectors",
        "index_of_pattern",
    }

    def build(self, configuration, photon_window=None):
        """`photon_window`: instead of the configured one, (start, stop) of the gates, s after the pulse."""
        self.configuration = configuration
        self.photon_window = photon_window or configuration.attempts.photon_window
        for key in ("core", "ttl_422_cool", "ttl_1092", "ttl_422_sigma", "ttl_422_ps"):
            self.setattr_device(key)
        self.detectors = [self.get_device(f"apd{i}") for i in range(4)]

    def prepare(self):
        attempts, cooling = self.configuration.attempts, self.configuration.cooling
        (_, sigma_stop), (_, repump_stop), (pulse_start, pulse_stop), _ = attempts.outputs
        gate_start, gate_stop = self.photon_window
        self.cooling_mu = machine_units(self.core, cooling.time)
        self.recooling_mu = machine_units(self.core, cooling.recooling_delay)
        self.cycle_mu = machine_units(self.core, attempts.ttl_attempt_time)
        self.num_windows = attempts.windows_per_search
        self.num_attempts = max(1, int(attempts.window_time / attempts.ttl_attempt_time))
        self.sigma_mu = machine_units(self.core, sigma_stop)
        self.repump_mu = machine_units(self.core, repump_stop)
        self.pulse_start_mu = machine_units(self.core, pulse_start)
        self.pulse_mu = machine_units(self.core, pulse_stop - pulse_start)
        self.gate_start_mu = machine_units(self.core, pulse_start + gate_start)
        self.gate_mu = machine_units(self.core, gate_stop - gate_start)
        self.index_of_pattern = [
            attempts.herald_patterns.index(pattern) if pattern in attempts.herald_patterns else -1
            for pattern in range(16)
        ]

    @kernel
    def setup(self):
        """Set the directions of the lines. Breaks real time."""
        self.core.break_realtime()
        self.ttl_422_sigma.off()
        self.ttl_422_ps.off()
        for detector in self.detectors:
            detector.input()

    @kernel
    def take_outputs(self):
        """They are TTL channels anyway. Advances by a coarse cycle."""
        delay_mu(CYCLE_MU)

    @kernel
    def release_outputs(self):
        """Switch both beams off. Does not move the cursor."""
        self.ttl_422_sigma.off()
        self.ttl_422_ps.off()

    @kernel
    def play(self) -> TInt64:
        """The outputs and gates of one attempt from the cursor on; returns the time at which the gates close,
        where it leaves the cursor."""
        t_start = now_mu()
        with parallel:
            self.ttl_422_sigma.pulse_mu(self.sigma_mu)
            self.ttl_1092.pulse_mu(self.repump_mu)
        at_mu(t_start + self.pulse_start_mu)
        self.ttl_422_ps.pulse_mu(self.pulse_mu)
        t_close = int64(0)
        for detector in self.detectors:
            at_mu(t_start + self.gate_start_mu)
            t_close = detector.gate_rising_mu(self.gate_mu)
        return t_close

    @kernel
    def attempt(self) -> TInt32:
        """One attempt from the cursor on; returns the pattern of the detectors that clicked.

        Consumes all slack; the cursor ends at the close of the detectors' gates.
        """
        t_close = self.play()
        pattern = 0
        for i in range(4):
            t_click = self.detectors[i].timestamp_mu(t_close)
            if t_click >= int64(0):
                pattern |= 1 << i
                while t_click >= int64(0):
                    t_click = self.detectors[i].timestamp_mu(t_close)
        return pattern

    @kernel
    def search(self) -> TTuple([TInt64, TInt32]):
        """Attempt until a herald comes or all windows are spent; see `EntanglerAttempts.search`."""
        for window in range(self.num_windows):
            if window > 0:
                with parallel:
                    self.ttl_422_cool.pulse_mu(self.cooling_mu)
                    self.ttl_1092.pulse_mu(self.cooling_mu)
            delay_mu(self.recooling_mu)
            for _ in range(self.num_attempts):
                t_end = now_mu() + self.cycle_mu
                index = self.index_of_pattern[self.attempt()]
                at_mu(t_end)
                if index >= 0:
                    return t_end, index
        return now_mu(), -1
