"""Lines between the nodes: the ready/trigger handshake and the strobed lines (PROTOCOL 3.6)."""

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


class LineParameters(Step):
    """Strobed lines between the nodes: token, round type, setting; see `sequence.signal_line` and `rounds`.

    strobe_delay: from settling to the token, so that Bob's gate is open; sample_delay: from an edge to where
    its level is read, latency: to what follows the edge, both with twice the time that a Kasli's CPU takes;
    token_window: Bob's wait from his isolation, late_token_window in `late-type`, where Alice measures first;
    type_window: Alice's wait from her token, basis_delay: `ordered`, from her token to her pulse;
    setting_window: `late-type`, Bob's wait from his strobe; outcome_latency: from the end of a readout to
    what is sent after it; end_token_delay: from the end of Bob's readout to the optional third token, by when
    Alice waits for it, at most end_token_window.
    """

    strobe_delay: Time = 5e-6
    strobe_setup: Time = 2e-6
    strobe_time: Time = 5e-6
    sample_delay: Time = 8e-6
    latency: Time = 25e-6
    token_window: Time = 200e-6
    late_token_window: Time = 600e-6
    type_window: Time = 50e-6
    basis_delay: Time = 80e-6
    setting_window: Time = 200e-6
    outcome_latency: Time = 10e-6
    end_token_delay: Time = 100e-6
    end_token_window: Time = 600e-6

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.sample_delay >= self.latency:
            raise ValueError(
                f"sample_delay={self.sample_delay} s is not below latency={self.latency} s: a level is read "
                "before what follows it; raise latency"
            )
        if self.basis_delay < self.type_window + self.latency:
            raise ValueError(
                f"basis_delay={self.basis_delay} s is below type_window + latency = "
                f"{self.type_window + self.latency:.6f} s: Alice's pulse must not follow the type; raise "
                "basis_delay"
            )
        return self
