"""Lines between the nodes: the ready/trigger handshake and the round-type line (PROTOCOL 3.6)."""

from typing import Self

from pydantic import model_validator

from diqkd_node.configuration.quantities import Count, Step, Time


class HandshakeParameters(Step):
    """Bob's gate has to be longer than Alice's interval between two `ready` edges."""

    ready_interval: Time = 500e-6
    ready_gate: Time = 1000e-6
    trigger_time: Time = 1e-6
    latency: Time = 10e-6
    tries: Count = 120


class RoundTypeLineParameters(Step):
    """Bob's strobe, and Alice's reading of the level behind it.

    strobe_delay: after settling, so that Alice's gate is open; latency: from the strobe to what follows it.
    """

    strobe_delay: Time = 5e-6
    strobe_setup: Time = 2e-6
    strobe_time: Time = 5e-6
    strobe_timeout: Time = 200e-6
    sample_delay: Time = 15e-6
    latency: Time = 25e-6

    @model_validator(mode="after")
    def _sampled_first(self) -> Self:
        if self.sample_delay >= self.latency:
            raise ValueError(
                f"sample_delay={self.sample_delay} s is not below latency={self.latency} s: Alice reads the "
                "type before she goes on; raise latency"
            )
        return self
