"""A round after its herald, in the words of the order that makes it secure (docs/order.md, section 2).

One class a role and protocol, with one kernel method that reads like the list there. An adversary who owns the
station and the lines decides when heralds and edges come; what a device at a node learns, and when, depends
only on what is written here:

* every outgoing edge and every pulse stands at a fixed offset from a herald or from an incoming edge that the
  rules allow; none depends on x, y, a, b;
* the index of the round is used up (`used`) from the first instant at which something may go out, and is then
  recorded whatever happens.

A round that ends by an exception keeps what it has (`received`, `received_setting`) only where the rule says that
it was sampled; everything else is NONE, and the outcome LOST.
"""

from artiq.experiment import *
from numpy import int64

from diqkd_node.sequence.signal_line import NONE, SignalReceiver, SignalSender
from diqkd_node.sequence.timebase import machine_units

LOST = -1


class _Round(HasEnvironment):
    """What a round leaves: attributes, so that an exception loses none of it.

    used: whether the index is used up; outcome: 0, 1 or LOST; received: T' or r', 0, 1 or NONE;
    received_setting: x' or NONE; received_end: e' or NONE; t_edge: time of the received edge, -1 where there was none; locked: whether
    the 674 nm laser was.
    """

    kernel_invariants = {"lead_mu", "processing_mu"}

    def build(self, configuration, steps, end_token, key_setting):
        self.configuration = configuration
        self.setattr_device("core")
        self.analysis, self.isolation = steps.analysis, steps.isolation
        self.readout, self.scrambling = steps.readout, steps.scrambling
        self.lock_monitor = steps.lock_monitor
        self.end_token = end_token
        self.key_setting = key_setting
        self.used = False
        self.outcome = LOST
        self.received = NONE
        self.received_setting = NONE
        self.received_end = NONE
        self.t_edge = int64(-1)
        self.locked = True

    def prepare(self):
        self.call_child_method("prepare")
        lines = self.configuration.lines
        self.lead_mu = machine_units(self.core, lines.strobe_delay)
        self.processing_mu = machine_units(self.core, lines.outcome_latency)

    @kernel
    def begin(self):
        """Forget the last round."""
        self.used = False
        self.outcome = LOST
        self.received = NONE
        self.received_setting = NONE
        self.received_end = NONE
        self.t_edge = int64(-1)
        self.locked = True

    @kernel
    def interrupt(self):
        """An exception has ended the round. What was received stays only where it was sampled before `used`."""
        self.received_end = NONE

    @kernel
    def never_announced(self) -> TBool:
        """Whether the round has been used up without its type."""
        return False

    @kernel
    def measure(self, t_herald: TInt64, setting: TInt32, pattern_index: TInt32):
        """Analysis pulse and readout from the cursor on, at times that do not depend on the setting."""
        self.analysis.select_basis(t_herald, setting, pattern_index)
        self.readout.detect()
        self.lock_monitor.request()

    @kernel
    def fetch(self):
        """Outcome and lock of the last `measure`. Waits for the end of the readout."""
        self.outcome = self.readout.fetch_outcome()
        self.locked = self.lock_monitor.fetch()

    @kernel
    def reconnect(self):
        """Scramble, then let the ion move back into the focus."""
        self.scrambling.scramble()
        self.isolation.reconnect()


