"""State readout by fluorescence at 422 nm, counted by the edge counter against a threshold (PROTOCOL 3.8)."""

from artiq.experiment import *

from diqkd_node.sequence.timebase import machine_units
from diqkd_postproc.protocol.roles import BRIGHT_OUTCOME


class Readout(HasEnvironment):
    """Opens the counter during a readout pulse; the count is fetched later, while other beams are on."""

    kernel_invariants = {"duration_mu", "gap_mu", "threshold", "bright_outcome"}

    def build(self, configuration):
        self.configuration = configuration
        for key in ("core", "ttl_422_cool", "ttl_1092", "pmt_counter"):
            self.setattr_device(key)

    def prepare(self):
        self.duration_mu = machine_units(self.core, self.configuration.readout.time)
        self.gap_mu = machine_units(self.core, self.configuration.beams.gap)
        self.threshold = self.configuration.readout.threshold
        self.bright_outcome = BRIGHT_OUTCOME[self.configuration.role]

    @kernel
    def detect(self):
        """Illuminate the ion and count. Advances by the readout time and a gap after it."""
        with parallel:
            self.ttl_422_cool.pulse_mu(self.duration_mu)
            self.ttl_1092.pulse_mu(self.duration_mu)
            self.pmt_counter.gate_rising_mu(self.duration_mu)
        delay_mu(self.gap_mu)

    @kernel
    def fetch_count(self) -> TInt32:
        """Photons of the last detection. Waits for the end of its gate, does not move the cursor."""
        return self.pmt_counter.fetch_count()

    @kernel
    def fetch_outcome(self) -> TInt32:
        """Outcome bit of the last detection. Waits for the end of its gate, does not move the cursor."""
        if self.fetch_count() > self.threshold:
            return self.bright_outcome
        return 1 - self.bright_outcome
