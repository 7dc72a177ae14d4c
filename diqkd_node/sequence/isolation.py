"""Link isolation by moving the ion 3 um out of the focus of the collection lens (SI S2 D).

The electrode filters settle within 30 us, after which less than 1e-4 of the coupling is left. Only then
may anything of the round's inputs or outcome exist outside the node.
"""

from artiq.experiment import *

from diqkd_node.sequence.timebase import machine_units


class Isolation(HasEnvironment):
    """The shuttle, as four voltages of the Fastino DAC."""

    kernel_invariants = {"settling_mu", "channels", "connected", "isolated", "spacing_mu"}

    def build(self, configuration):
        self.configuration = configuration
        self.setattr_device("core")
        self.setattr_device("fastino")

    def prepare(self):
        self.settling_mu = machine_units(self.core, self.configuration.isolation.settling_time)
        self.spacing_mu = machine_units(self.core, 8e-9)
        self.channels = list(self.configuration.isolation.channels)
        self.connected = list(self.configuration.isolation.connected_voltages)
        self.isolated = list(self.configuration.isolation.isolated_voltages)

    @kernel
    def setup(self):
        """Initialise the DAC and move the ion out. Breaks real time."""
        self.core.break_realtime()
        self.fastino.init()
        self.core.break_realtime()
        self.disconnect()

    @kernel
    def disconnect(self):
        """Move the ion out of the focus and wait until it has arrived. Advances by a little over 30 us."""
        self.step_out()
        delay_mu(self.settling_mu)

    @kernel
    def step_out(self):
        """Start moving the ion out of the focus. Advances by 32 ns."""
        for i in range(len(self.channels)):
            self.fastino.set_dac(self.channels[i], self.isolated[i])
            delay_mu(self.spacing_mu)

    @kernel
    def move(self, part: TFloat):
        """Start moving the ion to a part of its way out: 0 is the focus, 1 isolated. Advances by 32 ns."""
        for i in range(len(self.channels)):
            volts = self.connected[i] + part * (self.isolated[i] - self.connected[i])
            self.fastino.set_dac(self.channels[i], volts)
            delay_mu(self.spacing_mu)

    @kernel
    def reconnect(self):
        """Start moving the ion back into the focus; it arrives during cooling. Advances by 32 ns."""
        for i in range(len(self.channels)):
            self.fastino.set_dac(self.channels[i], self.connected[i])
            delay_mu(self.spacing_mu)
