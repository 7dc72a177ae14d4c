"""Ready/trigger handshake: both nodes start the first window of a round together (SI Fig. S2a).

Alice raises `ready` and waits for the trigger that acknowledges it; without one she drops `ready`, cools and
raises it again, so that an edge which found Bob away is repeated. Bob's gate is longer than the interval
between two of her edges.

Gates stay open until the answer is known, and are closed then. A `gate_rising_mu` would put its end, up to a
millisecond ahead, into one of the eight lanes of the event dispatcher, where no earlier event may follow:
when the lanes have gone round, events of the round are dropped with a sequence error, and no exception.
"""

from artiq.experiment import *

from diqkd_node.sequence.timebase import machine_units

# Sensitivities of an input (`TTLInOut`).
CLOSED = 0
RISING = 1


class _Handshake(HasEnvironment):
    kernel_invariants = {"interval_mu", "gate_mu", "trigger_mu", "latency_mu"}

    def build(self, configuration):
        self.configuration = configuration
        for key in ("core", "ttl_ready", "ttl_trigger"):
            self.setattr_device(key)

    def prepare(self):
        self.interval_mu = machine_units(self.core, self.configuration.handshake.ready_interval)
        self.gate_mu = machine_units(self.core, self.configuration.handshake.ready_gate)
        self.trigger_mu = machine_units(self.core, self.configuration.handshake.trigger_time)
        self.latency_mu = machine_units(self.core, self.configuration.handshake.latency)


class ReadyHandshake(_Handshake):
    """Alice's side: raises `ready`, waits for `trigger`."""

    @kernel
    def setup(self):
        """Set the directions of the lines. Breaks real time."""
        self.core.break_realtime()
        self.ttl_ready.off()
        self.ttl_trigger.input()

    @kernel
    def synchronise(self) -> TBool:
        """Wait for the partner; False if it is silent. Leaves the cursor `latency_mu` after the trigger."""
        t_open = now_mu()
        t_close = t_open + self.interval_mu
        self.ttl_ready.on()
        self.ttl_trigger._set_sensitivity(RISING)
        t_edge = self.ttl_trigger.timestamp_mu(t_close)
        while int64(0) <= t_edge < t_open:
            t_edge = self.ttl_trigger.timestamp_mu(t_close)
        answered = t_edge >= int64(0)
        if answered:
            at_mu(t_edge + self.latency_mu)
        else:
            at_mu(t_close + self.latency_mu)
        self.ttl_ready.off()
        self.ttl_trigger._set_sensitivity(CLOSED)
        return answered


class TriggerHandshake(_Handshake):
    """Bob's side: waits for `ready`, answers with `trigger`."""

    @kernel
    def setup(self):
        """Set the directions of the lines. Breaks real time."""
        self.core.break_realtime()
        self.ttl_ready.input()
        self.ttl_trigger.off()

    @kernel
    def synchronise(self) -> TBool:
        """Wait for the partner; False if it is silent. Leaves the cursor `latency_mu` after the trigger."""
        t_open = now_mu()
        t_close = t_open + self.gate_mu
        self.ttl_ready._set_sensitivity(RISING)
        t_edge = self.ttl_ready.timestamp_mu(t_close)
        while int64(0) <= t_edge < t_open:
            t_edge = self.ttl_ready.timestamp_mu(t_close)
        answered = t_edge >= int64(0)
        if answered:
            at_mu(t_edge + self.latency_mu)
            self.ttl_trigger.pulse_mu(self.trigger_mu)
            at_mu(t_edge + 2 * self.latency_mu)
        else:
            at_mu(t_close + self.latency_mu)
        self.ttl_ready._set_sensitivity(CLOSED)
        return answered
