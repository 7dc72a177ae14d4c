"""TTL outputs and inputs (`artiq.coredevice.ttl`).

Outputs follow the gateware: an event with the timestamp of the one before replaces it, two different
timestamps in one coarse cycle collide, and events of a channel must come in order. Inputs are gated: a
gate opens a window, and `timestamp_mu`, `count` and `sample_get` ask the apparatus what happened in it and
block until then, that is, they consume slack.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from operator import index
from types import SimpleNamespace
from typing import Any

from sim_devices.engines.host.timeline import Timeline

NEVER = -(1 << 62)
FOREVER = 1 << 62


def _outputs(timeline: Timeline, key: str, sink: Callable[[int, int], None]) -> SimpleNamespace:
    """Functions of one output channel; they share the time of its last event."""
    cost = timeline.model.output_mu
    both_costs = 2 * cost
    shortest = max(8, cost)  # a pulse whose end is in time, and in order, if its start is
    ref_period = timeline.ref_period
    last = NEVER

    def forget() -> None:
        nonlocal last
        last = NEVER

    timeline.reset_hooks.append(forget)

    def set_o(o: bool) -> None:
        """Set the level at the cursor, which stays."""
        nonlocal last
        now = timeline.now
        cpu = timeline.cpu + cost
        if now < cpu:
            timeline.late(key, cost, set_o, o)
            return
        if now < last + 8:
            timeline.check_order(key, now, last)
        timeline.cpu = cpu
        last = now
        sink(now, 1 if o else 0)

    def on() -> None:
        """Set the output high at the cursor, which stays."""
        nonlocal last
        now = timeline.now
        cpu = timeline.cpu + cost
        if now < cpu or now < last + 8:
            set_o(True)
            return
        timeline.cpu = cpu
        last = now
        sink(now, 1)

    def off() -> None:
        """Set the output low at the cursor, which stays."""
        nonlocal last
        now = timeline.now
        cpu = timeline.cpu + cost
        if now < cpu or now < last + 8:
            set_o(False)
            return
        timeline.cpu = cpu
        last = now
        sink(now, 0)

    def pulse_mu(duration: int) -> None:
        """High for `duration` machine units; advances the cursor by them."""
        nonlocal last
        now = timeline.now
        end = now + index(duration)
        if duration < shortest or now < last + 8 or now < timeline.cpu + cost:
            set_o(True)
            timeline.now = end
            set_o(False)
            return
        timeline.cpu += both_costs
        timeline.now = last = end
        sink(now, 1)
        sink(end, 0)

    def pulse(duration: float) -> None:
        """High for `duration` seconds; advances the cursor by them."""
        pulse_mu(round(duration / ref_period))

    return SimpleNamespace(set_o=set_o, on=on, off=off, pulse_mu=pulse_mu, pulse=pulse)


class TTLOut:
    """Output-only channel."""

    __slots__ = ("channel", "core", "key", "off", "on", "pulse", "pulse_mu", "set_o", "target_o")

    def __init__(self, dmgr: Any, channel: int, core_device: str = "core", *, key: str) -> None:
        self.core = dmgr.get(core_device)
        self.channel = channel
        self.key = key
        self.target_o = channel << 8
        timeline = self.core.timeline
        sink = timeline.traced(key, dmgr.get("apparatus").level_sink(key))
        functions = _outputs(timeline, key, sink)
        self.set_o = functions.set_o
        self.on = functions.on
        self.off = functions.off
        self.pulse_mu = functions.pulse_mu
        self.pulse = functions.pulse

    def output(self) -> None:
        """Does nothing: the channel is always an output."""


class TTLClockGen:
    """Clock output; nothing hangs on it, as the SYNC of a Urukul card (see `urukul.CPLD`)."""

    def __init__(
        self, dmgr: Any, channel: int, acc_width: int = 24, core_device: str = "core", *, key: str
    ) -> None:
        self.core = dmgr.get(core_device)
        self.channel = channel
        self.acc_width = acc_width
        self.key = key
        self._timeline = self.core.timeline

    def frequency_to_ftw(self, frequency: float) -> int:
        """Tuning word of a frequency in Hz."""
        return round(2**self.acc_width * frequency * self.core.coarse_ref_period)

    def ftw_to_frequency(self, ftw: int) -> float:
        """Frequency in Hz of a tuning word."""
        return ftw / self.core.coarse_ref_period / 2**self.acc_width

    def set_mu(self, frequency: int) -> None:
        """Set the tuning word at the cursor, which stays."""
        timeline = self._timeline
        cost = timeline.model.output_mu
        if timeline.now < timeline.cpu + cost:
            timeline.late(self.key, cost, self.set_mu, frequency)
        else:
            timeline.cpu += cost

    def set(self, frequency: float) -> None:
        """`set_mu` in Hz."""
        self.set_mu(self.frequency_to_ftw(frequency))

    def stop(self) -> None:
        """No clock any more."""
        self.set_mu(0)


class TTLInOut:
    """Bidirectional channel; an input until `output` is called."""

    def __init__(
        self,
        dmgr: Any,
        channel: int,
        gate_latency_mu: int | None = None,
        core_device: str = "core",
        *,
        key: str,
    ) -> None:
        self.core = dmgr.get(core_device)
        self.channel = channel
        self.key = key
        self.gate_latency_mu = 13 * self.core.ref_multiplier if gate_latency_mu is None else gate_latency_mu
        self._apparatus = dmgr.get("apparatus")
        self._timeline = self.core.timeline
        self._outputs: SimpleNamespace | None = None
        self._bind_input_windows()
        self._bind_samples()

    def output(self) -> None:
        """Drive the line from the cursor on."""
        if self._outputs is None:
            sink = self._timeline.traced(self.key, self._apparatus.level_sink(self.key))
            self._outputs = _outputs(self._timeline, self.key, sink)
        self.__dict__.update(vars(self._outputs))

    def input(self) -> None:
        """Stop driving the line."""
        for name in vars(self._outputs or SimpleNamespace()):
            self.__dict__.pop(name, None)

    def set_oe(self, oe: bool) -> None:
        if oe:
            self.output()
        else:
            self.input()

    def _not_driven(self, *args: Any) -> None:
        raise RuntimeError(f"{self.key} is an input: call output() before driving it")

    set_o = on = off = pulse_mu = pulse = _not_driven

    def _bind_input_windows(self) -> None:
        timeline, key, apparatus = self._timeline, self.key, self._apparatus
        cost, latency = timeline.model.output_mu, timeline.model.input_mu
        read_time = timeline.model.read_mu
        gate_latency = self.gate_latency_mu
        ref_period = timeline.ref_period
        note = timeline.noted(f"{key} gate")
        windows: deque[tuple[int, int]] = deque()
        timeline.reset_hooks.append(windows.clear)
        first_edge: Callable[[int, int], int] | None = None
        count_edges: Callable[[int, int], int] | None = None

        def gate_rising_mu(duration: int) -> int:
            """Register rising edges for `duration`; advances the cursor by it and returns it."""
            now = timeline.now
            end = now + index(duration)
            if now < timeline.cpu + cost:
                timeline.late(key, cost, gate_rising_mu, duration)
            else:
                timeline.cpu += cost + cost
                windows.append((now, end))
                if note:
                    note(now, 1)
                    note(end, 0)
            timeline.now = end
            return end

        def set_sensitivity(value: int) -> None:
            """Open (bit 0) or close the input for rising edges at the cursor, which stays."""
            now = timeline.now
            if now < timeline.cpu + cost:
                timeline.late(key, cost, set_sensitivity, value)
                return
            timeline.cpu += cost
            if windows and windows[-1][1] == FOREVER:
                windows[-1] = (windows[-1][0], now)
            if value & 1:
                windows.append((now, FOREVER))
            if note:
                note(now, value)

        def gate_rising(duration: float) -> int:
            """Register rising edges for `duration` seconds; advances the cursor by them."""
            return gate_rising_mu(round(duration / ref_period))

        def timestamp_mu(up_to_timestamp_mu: int) -> int:
            """Time of the next edge, or -1; blocks until then, but not beyond the given time."""
            nonlocal first_edge
            if first_edge is None:
                first_edge = apparatus.first_edge_source(key)
            while windows:
                start, stop = windows[0]
                if start > up_to_timestamp_mu:
                    break
                limit = stop if stop < up_to_timestamp_mu else up_to_timestamp_mu
                edge = first_edge(start, limit)
                if edge >= 0:
                    windows[0] = (edge + 1, stop)
                    if timeline.cpu < edge + latency:
                        timeline.cpu = edge + latency
                    else:
                        timeline.cpu += read_time
                    return edge
                windows.popleft()
                if stop > up_to_timestamp_mu:
                    windows.appendleft((up_to_timestamp_mu, stop))
                    break
            if timeline.cpu < up_to_timestamp_mu + gate_latency:
                timeline.cpu = up_to_timestamp_mu + gate_latency
            else:
                timeline.cpu += read_time
            return -1

        def count(up_to_timestamp_mu: int) -> int:
            """Number of edges registered up to the given time; blocks until then."""
            nonlocal count_edges
            if count_edges is None:
                count_edges = apparatus.edge_source(key)
            total = 0
            while windows and windows[0][0] < up_to_timestamp_mu:
                start, stop = windows.popleft()
                if stop > up_to_timestamp_mu:
                    total += count_edges(start, up_to_timestamp_mu)
                    windows.appendleft((up_to_timestamp_mu, stop))
                    break
                total += count_edges(start, stop)
            if timeline.cpu < up_to_timestamp_mu + gate_latency:
                timeline.cpu = up_to_timestamp_mu + gate_latency
            return total

        self._set_sensitivity = set_sensitivity
        self.gate_rising_mu = gate_rising_mu
        self.gate_rising = gate_rising
        self.timestamp_mu = timestamp_mu
        self.count = count

    def _bind_samples(self) -> None:
        timeline, key, apparatus = self._timeline, self.key, self._apparatus
        cost, latency = timeline.model.output_mu, timeline.model.input_mu
        samples: deque[int] = deque()
        timeline.reset_hooks.append(samples.clear)
        level: Callable[[int], int] | None = None

        def sample_input() -> None:
            """Sample the line at the cursor, which stays."""
            now = timeline.now
            if now < timeline.cpu + cost:
                timeline.late(key, cost, sample_input)
                return
            timeline.cpu += cost
            samples.append(now)

        def sample_get() -> int:
            """The oldest sample not yet read; blocks until it is there."""
            nonlocal level
            if level is None:
                level = apparatus.level_source(key)
            if not samples:
                raise RuntimeError(f"{key}: sample_get() would block for ever: no sample was requested")
            time = samples.popleft()
            if timeline.cpu < time + latency:
                timeline.cpu = time + latency
            return level(time)

        def sample_get_nonrt() -> int:
            """Sample at the cursor, read the sample and take new slack."""
            sample_input()
            value = sample_get()
            timeline.break_realtime()
            return value

        self.sample_input = sample_input
        self.sample_get = sample_get
        self.sample_get_nonrt = sample_get_nonrt
