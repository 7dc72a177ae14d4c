"""RTIO core behind a kernel: output events to the channels, input events back.

Times follow the same rules as in the host engine (see `sim_devices.engines.host.timeline` and `cpu_model`):
an output event costs CPU time and must not be earlier than the counter; reading an input moves the counter to
the event. Outputs reach the channels in the order in which the kernel made them, at the latest before the
next input, remote call or end of the kernel.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

from artiq.coredevice.exceptions import RTIOOverflow, RTIOUnderflow

from sim_devices.engines.cpu_model import CpuModel
from sim_devices.engines.kasli import analyzer, support
from sim_devices.engines.kasli.exceptions import KernelExceptions
from sim_devices.engines.kasli.lanes import Lanes
from sim_devices.engines.kasli.machine import Machine

logger = logging.getLogger(__name__)

COLLISION, BUSY, SEQUENCE = 1, 2, 4
"""Errors that the gateware reports only after the kernel (libproto_artiq/session_proto.rs)."""
_ERRORS = {COLLISION: "collision", BUSY: "busy error", SEQUENCE: "sequence error"}

COUNTER_READ_MU = 100
"""CPU time of reading the counter: `wait_until_mu` is a loop of readings."""

READS_BEFORE_SPIN = 64
_SPIN_STEPS = 256
"""A loop of readings takes a step of this part of the time that it has lasted."""
_FRAME = 256

INJECTED = (RTIOUnderflow, RTIOOverflow)
"""What the apparatus may raise as a fault of the RTIO core; anything else ends the run."""

_COUNTER = support.COUNTER >> 3
_NOW_HI, _NOW_LO = support.NOW_HI >> 2, support.NOW_LO >> 2


class BlockedError(RuntimeError):
    """The kernel waits for an input event that can never come; a core device would hang."""


class InputOverflowError(Exception):
    """Unread input events filled the channel's FIFO; the kernel gets RTIOOverflow."""


class Channel(Protocol):
    """What hangs on an RTIO channel. Times are machine units."""

    key: str

    def output(self, address: int, data: int, time: int) -> None:
        """An output event."""

    def timestamp(self, timeout: int) -> tuple[int, int]:
        """Timestamp of the next input event, or -1, and the counter at which the CPU knows."""

    def data(self, timeout: int) -> tuple[int, int, int]:
        """Timestamp (-1: none before `timeout`; negative timeouts never end), data, counter."""

    def reset(self) -> None:
        """Forget events that were not read."""

    def probe(self, number: int) -> int:
        """What MonInj sees."""

    def inject(self, override: int, value: int, time: int) -> None:
        """MonInj takes over."""

    def injected(self, override: int) -> int:
        """What MonInj has set."""


