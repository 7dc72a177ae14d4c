"""Gates, timestamps and counters of the entangler core (`InputGater` and the counters in entangler/core.py).

A reference sets the limits of all gates, and they hold until the next one, also across attempts. A gate
takes the first click within its limits, both included. Everything is worked out once an attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sim_devices.engines.entangler_core.registers import CYCLE_MASK, MASK_14, NUM_DETECTORS, NUM_SLOTS


class AttemptEdges(NamedTuple):
    """Rising edges at one core's inputs in one attempt.

    `attempt` counts the attempts of the run from 0. `clicks` are pairs (time in ns from the start of the
    attempt, detector 0 to 3) in any order. `references` are the times of the reference pulse in ns, None
    for the run's own. A line's second edge in a coarse cycle is lost.
    """

    attempt: int
    clicks: Sequence[tuple[int, int]]
    references: Sequence[int] | None = None


class InputEdges(NamedTuple):
    """Rising edges at one core's inputs in one run.

    `reference_ns` is the time of the reference pulse in all attempts that do not give their own, None for
    no pulse. `attempts` are the attempts with clicks or with references of their own, by ascending number.
    They are taken one by one as the run gets there, so a generator may draw them; what lies behind the end
    is not taken.
    """

    reference_ns: int | None = None
    attempts: Iterable[AttemptEdges] = ()


DARK = InputEdges()
"""Neither clicks nor reference pulses."""

_Limits = tuple[tuple[int, ...], tuple[int, ...]]

# References whose limits are kept; a run with a jittering reference has a few hundred.
_CACHE_SIZE = 8192


class Observation(NamedTuple):
    """What the gates make of one attempt.

    `decided` and `pattern` are the clicks that count for the herald and those until the end of the period,
    detector 0 in bit 0; `referenced` tells whether a reference came before the decision. `reference` and
    `limits` are None if there was none at all; `timestamps` are pairs (detector, timestamp).
    """

    decided: int
    pattern: int
    referenced: bool
    reference: int | None
    limits: _Limits | None
    timestamps: Sequence[tuple[int, int]]


class Detection:
    """Gates and counters of one core."""

    def __init__(self) -> None:
        self._gate_start = [0] * NUM_DETECTORS
        self._gate_stop = [0] * NUM_DETECTORS
        self._counter_patterns = [frozenset((0,))] * NUM_SLOTS
        self._limits: _Limits = ((0,) * NUM_DETECTORS, (0,) * NUM_DETECTORS)
        self._limits_after: dict[int, _Limits] = {}
        self._without_clicks: dict[tuple[tuple[int, ...], int, bool], Observation] = {}
        self.reference = 0
        self.timestamps = [0] * NUM_DETECTORS
        # Clicks of the last attempt, and what the idle cycle before the next one sees of it.
        self.pattern = 0
        self.idle_counter = 0
        self.idle_pattern = 0
        self.clear_counters()

    def set_gate(self, detector: int, start: int, stop: int) -> None:
        """Limits relative to the reference in ns, both included."""
        self._gate_start[detector] = start & MASK_14
        self._gate_stop[detector] = stop & MASK_14
        self._limits_after.clear()
        self._without_clicks.clear()

    def set_counter_patterns(self, counter: int, patterns: Iterable[int]) -> None:
        """Patterns that one of the four pattern counters counts."""
        self._counter_patterns[counter] = frozenset(patterns)

    def clear_counters(self) -> None:
        """A run strobe sets all counters to 0."""
        self.num_triggers = 0
        self.num_clicks = [0] * NUM_DETECTORS
        self.num_patterns = [0] * NUM_SLOTS

    def wait(self) -> None:
        """The next attempt follows a wait: nothing of the last one is left in the idle cycle before it."""
        self.idle_counter = self.idle_pattern = 0

    def observe(
        self, clicks: Sequence[tuple[int, int]], references: Sequence[int], cycle_length: int, follows: bool
    ) -> Observation:
        """Gates after an attempt with these edges. Raises ValueError for an edge outside its period."""
        first, last = (-1, cycle_length + 2) if follows else (-3, cycle_length)
        edges = [(time >> 3, False, time, detector) for time, detector in clicks]
        edges += [(time >> 3, True, time, NUM_DETECTORS) for time in references]
        if not edges:
            return _NOTHING
        edges.sort()
        if edges[0][0] < first or edges[-1][0] > last:
            times = f"edges from {edges[0][2]} to {edges[-1][2]} ns"
            raise ValueError(
                f"{times}, but the attempt's period is {8 * first} to {8 * last + 7} ns: move them"
            )
        limits = self._limits
        decided = pattern = 0
        referenced = False
        reference: int | None = None
        timestamps: list[tuple[int, int]] = []
        previous = [first - 1] * (NUM_DETECTORS + 1)
        for cycle, is_reference, time, line in edges:
            if previous[line] == cycle:
                continue
            previous[line] = cycle
            counter = cycle if 0 <= cycle <= cycle_length else self._counter(cycle, first, cycle_length)
            timestamp = counter << 3 | time & 7
            if is_reference:
                reference = timestamp
                limits = self._limits_after.get(timestamp) or self._make_limits(timestamp)
                referenced = referenced or first < cycle < cycle_length
            elif limits[0][line] <= timestamp <= limits[1][line] and not pattern >> line & 1:
                if cycle == first and self.idle_pattern >> line & 1:
                    continue
                pattern |= 1 << line
                timestamps.append((line, timestamp))
                if cycle < cycle_length:
                    decided = pattern
        return Observation(
            decided, pattern, referenced, reference, None if reference is None else limits, timestamps
        )

    def hold_after_another(
        self, clicks: Sequence[tuple[int, int]], reference: int, cycle_length: int, follows: bool
    ) -> tuple[int, int]:
        """`observe` and `hold` an attempt that follows one with the same reference and no clicks, but for the
        counters: (decided, pattern) of its `Observation`."""
        limits = self._limits_after.get(reference) or self._make_limits(reference)
        self._limits, self.reference = limits, reference
        starts, stops = limits
        behind_reference, last = (reference | 7) + 1, 8 * cycle_length
        pattern = 0
        for time, line in clicks:
            if not behind_reference <= time < last or pattern >> line & 1:
                break  # where the order of edges or the end of the attempt matters
            if starts[line] <= time <= stops[line]:
                pattern |= 1 << line
                self.timestamps[line] = time
        else:
            return pattern, pattern
        seen = self.observe(clicks, (reference,), cycle_length, follows)
        self.hold(seen, cycle_length, counting=False)
        return seen.decided, seen.pattern

    def observe_references(
        self, references: tuple[int, ...], cycle_length: int, follows: bool
    ) -> Observation:
        """`observe` without clicks, from a cache where the idle cycle is not concerned."""
        key = references, cycle_length, follows
        seen = self._without_clicks.get(key)
        if seen is None:
            seen = self.observe((), references, cycle_length, follows)
            if not any(time < 0 for time in references) and len(self._without_clicks) < _CACHE_SIZE:
                self._without_clicks[key] = seen
        return seen

    def _counter(self, cycle: int, first: int, cycle_length: int) -> int:
        """Counter of the state machine in a cycle of the period in which it does not count."""
        if cycle < 0:
            return self.idle_counter if cycle == first else 0
        return cycle_length + 1 & CYCLE_MASK

    def _make_limits(self, reference: int) -> _Limits:
        limits = (
            tuple([start + reference & MASK_14 for start in self._gate_start]),
            tuple([stop + reference & MASK_14 for stop in self._gate_stop]),
        )
        if len(self._limits_after) < _CACHE_SIZE:
            self._limits_after[reference] = limits
        return limits

    def hold(
        self, seen: Observation, cycle_length: int, num_attempts: int = 1, counting: bool = True
    ) -> None:
        """End of `num_attempts` equal attempts. A core that is started in that very cycle counts none."""
        if seen.limits is not None and seen.reference is not None:
            self._limits = seen.limits
            self.reference = seen.reference
        for detector, timestamp in seen.timestamps:
            self.timestamps[detector] = timestamp
        self.pattern = self.idle_pattern = seen.pattern
        self.idle_counter = cycle_length + 1 & CYCLE_MASK
        if not counting:
            return
        decided = seen.decided
        if seen.referenced:
            self.num_triggers = self.num_triggers + num_attempts & MASK_14
        if decided:
            for detector in range(NUM_DETECTORS):
                self.num_clicks[detector] += (decided >> detector & 1) * num_attempts
        for counter, patterns in enumerate(self._counter_patterns):
            if decided in patterns:
                self.num_patterns[counter] += num_attempts


_NOTHING = Observation(0, 0, False, None, None, ())
