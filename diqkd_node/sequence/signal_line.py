"""One bit from node to node, on two wires: a level, and a strobe whose rising edge says that it is valid.

Three such lines carry the order of a round (docs/order.md): the token r and, in `late-type`, Alice's setting
x from Alice to Bob, the round type T from Bob to Alice. The sender sets the level only just before the
strobe, so that nothing of the next bit is on the wire earlier. The receiver takes the first edge after its
gate has opened and the level a fixed time later; what the sender does afterwards changes nothing. Gates are
opened and closed by sensitivity, for the reason given in `handshake`.
"""

from artiq.experiment import *
from numpy import int64

from diqkd_node.sequence.handshake import CLOSED, RISING
from diqkd_node.sequence.timebase import machine_units

NONE = 2
"""No edge came in time."""


class _SignalLine(HasEnvironment):
    """The two wires; `name` is that of the level, the strobe's ends in `_strobe`."""

    kernel_invariants = {"setup_mu", "strobe_mu", "sample_delay_mu", "latency_mu"}

    def build(self, configuration, name):
        self.configuration = configuration
        self.setattr_device("core")
        self.level = self.get_device(name)
        self.strobe = self.get_device(f"{name}_strobe")

    def prepare(self):
        lines = self.configuration.lines
        self.setup_mu = machine_units(self.core, lines.strobe_setup)
        self.strobe_mu = machine_units(self.core, lines.strobe_time)
        self.sample_delay_mu = machine_units(self.core, lines.sample_delay)
        self.latency_mu = machine_units(self.core, lines.latency)


class SignalSender(_SignalLine):
    """The end that sends."""

    @kernel
    def setup(self):
        """Drive both wires low. Breaks real time."""
        self.core.break_realtime()
        self.level.off()
        self.strobe.off()

    @kernel
    def send(self, bit: TInt32) -> TInt64:
        """Set the level at the cursor, raise the strobe after the set-up time; returns the time of the edge.

        Leaves the cursor at the end of the strobe, whatever the bit.
        """
        if bit == 1:
            self.level.on()
        else:
            self.level.off()
        delay_mu(self.setup_mu)
        t_edge = now_mu()
        self.strobe.pulse_mu(self.strobe_mu)
        return t_edge


class SignalReceiver(_SignalLine):
    """The end that receives. After `receive`, `bit` is what came or NONE, and `t_edge` its time or -1."""

    def build(self, configuration, name):
        super().build(configuration, name)
        self.bit = NONE
        self.t_edge = int64(-1)

    @kernel
    def setup(self):
        """Make both wires inputs. Breaks real time."""
        self.core.break_realtime()
        self.level.input()
        self.strobe.input()

    @kernel
    def receive(self, window_mu: TInt64):
        """Wait for the first edge within `window_mu` of the cursor and take the level that goes with it.

        Leaves the cursor `latency_mu` after the edge, or after the end of the window where none came. Edges
        from before the gate opened are discarded; too many of them raise RTIOOverflow.
        """
        self.bit = NONE
        self.t_edge = int64(-1)
        t_open = now_mu()
        t_close = t_open + window_mu
        self.strobe._set_sensitivity(RISING)
        t_edge = self.strobe.timestamp_mu(t_close)
        while int64(0) <= t_edge < t_open:
            t_edge = self.strobe.timestamp_mu(t_close)
        if t_edge < int64(0):
            at_mu(t_close + self.latency_mu)
            self.strobe._set_sensitivity(CLOSED)
        else:
            at_mu(t_edge + self.sample_delay_mu)
            self.level.sample_input()
            self.strobe._set_sensitivity(CLOSED)
            bit = self.level.sample_get()
            at_mu(t_edge + self.latency_mu)
            self.t_edge = t_edge
            self.bit = bit
