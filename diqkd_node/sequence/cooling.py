"""Doppler cooling with 422 nm and 1092 nm light: before every window, and whenever the node rests."""

from artiq.experiment import *

from diqkd_node.sequence.timebase import machine_units


class Cooling(HasEnvironment):
    """The cooling beams; also sets up all beams derived from AD9912 synthesisers."""

    kernel_invariants = {"duration_mu"}

    def build(self, configuration):
        self.configuration = configuration
        for key in (
            "core",
            "ttl_422_cool",
            "ttl_1092",
            "ttl_1033",
            "urukul1_cpld",
            "dds_422",
            "dds_1092",
            "dds_1033",
        ):
            self.setattr_device(key)

    def prepare(self):
        self.duration_mu = machine_units(self.core, self.configuration.cooling.time)
        self.frequency_422 = self.configuration.beams.frequency_422
        self.frequency_1092 = self.configuration.beams.frequency_1092
        self.frequency_1033 = self.configuration.beams.frequency_1033
        self.attenuation = self.configuration.beams.attenuation
        self.kernel_invariants = self.kernel_invariants | {
            "frequency_422",
            "frequency_1092",
            "frequency_1033",
            "attenuation",
        }

    @kernel
    def setup(self):
        """Initialise the synthesisers of the cooling, repumping and deshelving beams. Breaks real time."""
        self.core.break_realtime()
        self.urukul1_cpld.init()
        self.core.break_realtime()
        self.dds_422.init()
        self.core.break_realtime()
        self.dds_1092.init()
        self.core.break_realtime()
        self.dds_1033.init()
        self.core.break_realtime()
        self.dds_422.set_att(self.attenuation)
        self.dds_1092.set_att(self.attenuation)
        self.dds_1033.set_att(self.attenuation)
        self.core.break_realtime()
        self.dds_422.set(self.frequency_422)
        self.dds_1092.set(self.frequency_1092)
        self.dds_1033.set(self.frequency_1033)

    @kernel
    def pulse(self):
        """Cool for the configured time. Advances the cursor by it."""
        with parallel:
            self.ttl_422_cool.pulse_mu(self.duration_mu)
            self.ttl_1092.pulse_mu(self.duration_mu)

    @kernel
    def stay_on(self):
        """Switch to the resting state: cooling beams on, deshelving beam off. Does not move the cursor."""
        self.ttl_422_cool.on()
        self.ttl_1092.on()
        self.ttl_1033.off()

    @kernel
    def off(self):
        """Switch all three beams off. Does not move the cursor."""
        self.ttl_422_cool.off()
        self.ttl_1092.off()
        self.ttl_1033.off()
