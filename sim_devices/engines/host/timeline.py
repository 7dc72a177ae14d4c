"""RTIO timeline: cursor, counter, and the errors of events that come too late or collide.

`now` is the cursor; `cpu` is the RTIO counter at the moment the simulated CPU has reached. An output event
needs `now >= cpu`, or it is an underflow. Reading an input moves `cpu` to the time of the event: that is how
slack is consumed. Time is simulated only, so a run does not depend on how fast the host is.

Drivers read and write `now` and `cpu` directly, in closures bound once: a call per event would cost more
than the event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from artiq.coredevice.exceptions import DMAError, RTIOUnderflow

from sim_devices.engines.cpu_model import CpuModel

SLACK_MU = 125_000
"""Margin that `reset` and `break_realtime` put between counter and cursor."""

RECORDING_CPU = 1 << 62
"""Counter while a DMA trace is recorded: every output then takes its driver's late path, which records."""


class RTIOSequenceError(Exception):
    """An event on a channel is earlier than the one before it.

    Hardware sorts out a few such events in its lanes and drops the others with a mere log entry. Here each is
    an error, so that no experiment depends on it.
    """


class RTIOCollisionError(Exception):
    """Two events of a channel fall in one coarse cycle. Hardware drops one and only logs it."""


class Timeline:
    """Cursor and counter in machine units, and the channels' checks."""

    __slots__ = ("cpu", "model", "now", "recorder", "ref_period", "reset_hooks", "saved", "stack", "trace")

    def __init__(self, model: CpuModel, ref_period: float, trace: bool = False) -> None:
        self.now = 0
        self.cpu = 0
        self.model = model
        self.ref_period = ref_period
        self.recorder: list[tuple[int, Callable[..., Any], tuple[Any, ...]]] | None = None
        self.saved = (0, 0)
        self.reset_hooks: list[Callable[[], None]] = []
        self.stack: list[list[int] | None] = []
        self.trace: list[tuple[Any, ...]] | None = [] if trace else None

    # Channels

    def traced(self, key: str, sink: Callable[..., None]) -> Callable[..., None]:
        """`sink`, recording its events as (time, key, *values) where the trace is on."""
        trace = self.trace
        if trace is None:
            return sink

        def record(time: int, *values: Any) -> None:
            trace.append((time, key, *values))
            sink(time, *values)

        return record

    def noted(self, key: str) -> Callable[..., None] | None:
        """Records events that the apparatus does not take, as those of gates; None where the trace is off."""
        return None if self.trace is None else self.traced(key, lambda *_: None)

    def late(self, key: str, cost_mu: int, action: Callable[..., Any], *args: Any) -> None:
        """An output came before the counter: record it if a DMA trace is recorded, else it is an underflow.

        The event is discarded, the CPU time is spent, and the cursor stays, as on hardware.
        """
        if self.recorder is not None:
            self.recorder.append((self.now, action, args))
            return
        self.cpu += cost_mu
        raise RTIOUnderflow(f"RTIO underflow at {self.now} mu, channel {key}, slack {self.now - self.cpu} mu")

    def check_order(self, key: str, time: int, last: int) -> None:
        """Report an event of `key` at `time` after one at `last`, if the gateware would refuse it."""
        if time < last:
            raise RTIOSequenceError(
                f"{key}: event at {time} mu after one at {last} mu; events of a channel must be in order"
            )
        if time != last and time >> 3 == last >> 3:
            raise RTIOCollisionError(
                f"{key}: events at {last} and {time} mu share a coarse cycle; keep them 8 mu apart"
            )

    # DMA

    def start_recording(self) -> None:
        if self.recorder is not None:
            raise DMAError("a DMA trace is already being recorded")
        self.saved = (self.now, self.cpu)
        self.recorder = []
        self.now = 0
        self.cpu = RECORDING_CPU

    def stop_recording(self) -> tuple[int, list[tuple[int, Callable[..., Any], tuple[Any, ...]]]]:
        """The trace: its duration and its events (offset, function, arguments)."""
        assert self.recorder is not None
        trace = (self.now, self.recorder)
        self.recorder = None
        self.now, self.cpu = self.saved
        return trace

    # The whole core

    def reset(self) -> None:
        self.recorder = None
        for hook in self.reset_hooks:
            hook()
        self.now = self.cpu + SLACK_MU

    def break_realtime(self) -> None:
        if self.recorder is not None:
            raise DMAError("break_realtime() while a DMA trace is recorded")
        earliest = self.cpu + SLACK_MU
        if self.now < earliest:
            self.now = earliest

    def wait_until(self, cursor_mu: int) -> None:
        if self.cpu < cursor_mu:
            self.cpu = int(cursor_mu)

    # Time manager of artiq.language.core, for functions that the engine has not transformed

    def enter_sequential(self) -> None:
        self.stack.append(None)

    def enter_parallel(self) -> None:
        self.stack.append([self.now, self.now])

    def exit(self) -> None:
        branch = self.stack.pop()
        if branch is not None:
            self.now = max(branch[1], self.now)

    def take_time_mu(self, duration: int) -> None:
        if self.stack and self.stack[-1] is not None:
            raise NotImplementedError(
                "a parallel block in a function whose source is not available to the host engine"
            )
        self.now += int(duration)

    def take_time(self, duration: float) -> None:
        self.take_time_mu(round(duration / self.ref_period))

    def get_time_mu(self) -> int:
        return self.now

    def set_time_mu(self, time: int) -> None:
        self.now = int(time)
