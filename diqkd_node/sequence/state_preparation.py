"""Optical pumping: sigma-polarised 422 nm light leaves the ion in S1/2 m=+1/2, where a calibration starts.

The beam's switch is an output of the entangler core where the node has one; it has to let go of it first.
"""

from artiq.experiment import *

from diqkd_node.sequence.timebase import machine_units


class StatePreparation(HasEnvironment):
    """The pumping beam as an ordinary TTL channel."""

    kernel_invariants = {"duration_mu", "gap_mu"}

    def build(self, configuration):
        self.configuration = configuration
        for key in ("core", "ttl_422_sigma", "ttl_1092"):
            self.setattr_device(key)

    def prepare(self):
        self.duration_mu = machine_units(self.core, self.configuration.state_preparation.pumping_time)
        self.gap_mu = machine_units(self.core, self.configuration.beams.gap)

    @kernel
    def setup(self):
        """Switch the beam off. Breaks real time."""
        self.core.break_realtime()
        self.ttl_422_sigma.off()

    @kernel
    def pump(self):
        """Prepare S1/2 m=+1/2. Advances by the pumping time and a gap after it."""
        with parallel:
            self.ttl_422_sigma.pulse_mu(self.duration_mu)
            self.ttl_1092.pulse_mu(self.duration_mu)
        delay_mu(self.gap_mu)


class StatePreparationBesideEntangler(StatePreparation):
    """On a node with the entangler core."""

    def build(self, configuration):
        StatePreparation.build(self, configuration)
        self.setattr_device("entangler")

    @kernel
    def setup(self):
        """Take the outputs from the entangler core, until the next search for a herald sets it up again, and
        switch the beam off. Breaks real time."""
        self.core.break_realtime()
        self.entangler.init()
        self.ttl_422_sigma.off()
