"""RTIO channels of simple cards: TTL lines, edge counters, the Fastino, the entangler core.

Each class is the gateware's register map (named in its docstring) on top of the callables by which the
apparatus of the node speaks (see `sim_devices.apparatus.node_apparatus`). What a kernel does to the registers
through ARTIQ's real drivers becomes the same calls that the host engine's drivers make.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from sim_devices.engines.entangler_core import RUN, TIMEOUT_REASON, NodeCore
from sim_devices.engines.kasli.rtio import COLLISION, SEQUENCE, BlockedError, InputOverflowError

FIFO_DEPTH = 64
NEVER = -(1 << 62)
FOREVER = 1 << 62

Report = Callable[[int, str, str], None]


class Silent:
    """A channel that sends no input events."""

    def __init__(self, key: str) -> None:
        self.key = key

    def output(self, address: int, data: int, time: int) -> None:
        """Nothing hangs on it."""

    def timestamp(self, timeout: int) -> tuple[int, int]:
        return -1, timeout

    def data(self, timeout: int) -> tuple[int, int, int]:
        if timeout < 0:
            raise BlockedError(f"{self.key}: input from a channel that has none")
        return -1, 0, timeout

    def reset(self) -> None:
        """Nothing to forget."""

    def probe(self, number: int) -> int:
        return 0

    def inject(self, override: int, value: int, time: int) -> None:
        """Only TTL lines can be taken over."""

    def injected(self, override: int) -> int:
        return 0


class GatedInput:
    """Input events of a TTL channel whose edges come over a cable: those of gates, samples and watches, in a
    FIFO as deep as the gateware's.

    :param line: what drives the input (see `cables`)
    :param gate_latency_mu: from the time of a gate to that of the inputs it lets in
    :param counter: the core's counter; what came before it waits in the FIFO
    """

    def __init__(self, line: Any, gate_latency_mu: int, counter: Callable[[], int]) -> None:
        self.line = line
        self._gate_latency = gate_latency_mu
        self._counter = counter
        self.reset()

    def reset(self) -> None:
        self._marks: deque[tuple[int, int, bool]] = deque()
        self._sensitivity = 0
        self._seen = NEVER
        self._events: deque[tuple[int, int]] = deque()
        self._overflow = False

    def output(self, address: int, data: int, time: int) -> None:
        """Sensitivity: bit 0 rising edges, bit 1 falling ones; address 3 takes a sample too."""
        self._marks.append((time + self._gate_latency, data & 3, address == 3))

    def _next(self, until: int) -> tuple[int, int] | None:
        """The next event not later than `until`."""
        while True:
            mark = self._marks[0] if self._marks and self._marks[0][0] <= until else None
            stop = mark[0] if mark else until + 1
            if self._sensitivity and self._seen < stop:
                for time, level in self.line.edges(self._seen, stop):
                    if self._sensitivity >> (1 - level) & 1:
                        self._seen = time + 1
                        return time, level
            self._seen = max(self._seen, stop)
            if mark is None:
                return None
            self._marks.popleft()
            time, self._sensitivity, sample = mark
            if sample:
                return time, self.line.level(time)

    def read(self, timeout: int) -> tuple[int, int]:
        """Time and level of the next event, (-1, 0) if none comes up to `timeout`."""
        counter = self._counter()
        while (event := self._next(counter)) is not None:
            if len(self._events) >= FIFO_DEPTH:
                self._overflow = True
                self._seen = max(self._seen, counter + 1)
                while self._marks and self._marks[0][0] <= counter:
                    self._sensitivity = self._marks.popleft()[1]
                break
            self._events.append(event)
        if self._overflow:
            self._overflow = False
            raise InputOverflowError
        if not self._events:
            event = self._next(timeout)
            if event is None:
                return -1, 0
            return event
        return self._events.popleft()


class TTL(Silent):
    """A TTL line (artiq/gateware/rtio/phy/ttl_serdes_generic.py): 0 level, 1 output enable, 2 sensitivity,
    3 sensitivity and sample.

    The line's input events are those of its gates and samples, in that order: a kernel uses one of the two
    ways at a time (artiq/coredevice/ttl.py).
    """

    def __init__(
        self,
        key: str,
        apparatus: Any,
        input_mu: int,
        report: Report,
        sinks: list[Callable[[int, int], None]],
        gated_input: GatedInput | None = None,
    ) -> None:
        super().__init__(key)
        self._input = gated_input
        self._value = self._enabled = 0
        self._overrides = [0, 0, 0]
        self._last_access = (NEVER, 0)
        self._apparatus = apparatus
        self._latency = input_mu
        self._report = report
        self._sinks = [self._first_output, *sinks]
        self._last = NEVER
        self._first_edge: Callable[[int, int], int] | None = None
        self._level: Callable[[int], int] | None = None
        self._gates: deque[tuple[int, int]] = deque()
        self._samples: deque[int] = deque()
        self._overflow = False

    def _first_output(self, time: int, value: int) -> None:
        """Ask for the sink when the first event comes: every channel exists here, whether used or not."""
        self._sinks[0] = sink = self._apparatus.level_sink(self.key)
        sink(time, value)

    def output(self, address: int, data: int, time: int) -> None:
        before, self._last_access = self._last_access, (time, address)
        if address != before[1] and time >> 3 == before[0] >> 3:
            self._report(COLLISION, self.key, f"two registers at {before[0]} and {time} mu in a coarse cycle")
            return
        if address == 0:
            last = self._last
            if time < last + 8 and time != last:
                if time < last:
                    self._report(SEQUENCE, self.key, f"event at {time} mu after one at {last} mu")
                    return
                if time >> 3 == last >> 3:
                    self._report(COLLISION, self.key, f"events at {last} and {time} mu in a coarse cycle")
                    return
            self._last = time
            self._value = data & 1
            if not self._overrides[0]:
                self._drive(time, data & 1)
        elif address == 1:
            self._enabled = data & 1
        elif self._input:
            self._input.output(address, data, time)
        elif address == 2:
            self._set_sensitivity(data, time)
        elif address == 3:
            if len(self._samples) < FIFO_DEPTH:
                self._samples.append(time)
            else:
                self._overflow = True

    def _drive(self, time: int, level: int) -> None:
        for sink in self._sinks:
            sink(time, level)

    # MonInj (artiq/gateware/rtio/phy/ttl_serdes_generic.py): probes level, output enable; overrides enable,
    # level, output enable

    def probe(self, number: int) -> int:
        if number == 1:
            return self._overrides[2] if self._overrides[0] else self._enabled
        if self._input and not self.probe(1):
            return int(self._input.line.last)
        return self._output_level()

    def _output_level(self) -> int:
        return self._overrides[1] if self._overrides[0] else self._value

    def inject(self, override: int, value: int, time: int) -> None:
        if not 0 <= override < len(self._overrides):
            return
        before = self._output_level()
        self._overrides[override] = value & 1
        if (after := self._output_level()) != before:
            self._drive(time, after)

    def injected(self, override: int) -> int:
        return self._overrides[override] if 0 <= override < len(self._overrides) else 0

    # Inputs

    def _set_sensitivity(self, data: int, time: int) -> None:
        """Bit 0: rising edges, bit 1: falling edges, which the simulated laboratory does not have."""
        if data & 2:
            raise BlockedError(f"{self.key}: the simulated laboratory has no falling edges")
        gates = self._gates
        if gates and gates[-1][1] == FOREVER:
            gates[-1] = (gates[-1][0], time)
        if data & 1:
            gates.append((time, FOREVER))

    def timestamp(self, timeout: int) -> tuple[int, int]:
        if self._input:
            time, _ = self._input.read(timeout)
            return time, timeout if time < 0 else time + self._latency
        self._check_overflow()
        if self._first_edge is None:
            self._first_edge = self._apparatus.first_edge_source(self.key)
        gates = self._gates
        while gates:
            start, stop = gates[0]
            if start > timeout:
                break
            edge = self._first_edge(start, min(stop, timeout))
            if edge >= 0:
                gates[0] = (edge + 1, stop)
                return edge, edge + self._latency
            gates.popleft()
            if stop > timeout:
                gates.appendleft((timeout, stop))
                break
        return -1, timeout

    def data(self, timeout: int) -> tuple[int, int, int]:
        if self._input:
            time, level = self._input.read(FOREVER if timeout < 0 else timeout)
            if time < 0 and timeout < 0:
                raise BlockedError(f"{self.key}: the read would block for ever: nothing was requested")
            return time, level, timeout if time < 0 else time + self._latency
        self._check_overflow()
        if not self._samples:
            if timeout < 0:
                raise BlockedError(f"{self.key}: sample_get() would block for ever: no sample was requested")
            return -1, 0, timeout
        if self._level is None:
            self._level = self._apparatus.level_source(self.key)
        time = self._samples.popleft()
        return time, self._level(time), time + self._latency

    def _check_overflow(self) -> None:
        if self._overflow:
            self._overflow = False
            raise InputOverflowError

    def reset(self) -> None:
        self._last = NEVER
        self._last_access = (NEVER, 0)
        if self._input:
            self._input.reset()
        self._gates.clear()
        self._samples.clear()
        self._overflow = False


class ClockGenerator(Silent):
    """A clock generator (artiq/gateware/rtio/phy/ttl_simple.py, ClockGen): the tuning word."""

    def __init__(self, key: str, sink: Callable[[int, int], None]) -> None:
        super().__init__(key)
        self._sink = sink

    def output(self, address: int, data: int, time: int) -> None:
        self._sink(time, data)


class EdgeCounter(Silent):
    """An edge counter (artiq/gateware/rtio/phy/edge_counter.py): bits 0 and 1 say which edges count, bit 2
    sends the count, bit 3 starts from zero. The count goes on where nobody starts it from zero."""

    def __init__(self, key: str, apparatus: Any, input_mu: int) -> None:
        super().__init__(key)
        self._apparatus = apparatus
        self._rising: Callable[[int, int], int] = apparatus.edge_source(key)
        self._falling: Callable[[int, int], int] | None = None
        self._latency = input_mu
        self._edges = self._opened = self._count = 0
        self._spans: list[tuple[int, int, int]] = []
        self._from_zero = True
        self._requests: deque[tuple[int, list[tuple[int, int, int]], bool]] = deque()
        self._overflow = False

    def output(self, address: int, data: int, time: int) -> None:
        if self._edges:
            self._spans.append((self._opened, time, self._edges))
        self._edges, self._opened = data & 3, time
        if self._edges & 2 and self._falling is None:
            self._falling = self._falling_source()
        if data & 4:
            if len(self._requests) >= FIFO_DEPTH:
                self._overflow = True
            else:
                self._requests.append((time, self._spans, self._from_zero))
                self._spans, self._from_zero = [], False
        if data & 8:
            self._spans, self._from_zero = [], True

    def _falling_source(self) -> Callable[[int, int], int]:
        source = getattr(self._apparatus, "falling_edge_source", None)
        if source is None:
            raise BlockedError(f"{self.key}: the simulated laboratory has no falling edges")
        result: Callable[[int, int], int] = source(self.key)
        return result

    def data(self, timeout: int) -> tuple[int, int, int]:
        if self._overflow:
            self._overflow = False
            raise InputOverflowError
        if not self._requests or (0 <= timeout < self._requests[0][0]):
            if timeout < 0:
                raise BlockedError(f"{self.key}: fetch_count() would block for ever: no gate was requested")
            return -1, 0, timeout
        time, spans, from_zero = self._requests.popleft()
        if from_zero:
            self._count = 0
        for start, stop, edges in spans:
            if edges & 1:
                self._count += self._rising(start, stop)
            if edges & 2:
                assert self._falling is not None
                self._count += self._falling(start, stop)
        return time, self._count, time + self._latency

    def reset(self) -> None:
        """The count of the gateware stays, but nobody reads it before a start from zero."""
        self._edges = 0
        self._spans = []
        self._from_zero = True
        self._requests.clear()
        self._overflow = False


class Fastino(Silent):
    """The Fastino DAC (artiq/coredevice/fastino.py): 0 to 31 codes, 0x20 update, 0x21 hold, 0x22 control."""

    def __init__(self, key: str, apparatus: Any, log2_width: int) -> None:
        super().__init__(key)
        self._sink = apparatus.dac_sink(key)
        self._width = 1 << log2_width
        self._held = 0
        self._staged: dict[int, int] = {}

    def output(self, address: int, data: int, time: int) -> None:
        if address < 0x20:
            for position in range(self._width):
                self._set(address + position, data >> 16 * position & 0xFFFF, time)
        elif address == 0x20:
            for channel in [channel for channel in self._staged if data >> channel & 1]:
                self._play(channel, self._staged.pop(channel), time)
        elif address == 0x21:
            self._held = data
        elif address == 0x22 and data & 4:
            for channel in range(32):
                self._play(channel, 0x8000, time)

    def _set(self, channel: int, code: int, time: int) -> None:
        if self._held >> channel & 1:
            self._staged[channel] = code
        else:
            self._play(channel, code, time)

    def _play(self, channel: int, code: int, time: int) -> None:
        self._sink(time, channel, (code - 0x8000) * 10.0 / 0x8000)


class Entangler(Silent):
    """The entangler core (entangler/driver.py, registers), on the model of its gateware."""

    _READ = 0x20

    def __init__(self, key: str, apparatus: Any, input_mu: int) -> None:
        super().__init__(key)
        source = apparatus.entangler_source(key)
        self._core = NodeCore(source)
        source.attach(self._core)
        self._latency = input_mu
        self._requests: deque[tuple[int, int, int]] = deque()
        self._answers: deque[tuple[int, int]] = deque()
        self.herald_mu = -1
        """Time of the last herald, the reference of the ion's phase."""

    def output(self, address: int, data: int, time: int) -> None:
        if address == RUN or address & self._READ:
            self._requests.append((address, data, time))
        else:
            self._answer()  # what was requested before the register changes
            self._core.write(address, data)

    def data(self, timeout: int) -> tuple[int, int, int]:
        self._answer()
        if not self._answers:
            if timeout < 0:
                raise BlockedError(f"{self.key}: no run and no register was requested")
            return -1, 0, timeout
        time, data = self._answers.popleft()
        return time, data, time + self._latency

    def _answer(self) -> None:
        while self._requests:
            address, data, time = self._requests.popleft()
            if address != RUN:
                self._answers.append((time, self._core.read(address, time)))
                continue
            if not self._core.ready:
                raise BlockedError(f"{self.key}: run before set_config(enable=True) and set_cycle_length()")
            end, reason = self._core.run(time, data)
            if reason != TIMEOUT_REASON:
                self.herald_mu = end
            self._answers.append((end, reason))

    def reset(self) -> None:
        self._requests.clear()
        self._answers.clear()
        self._core.reset()