class AliceRound(_Round):
    """Alice's lines: she sends tokens, and her setting in `late-type`; she receives types."""

    kernel_invariants = _Round.kernel_invariants | {"type_window_mu", "end_window_mu"}

    def build(self, configuration, steps, end_token, key_setting):
        super().build(configuration, steps, end_token, key_setting)
        self.token_line = SignalSender(self, configuration, "ttl_token")
        self.round_type_line = SignalReceiver(self, configuration, "ttl_round_type")

    def prepare(self):
        super().prepare()
        self.type_window_mu = machine_units(self.core, self.configuration.lines.type_window)
        self.end_window_mu = machine_units(self.core, self.configuration.lines.end_token_window)

    @kernel
    def setup(self):
        """Set the directions of the lines. Breaks real time."""
        self.token_line.setup()
        self.round_type_line.setup()

    @kernel
    def interrupt(self):
        """An exception has ended the round: Alice has no T', whatever came."""
        self.received = NONE
        self.received_end = NONE
        self.t_edge = int64(-1)

    @kernel
    def never_announced(self) -> TBool:
        """Whether the round has been used up without its type."""
        return self.used and self.received == NONE

    @kernel
    def wait_for_end_token(self):
        """Where the parameters want it: stay isolated until Bob has measured, or has not answered in time."""
        if self.end_token:
            self.round_type_line.receive(self.end_window_mu)
            self.received_end = self.round_type_line.bit


class AliceOrdered(AliceRound):
    """A*: the published protocol, with tokens."""

    kernel_invariants = AliceRound.kernel_invariants | {"basis_delay_mu"}

    def prepare(self):
        super().prepare()
        self.basis_delay_mu = machine_units(self.core, self.configuration.lines.basis_delay)

    @kernel
    def interrupt(self):
        """An exception has ended the round: without T' there is no outcome, even if it was read out (2.2)."""
        self.received = NONE
        self.received_end = NONE
        self.t_edge = int64(-1)
        self.outcome = LOST

    @kernel
    def play(self, t_herald: TInt64, pattern_index: TInt32, setting: TInt32, token: TInt32):
        # A1 map, isolate.
        self.analysis.map_qubit(t_herald)
        self.isolation.disconnect()
        # A3 release the token: from here the index is used up.
        delay_mu(self.lead_mu)
        self.used = True
        t_token = self.token_line.send(token)
        # A4 take the first T' within the window; stay isolated.
        at_mu(t_token)
        self.round_type_line.receive(self.type_window_mu)
        self.received = self.round_type_line.bit
        self.t_edge = self.round_type_line.t_edge
        # A2' a fixed time after the token, wherever in the window T' came: what is played cannot tell when.
        at_mu(t_token + self.basis_delay_mu)
        if self.received != NONE:
            self.measure(t_herald, setting * self.received, 0)
            self.wait_for_end_token()
            # A6 scramble, reconnect.
            self.reconnect()
            self.fetch()
        else:
            self.reconnect()


class AliceLateType(AliceRound):
    """B*: measure first; no outcome depends on what happens on a line."""

    def build(self, configuration, steps, end_token, key_setting):
        super().build(configuration, steps, end_token, key_setting)
        self.setting_line = SignalSender(self, configuration, "ttl_setting")

    @kernel
    def setup(self):
        """Set the directions of the lines. Breaks real time."""
        self.token_line.setup()
        self.round_type_line.setup()
        self.setting_line.setup()

    @kernel
    def play(self, t_herald: TInt64, pattern_index: TInt32, setting: TInt32, token: TInt32):
        # A1 map, isolate.
        self.analysis.map_qubit(t_herald)
        self.isolation.disconnect()
        # A2 measure: from here the index is used up.
        self.used = True
        self.measure(t_herald, setting, 0)
        t_measured = now_mu()
        self.fetch()
        # A3 release the token, a fixed time after the readout.
        at_mu(t_measured + self.processing_mu)
        t_token = self.token_line.send(token)
        # A4 take the first T' within the window; stay isolated.
        at_mu(t_token)
        self.round_type_line.receive(self.type_window_mu)
        self.received = self.round_type_line.bit
        self.t_edge = self.round_type_line.t_edge
        # A5 in key rounds send x.
        if self.received == 0:
            self.setting_line.send(setting)
        self.wait_for_end_token()
        # A6 scramble, reconnect.
        self.reconnect()


