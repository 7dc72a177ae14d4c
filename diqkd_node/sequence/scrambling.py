"""Erase the outcome from the ion before it couples to the link again (PROTOCOL 3.9).

1033 nm light empties D5/2 while the cooling beams scatter on S1/2: 100 us are more than ten time constants.
"""

from artiq.experiment import *

from diqkd_node.sequence.timebase import machine_units


class Scrambling(HasEnvironment):
    """Deshelving together with cooling."""

    kernel_invariants = {"duration_mu", "gap_mu"}

    def build(self, configuration):
        self.configuration = configuration
        for key in ("core", "ttl_422_cool", "ttl_1092", "ttl_1033"):
            self.setattr_device(key)

    def prepare(self):
        self.duration_mu = machine_units(self.core, self.configuration.scrambling.time)
        self.gap_mu = machine_units(self.core, self.configuration.beams.gap)

    @kernel
    def scramble(self):
        """All three beams on for the scrambling time. Advances by it and a gap after it."""
        self.scramble_for(self.duration_mu)

    @kernel
    def scramble_for(self, duration_mu: TInt64):
        """All three beams on for `duration_mu`. Advances by it and a gap after it."""
        with parallel:
            self.ttl_422_cool.pulse_mu(duration_mu)
            self.ttl_1092.pulse_mu(duration_mu)
            self.ttl_1033.pulse_mu(duration_mu)
        delay_mu(self.gap_mu)
