"""The search for a herald: windows of entanglement attempts, with cooling between them (PROTOCOL 3.2).

`EntanglerAttempts` leaves the attempts and their gating to the entangler gateware core, which also keeps
master and slave in step within a window; the kernel only cools and starts windows.
"""

from artiq.experiment import *

from diqkd_node.timebase import machine_units, register_units

# Timing channels of the entangler core: four sequencer outputs, then the gates of the four detectors.
FIRST_SEQUENCER_OUTPUT = 0b001000
FIRST_DETECTOR_GATE = 0b001100
WINDOW_ENDED = 0x3FFF


class EntanglerAttempts(HasEnvironment):
    """Herald source of a node with the entangler core. Patterns are reported by their index."""

    kernel_invariants = {
        "cooling_mu",
        "recooling_mu",
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
        configuration = self.configuration
        self.cooling_mu = machine_units(self.core, configuration.cooling_time)
        self.recooling_mu = machine_units(self.core, configuration.recooling_delay)
        self.window_mu = register_units(self.core, configuration.window_time)
        self.cycle_mu = register_units(self.core, configuration.attempt_time)
        self.num_windows = configuration.windows_per_search
        self.patterns = list(configuration.herald_patterns)
        self.output_start_mu = [
            register_units(self.core, start) for start, _ in configuration.attempt_outputs
        ]
        self.output_stop_mu = [register_units(self.core, stop) for _, stop in configuration.attempt_outputs]
        self.gate_start_mu = register_units(self.core, configuration.photon_window[0])
        self.gate_stop_mu = register_units(self.core, configuration.photon_window[1])
        # The core reports one bit a pattern; patterns exclude each other, so one bit is set.
        self.index_of_reason = [max(reason.bit_length() - 1, 0) for reason in range(16)]
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
        self.entangler.set_config(enable=True)

    @kernel
    def search(self) -> TTuple([TInt64, TInt32]):
        """Cool and attempt until a herald comes or all windows are spent.

        Returns its time and the index of its pattern, or (end of the last window, -1). Consumes all slack
        and leaves the cursor behind that time.
        """
        cool = self.ttl_422_cool
        repump = self.ttl_1092
        entangler = self.entangler
        for _ in range(self.num_windows):
            with parallel:
                cool.pulse_mu(self.cooling_mu)
                repump.pulse_mu(self.cooling_mu)
            timestamp, reason = entangler.run_mu(self.window_mu)
            if reason != WINDOW_ENDED:
                return timestamp, self.index_of_reason[reason & 15]
            at_mu(timestamp + self.recooling_mu)
        return now_mu(), -1