class BobRound(_Round):
    """Bob's lines: he receives tokens, and Alice's setting in `late-type`; he sends types."""

    kernel_invariants = _Round.kernel_invariants | {"token_window_mu", "end_delay_mu", "key_setting"}

    def build(self, configuration, steps, end_token, key_setting):
        super().build(configuration, steps, end_token, key_setting)
        self.token_line = SignalReceiver(self, configuration, "ttl_token")
        self.round_type_line = SignalSender(self, configuration, "ttl_round_type")

    def prepare(self):
        super().prepare()
        self.token_window_mu = machine_units(self.core, self.token_window())
        self.end_delay_mu = machine_units(self.core, self.configuration.lines.end_token_delay)

    @kernel
    def setup(self):
        """Set the directions of the lines. Breaks real time."""
        self.token_line.setup()
        self.round_type_line.setup()

    @kernel
    def isolate_and_take_token(self, t_herald: TInt64) -> TBool:
        """B1 map, isolate; B2 take the first token within the window. False: none came, and there is no round."""
        self.analysis.map_qubit(t_herald)
        self.isolation.disconnect()
        self.token_line.receive(self.token_window_mu)
        self.t_edge = self.token_line.t_edge
        if self.token_line.bit == NONE:
            self.reconnect()
            return False
        self.received = self.token_line.bit
        return True

    @kernel
    def announce(self, setting: TInt32) -> TInt32:
        """B3 announce T, a fixed time after the token's edge: from here the index is used up. Returns T."""
        round_type = 1
        if setting == self.key_setting:
            round_type = 0
        self.used = True
        self.round_type_line.send(round_type)
        return round_type

    @kernel
    def release_end_token(self, end_token: TInt32):
        """Where the parameters want it, once the outcome exists and Alice waits for it."""
        if self.end_token:
            delay_mu(self.end_delay_mu)
            self.round_type_line.send(end_token)


class BobOrdered(BobRound):
    """B1 to B3 of the published protocol with tokens, then y."""

    def token_window(self):
        """Longest wait for a token (s)."""
        return self.configuration.lines.token_window

    @kernel
    def play(self, t_herald: TInt64, pattern_index: TInt32, setting: TInt32, token: TInt32):
        if self.isolate_and_take_token(t_herald):
            self.announce(setting)
            # B4 measure y, a fixed delay after his own strobe; no input is looked at before the outcome exists.
            self.measure(t_herald, setting, pattern_index)
            self.release_end_token(token)
            # B5 scramble, reconnect.
            self.reconnect()
            self.fetch()


class BobLateType(BobRound):
    """B*: in key rounds Bob measures in the basis that Alice has named."""

    kernel_invariants = BobRound.kernel_invariants | {"setting_window_mu"}

    def build(self, configuration, steps, end_token, key_setting):
        super().build(configuration, steps, end_token, key_setting)
        self.setting_line = SignalReceiver(self, configuration, "ttl_setting")

    def prepare(self):
        super().prepare()
        self.setting_window_mu = machine_units(self.core, self.configuration.lines.setting_window)

    def token_window(self):
        """Longest wait for a token (s): Alice measures first."""
        return self.configuration.lines.late_token_window

    @kernel
    def setup(self):
        """Set the directions of the lines. Breaks real time."""
        self.token_line.setup()
        self.round_type_line.setup()
        self.setting_line.setup()

    @kernel
    def play(self, t_herald: TInt64, pattern_index: TInt32, setting: TInt32, token: TInt32):
        if self.isolate_and_take_token(t_herald):
            round_type = self.announce(setting)
            # B4 a test: y, a fixed delay after his own strobe; no input is looked at before the outcome exists.
            #    A key round: y = 2 + x' once x' has come, y = 2 where it has not.
            if round_type == 0:
                self.setting_line.receive(self.setting_window_mu)
                self.received_setting = self.setting_line.bit
                if self.received_setting == 1:
                    setting += 1
            self.measure(t_herald, setting, pattern_index)
            self.release_end_token(token)
            # B5 scramble, reconnect.
            self.reconnect()
            self.fetch()


ROUNDS = {
    ("alice", "ordered"): AliceOrdered,
    ("bob", "ordered"): BobOrdered,
    ("alice", "late-type"): AliceLateType,
    ("bob", "late-type"): BobLateType,
}
