"""The one logic line by which Bob tells Alice the type of a round, after both links are down (PROTOCOL 3.6).

Two wires: the level of `ttl_round_type` is T, a rising edge of `ttl_round_type_strobe` says that it is
valid. Bob sets the level only just before the edge, so that nothing of the next T is on the wire while an
ion is still coupled.
"""

from artiq.experiment import *

from diqkd_node.sequence.handshake import CLOSED, RISING
from diqkd_node.sequence.timebase import machine_units

UNKNOWN = -1


class _RoundTypeLink(HasEnvironment):
    kernel_invariants = {"lead_mu", "setup_mu", "strobe_mu", "timeout_mu", "sample_delay_mu", "latency_mu"}

    def build(self, configuration):
        self.configuration = configuration
        for key in ("core", "ttl_round_type", "ttl_round_type_strobe"):
            self.setattr_device(key)

    def prepare(self):
        self.lead_mu = machine_units(self.core, self.configuration.round_type_line.strobe_delay)
        self.setup_mu = machine_units(self.core, self.configuration.round_type_line.strobe_setup)
        self.strobe_mu = machine_units(self.core, self.configuration.round_type_line.strobe_time)
        self.timeout_mu = machine_units(self.core, self.configuration.round_type_line.strobe_timeout)
        self.sample_delay_mu = machine_units(self.core, self.configuration.round_type_line.sample_delay)
        self.latency_mu = machine_units(self.core, self.configuration.round_type_line.latency)


class RoundTypeSender(_RoundTypeLink):
    """Bob's side; his setting y decides: y = 2 is a key round. A scan of the link has none."""

    kernel_invariants = _RoundTypeLink.kernel_invariants | {"key_setting"}

    def build(self, configuration, key_setting):
        super().build(configuration)
        self.key_setting = key_setting

    @kernel
    def setup(self):
        """Drive both wires low. Breaks real time."""
        self.core.break_realtime()
        self.ttl_round_type.off()
        self.ttl_round_type_strobe.off()

    @kernel
    def known_type(self, setting: TInt32) -> TInt32:
        """Type of a round with this setting, sent or not."""
        if setting == self.key_setting:
            return 0
        return 1

    @kernel
    def exchange(self, setting: TInt32) -> TInt32:
        """Send the type of the round and return it. Advances by delay, set-up time and strobe."""
        round_type = 1
        if setting == self.key_setting:
            round_type = 0
        delay_mu(self.lead_mu)
        if round_type == 1:
            self.ttl_round_type.on()
        else:
            self.ttl_round_type.off()
        delay_mu(self.setup_mu)
        self.ttl_round_type_strobe.pulse_mu(self.strobe_mu)
        return round_type


class RoundTypeReceiver(_RoundTypeLink):
    """Alice's side; her own setting does not matter here."""

    @kernel
    def setup(self):
        """Make both wires inputs. Breaks real time."""
        self.core.break_realtime()
        self.ttl_round_type.input()
        self.ttl_round_type_strobe.input()

    @kernel
    def known_type(self, setting: TInt32) -> TInt32:
        """UNKNOWN: before the strobe Alice cannot tell."""
        return UNKNOWN

    @kernel
    def exchange(self, setting: TInt32) -> TInt32:
        """Wait for the strobe and return the type of the round, or UNKNOWN if none came.

        Leaves the cursor `latency_mu` after the strobe, or behind the timeout.
        """
        t_open = now_mu()
        t_close = t_open + self.timeout_mu
        self.ttl_round_type_strobe._set_sensitivity(RISING)
        t_edge = self.ttl_round_type_strobe.timestamp_mu(t_close)
        while int64(0) <= t_edge < t_open:
            t_edge = self.ttl_round_type_strobe.timestamp_mu(t_close)
        if t_edge < int64(0):
            at_mu(t_close + self.latency_mu)
            self.ttl_round_type_strobe._set_sensitivity(CLOSED)
            return UNKNOWN
        at_mu(t_edge + self.sample_delay_mu)
        self.ttl_round_type.sample_input()
        self.ttl_round_type_strobe._set_sensitivity(CLOSED)
        round_type = self.ttl_round_type.sample_get()
        at_mu(t_edge + self.latency_mu)
        return round_type
