"""Is there one ion? Fluorescence during one cooling time tells; stalled heralds give reason to look."""

from artiq.experiment import *

from diqkd_node.sequence.timebase import machine_units


class IonWatch(HasEnvironment):
    """Looks at the ion while it is cooled."""

    kernel_invariants = {"duration_mu", "gap_mu", "threshold", "upper_threshold", "num_looks"}

    def build(self, configuration):
        self.configuration = configuration
        for key in ("core", "ttl_422_cool", "ttl_1092", "pmt_counter"):
            self.setattr_device(key)

    def prepare(self):
        self.duration_mu = machine_units(self.core, self.configuration.cooling.time)
        self.gap_mu = machine_units(self.core, self.configuration.cooling.recooling_delay)
        self.threshold = self.configuration.ion_watch.threshold
        self.upper_threshold = self.configuration.ion_watch.upper_threshold
        self.num_looks = 3

    @kernel
    def present(self) -> TBool:
        """Cool and count, up to three times; False if no count was that of one ion.

        Advances by one cooling time a look and consumes all slack of each.
        """
        for _ in range(self.num_looks):
            with parallel:
                self.ttl_422_cool.pulse_mu(self.duration_mu)
                self.ttl_1092.pulse_mu(self.duration_mu)
                self.pmt_counter.gate_rising_mu(self.duration_mu)
            count = self.pmt_counter.fetch_count()
            delay_mu(self.gap_mu)
            if self.threshold < count and count <= self.upper_threshold:
                return True
        return False