class Rtio:
    """All channels of one core device, and its counter."""

    def __init__(self, machine: Machine, exceptions: KernelExceptions, model: CpuModel) -> None:
        self._machine = machine
        self._exceptions = exceptions
        self._model = model
        self.channels: dict[int, Channel] = {}
        self.analyzer = analyzer.Analyzer(model.output_mu)
        self.injections: deque[tuple[int, int, int]] = deque()
        """Channel, override and value that MonInj asks for."""
        self.errors = 0
        self._lanes = Lanes()
        self._recording: list[tuple[int, int, tuple[int, ...]]] | None = None
        self._recording_name = ""
        self._counter_before = 0
        self._traces: dict[str, tuple[int, int]] = {}
        self._events: dict[int, list[tuple[int, int, tuple[int, ...]]]] = {}
        self._spin: tuple[tuple[int, int, int], int, list[int]] | None = None
        machine.words[support.READS_LEFT >> 2] = READS_BEFORE_SPIN
        machine.words[support.OUTPUT_COST >> 2] = model.output_mu
        machine.words[support.COUNTER_COST >> 2] = COUNTER_READ_MU

    # Counter and cursor

    @property
    def counter(self) -> int:
        return self._machine.longs[_COUNTER]

    @counter.setter
    def counter(self, value: int) -> None:
        self._machine.longs[_COUNTER] = value

    @property
    def now(self) -> int:
        return self._machine.signed[_NOW_HI] << 32 | self._machine.words[_NOW_LO]

    def _wait(self, counter: int) -> None:
        if self._machine.longs[_COUNTER] < counter:
            self._machine.longs[_COUNTER] = counter

    def spin(self) -> None:
        """rtio_get_counter() once more: skip what a kernel would spend in a loop of readings.

        A loop is told by its return address: readings there and nothing else, with the cursor where it was.
        Its readings get further apart the longer it lasts, but none skips a time that the loop may wait for:
        the cursor, or one in the registers or the stack frame of the caller. It ends at the reading at which
        it would have ended.
        """
        machine = self._machine
        place = (machine.return_address, self.now, machine.words[support.RING_NEXT >> 2])
        counter = self.counter
        if self._spin is None or self._spin[0] != place:
            self._spin = (place, counter, self._awaited(counter))
            machine.words[support.READS_LEFT >> 2] = READS_BEFORE_SPIN
            return
        machine.words[support.READS_LEFT >> 2] = 1
        _, start, awaited = self._spin
        skip = (counter - start) // _SPIN_STEPS
        if awaited:
            skip = min(skip, max(0, awaited[-1] - counter))
            if awaited[-1] <= counter - COUNTER_READ_MU:  # this reading may have ended the loop
                awaited.pop()
        self.counter = counter + skip // COUNTER_READ_MU * COUNTER_READ_MU

    def _awaited(self, counter: int) -> list[int]:
        """Times after `counter` that the service's caller may compare it with, latest first."""
        machine = self._machine
        registers = machine.saved_registers
        stack = machine.stack(_FRAME)
        pairs = {(low, high) for low in registers for high in registers} | set(pairwise(stack))
        epochs = (counter >> 32, (counter >> 32) + 1)
        times = {high << 32 | low for low, high in pairs if high in epochs} | {self.now}
        return sorted((time for time in times if time > counter), reverse=True)

    def name(self, channel: int) -> str:
        """How exceptions name a channel, as the firmware with a device map."""
        known = self.channels.get(channel)
        return f"0x{channel:04x}:{known.key if known else 'unknown'}"

    def report(self, error: int, key: str, message: str) -> None:
        """An error that hardware only logs, worded as there. The event is dropped."""
        self.errors |= error
        number = next((number for number, channel in self.channels.items() if channel.key == key), None)
        name = key if number is None else self.name(number)
        logger.error("RTIO %s involving channel %s: %s", _ERRORS[error], name, message)

    def raising(self, service: Callable[[], None]) -> Callable[[], None]:
        """`service`, with RTIO errors that the apparatus injects becoming exceptions of the kernel."""

        def call() -> None:
            try:
                service()
            except INJECTED as error:
                message = str(error).replace("{", "{{").replace("}", "}}")
                self._exceptions.raise_(type(error).__name__, message)

        return call

    # MonInj and analyzer

    def apply_injections(self) -> None:
        """Do what MonInj asked for, while no kernel runs or between two of its services."""
        while self.injections:
            number, override, value = self.injections.popleft()
            if (channel := self.channels.get(number)) is not None:
                channel.inject(override, value, self.counter)

    def probe(self, number: int, probe: int) -> int:
        channel = self.channels.get(number)
        return channel.probe(probe) if channel else 0

    def injected(self, number: int, override: int) -> int:
        channel = self.channels.get(number)
        return channel.injected(override) if channel else 0

    def log(self, text: bytes) -> None:
        """Text of `rtio_log` at the cursor."""
        self.drain()
        self.analyzer.log(text, self.now, self.counter)

    # Outputs

    def drain(self) -> None:
        """Take the events in the ring to their channels."""
        self._spin = None
        entries = self._machine.take_outputs()
        if entries is None:
            return
        channels, take = self.channels, self._lanes.take
        values = entries.cast("I").tolist()
        if self.injections:
            self.apply_injections()
        self.analyzer.outputs(values, self.counter)
        failure: Exception | None = None
        for i in range(0, len(values), 4):
            target = values[i]
            time = values[i + 3] << 32 | values[i + 2]
            if not take(time):
                self._out_of_sequence(target >> 8, time)
                continue
            channel = channels.get(target >> 8)
            if channel is not None:
                try:
                    channel.output(target & 0xFF, values[i + 1], time)
                except INJECTED as error:
                    failure = failure or error
        if failure is not None:
            raise failure

    def late_output(self) -> None:
        """rtio_output of an event that is too late, or that is recorded."""
        machine = self._machine
        self._late(machine.argument(0), (machine.argument(1),))

    def wide_output(self) -> None:
        """rtio_output_wide(target, list)."""
        machine = self._machine
        self.drain()
        address = machine.argument(1)
        count = machine.read_word(address + 4)
        data = machine.read(machine.read_word(address), 4 * count)
        words = tuple(int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4))
        if self.now < self.counter + self._model.output_mu:
            self._late(machine.argument(0), words)
            return
        self.counter += self._model.output_mu
        self._play(machine.argument(0), words, self.now)

    def _out_of_sequence(self, channel: int, time: int) -> None:
        self.report(SEQUENCE, self.name(channel), f"no lane takes the event at {time} mu; it is dropped")

    def _play(self, target: int, words: tuple[int, ...], time: int) -> None:
        data = words[0]
        for position, word in enumerate(words[1:], 1):
            data |= word << 32 * position
        self.analyzer.output(target >> 8, target & 0xFF, data, time, self.counter)
        if not self._lanes.take(time):
            self._out_of_sequence(target >> 8, time)
            return
        channel = self.channels.get(target >> 8)
        if channel is None:
            return
        channel.output(target & 0xFF, data, time)

    def _late(self, target: int, words: tuple[int, ...]) -> None:
        now = self.now
        if self._recording is not None:
            self._recording.append((now, target, words))
            return
        self.counter += self._model.output_mu
        self._underflow(target >> 8, now, now - self.counter)

    def _underflow(self, channel: int, time: int, slack: int) -> None:
        self.drain()
        self.analyzer.exception(channel, analyzer.UNDERFLOW, self.counter)
        self._exceptions.raise_(
            "RTIOUnderflow",
            f"RTIO underflow at channel {self.name(channel)}, {{1}} mu, slack {{2}} mu",
            channel,
            time,
            slack,
        )

    # Inputs

    def input_timestamp(self) -> None:
        """rtio_input_timestamp(timeout, channel) -> timestamp or -1."""
        machine = self._machine
        self.drain()
        try:
            channel = self.channels.get(machine.argument(2))
            if channel is None:
                timestamp, counter = -1, machine.long_argument(0)
            else:
                timestamp, counter = channel.timestamp(machine.long_argument(0))
        except InputOverflowError:
            self._overflow(machine.argument(2))
            return
        self._wait(counter)
        if timestamp >= 0:
            self.analyzer.input(machine.argument(2), 0, timestamp, self.counter)
        machine.set_long_result(timestamp)

    def input_data(self) -> None:
        """rtio_input_data(channel) -> data."""
        machine = self._machine
        self.drain()
        try:
            timestamp, data, counter = self._channel(machine.argument(0)).data(-1)
        except InputOverflowError:
            self._overflow(machine.argument(0))
            return
        self._wait(counter)
        self.analyzer.input(machine.argument(0), data, max(timestamp, 0), self.counter)
        machine.set_result(data)

    def input_timestamped_data(self) -> None:
        """rtio_input_timestamped_data(timeout, channel) -> (timestamp, data), returned through memory."""
        machine = self._machine
        self.drain()
        result = machine.argument(0)
        try:
            timestamp, data, counter = self._channel(machine.argument(3)).data(machine.long_argument(1))
        except InputOverflowError:
            self._overflow(machine.argument(3))
            return
        self._wait(counter)
        if timestamp >= 0:
            self.analyzer.input(machine.argument(3), data, timestamp, self.counter)
        content = timestamp.to_bytes(8, "little", signed=True) + (data & 0xFFFF_FFFF).to_bytes(4, "little")
        machine.write(result, content)

    def _channel(self, number: int) -> Channel:
        channel = self.channels.get(number)
        if channel is None:
            raise BlockedError(f"input from RTIO channel {number}, which no device of the database has")
        return channel

    def _overflow(self, channel: int) -> None:
        self.analyzer.exception(channel, analyzer.OVERFLOW, self.counter)
        self._exceptions.raise_(
            "RTIOOverflow", f"RTIO input overflow on channel {self.name(channel)}", channel
        )

    # The whole core

    def init(self) -> None:
        """rtio_init(): drops what was not read."""
        self.drain()
        self._lanes.reset()
        self._stop_recording()
        for channel in self.channels.values():
            channel.reset()

    def destination_status(self) -> None:
        """rtio_get_destination_status(destination): only the core itself is there."""
        self._machine.set_result(int(self._machine.argument(0) == 0))

    # DMA (ksupport/lib.rs, runtime/rtio_dma.rs)

    def record_start(self) -> None:
        """dma_record_start(name): from here on outputs are late for the stub, and so come to `_late`."""
        self.drain()
        if self._recording is not None:
            self._exceptions.raise_("DMAError", "DMA is already recording")
            return
        self._recording = []
        self._recording_name, _ = self._machine.string_argument(0)
        self._counter_before = self.counter
        self.counter = 1 << 62

    def record_stop(self) -> None:
        """dma_record_stop(duration, enable_ddma)."""
        events = self._recording
        if events is None:
            self._exceptions.raise_("DMAError", "DMA is not recording")
            return
        self._stop_recording()
        pointer = 64 * (1 + len(self._events))
        self._events[pointer] = events
        self._traces[self._recording_name] = (self._machine.long_argument(0), pointer)

    def _stop_recording(self) -> None:
        if self._recording is not None:
            self._recording = None
            self.counter = self._counter_before

    def erase(self) -> None:
        """dma_erase(name); an unknown name is no error."""
        self._traces.pop(self._machine.string_argument(0)[0], None)

    def retrieve(self) -> None:
        """dma_retrieve(name) -> (duration, pointer, uses_ddma), returned through memory."""
        machine = self._machine
        name, _ = machine.string_argument(1)
        if name not in self._traces:
            self._exceptions.raise_("DMAError", "DMA trace not found")
            return
        duration, pointer = self._traces[name]
        machine.write(machine.argument(0), duration.to_bytes(8, "little") + pointer.to_bytes(8, "little"))

    def playback(self) -> None:
        """dma_playback(timestamp, pointer, uses_ddma)."""
        self.drain()
        start = self._machine.long_argument(0)
        counter = self.counter + self._model.dma_start_mu
        for position, (offset, target, words) in enumerate(self._events[self._machine.argument(2)]):
            self.counter = counter + position * self._model.dma_event_mu
            if start + offset < self.counter:
                self._underflow(target >> 8, start + offset, start + offset - self.counter)
                return
            self._play(target, words, start + offset)
        self.counter = counter + len(self._events[self._machine.argument(2)]) * self._model.dma_event_mu
