"""Hardware of a crate on its own: outputs that cables lead to inputs, and nothing behind the cards.

Takes the place of an apparatus (see `sim_devices.apparatus.node_apparatus`) for `diqkd kasli --loopback`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping
from typing import Any

GATE_LATENCY_MU = 88
"""From the time of a gate to that of the inputs it lets in: 11 coarse cycles (GATEWARE)."""

_KEPT = 100_000


class Line:
    """A level over time. What was long ago is forgotten."""

    def __init__(self) -> None:
        self._changes: list[tuple[int, int]] = []

    def set(self, time: int, level: int) -> None:
        insort(self._changes, (time, level), key=lambda change: change[0])
        if len(self._changes) > 2 * _KEPT:
            del self._changes[:_KEPT]

    def level(self, time: int) -> int:
        index = bisect_right(self._changes, time, key=lambda change: change[0])
        return self._changes[index - 1][1] if index else 0

    @property
    def last(self) -> int:
        return self._changes[-1][1] if self._changes else 0

    def edges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Changes of the level at start <= time < stop: time, new level."""
        index = bisect_left(self._changes, start, key=lambda change: change[0])
        level = self._changes[index - 1][1] if index else 0
        while index < len(self._changes) and self._changes[index][0] < stop:
            time, new = self._changes[index]
            if new != level:
                yield time, new
            level = new
            index += 1


class Clock:
    """Output of a clock generator (artiq/gateware/rtio/phy/ttl_simple.py): top bit of a phase accumulator."""

    def __init__(self, accumulator_width: int, coarse_mu: int) -> None:
        self._half = 1 << accumulator_width - 1
        self._coarse_mu = coarse_mu
        self._settings: list[tuple[int, int]] = []

    def set(self, time: int, word: int) -> None:
        insort(self._settings, (time, word), key=lambda setting: setting[0])
        del self._settings[:-_KEPT]

    def level(self, time: int) -> int:
        index = bisect_right(self._settings, time, key=lambda setting: setting[0])
        if not index:
            return 0
        begin, word = self._settings[index - 1]
        return int(word > 0 and (time - begin) // self._coarse_mu * word // self._half % 2 == 0)

    @property
    def last(self) -> int:
        """A clock that runs reads as low."""
        return 0

    def edges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        for index, (begin, word) in enumerate(self._settings):
            end = self._settings[index + 1][0] if index + 1 < len(self._settings) else stop
            if not word or end <= start or begin >= stop:
                continue
            half = max(0, ((start - begin) // self._coarse_mu - 1) * word // self._half)
            while True:
                time = begin - (-half * self._half // word) * self._coarse_mu
                if time >= min(end, stop):
                    break
                if time >= start:
                    yield time, int(half % 2 == 0)
                half += 1


class Cables:
    """An apparatus of cables.

    :param cables: input by output, keys of the device database
    """

    gate_latency_mu = GATE_LATENCY_MU

    def __init__(self, cables: Mapping[str, str]) -> None:
        self._sources = {target: source for source, target in cables.items()}
        self._lines: dict[str, Line | Clock] = {}

    def _line(self, key: str) -> Line | Clock:
        return self._lines.setdefault(key, Line())

    def _source(self, key: str) -> Line | Clock:
        """What drives an input; an edge counter `NAME_counter` sits on the input `NAME`."""
        name = key.removesuffix("_counter")
        return self._line(self._sources.get(name, f"nothing at {name}"))

    def input_line(self, key: str) -> Line | Clock:
        return self._source(key)

    def clock_sink(self, key: str, accumulator_width: int, coarse_mu: int) -> Callable[[int, int], None]:
        self._lines[key] = clock = Clock(accumulator_width, coarse_mu)
        return clock.set

    def level_sink(self, key: str) -> Callable[[int, int], None]:
        return self._line(key).set

    def level_source(self, key: str) -> Callable[[int], int]:
        return self._source(key).level

    def edge_source(self, key: str) -> Callable[[int, int], int]:
        source = self._source(key)
        return lambda start, stop: sum(level for _, level in source.edges(start, stop))

    def falling_edge_source(self, key: str) -> Callable[[int, int], int]:
        source = self._source(key)
        return lambda start, stop: sum(not level for _, level in source.edges(start, stop))

    def first_edge_source(self, key: str) -> Callable[[int, int], int]:
        source = self._source(key)
        return lambda start, stop: next((time for time, up in source.edges(start, stop + 1) if up), -1)

    def dac_sink(self, key: str) -> Callable[..., None]:
        return _ignore

    dds_sink = dac_sink

    def entangler_source(self, key: str) -> Any:
        return _Dark()


class _Dark:
    """A heralding station without photons."""

    def clicks(self, start: int, window: int) -> None:
        return None

    def end_run(self, end: int, success: bool) -> None:
        return None


def _ignore(*_: Any) -> None:
    return None
