"""Gateware edge counters (`artiq.coredevice.edge_counter`)."""

from __future__ import annotations

from collections import deque
from operator import index
from typing import Any


class EdgeCounter:
    """Counts the edges in a gate; each gate gives one result, to be fetched in order."""

    __slots__ = (
        "channel",
        "core",
        "counter_max",
        "fetch_count",
        "fetch_timestamped_count",
        "gate_rising",
        "gate_rising_mu",
        "key",
    )

    def __init__(
        self, dmgr: Any, channel: int, gateware_width: int = 31, core_device: str = "core", *, key: str
    ) -> None:
        self.core = dmgr.get(core_device)
        self.channel = channel
        self.key = key
        self.counter_max = (1 << (gateware_width - 1)) - 1
        self._bind(dmgr.get("apparatus"))

    def _bind(self, apparatus: Any) -> None:
        timeline, key = self.core.timeline, self.key
        source = apparatus.edge_source(key)
        cost, latency = timeline.model.output_mu, timeline.model.input_mu
        both_costs = 2 * cost
        seconds_to_mu = self.core.seconds_to_mu
        note = timeline.noted(f"{key} gate")
        gates: deque[tuple[int, int]] = deque()
        timeline.reset_hooks.append(gates.clear)

        def gate_rising_mu(duration_mu: int) -> int:
            """Count rising edges for `duration_mu`; advances the cursor by it and returns it."""
            now = timeline.now
            end = now + index(duration_mu)
            if now < timeline.cpu + cost:
                timeline.late(key, cost, gate_rising_mu, duration_mu)
            else:
                timeline.cpu += both_costs
                gates.append((now, end))
                if note:
                    note(now, 1)
                    note(end, 0)
            timeline.now = end
            return end

        def gate_rising(duration: float) -> int:
            """Count rising edges for `duration` seconds."""
            return gate_rising_mu(seconds_to_mu(duration))

        def fetch_count() -> int:
            """Count of the oldest gate not yet fetched; blocks until the gate is closed."""
            if not gates:
                raise RuntimeError(f"{key}: fetch_count() would block for ever: no gate was requested")
            start, stop = gates.popleft()
            if timeline.cpu < stop + latency:
                timeline.cpu = stop + latency
            return source(start, stop)

        def fetch_timestamped_count(timeout_mu: int = -1) -> tuple[int, int]:
            """Closing time and count of the oldest gate, or (-1, 0) if it is open at `timeout_mu`."""
            if timeout_mu >= 0 and (not gates or gates[0][1] > timeout_mu):
                timeline.wait_until(timeout_mu)
                return -1, 0
            stop = gates[0][1] if gates else -1
            return stop, fetch_count()

        self.gate_rising_mu = gate_rising_mu
        self.gate_rising = gate_rising
        self.fetch_count = fetch_count
        self.fetch_timestamped_count = fetch_timestamped_count
