"""Entangler core as an RTIO channel: registers by address, runs and their outcomes; one core or a pair.

Everything here moves the clock of the core, which a linked pair shares.
"""

from __future__ import annotations

from typing import NamedTuple

from sim_devices.engines.entangler_core.detection import DARK, InputEdges
from sim_devices.engines.entangler_core.outcome import Outcome
from sim_devices.engines.entangler_core.registers import (
    CONFIG,
    COUNTER_PATTERNS,
    COUNTS,
    CYCLE_LENGTH,
    CYCLE_MASK,
    DURATION_MASK,
    HERALDS,
    MASK_14,
    NUM_DETECTORS,
    NUM_SLOTS,
    OUTPUT_MASK,
    READY,
    RUN,
    STROBE_DELAY,
    SUCCESS,
    TIMED_OUT,
    TIMESTAMPS,
    TIMING,
)
from sim_devices.engines.entangler_core.sequencer import FOREVER, Clock, Sequencer


class EntanglerCore:
    """One core; all registers are 0 at first.

    `strobe_delay` is the time in coarse cycles from an event to the core's registers. Registers may be
    written at any time, but gates and patterns that are written during an attempt count for all of it.
    """

    def __init__(self, strobe_delay: int = STROBE_DELAY) -> None:
        self.strobe_delay = strobe_delay
        self.sequencer = Sequencer()
        self._clock = Clock([self.sequencer])

    @property
    def outcome(self) -> Outcome | None:
        """Outcome of the run that was started last, None until it has ended."""
        return self.sequencer.outcome

    def write(self, address: int, data: int, event: int) -> None:
        """Write a register by an output event at coarse cycle `event`; `RUN` starts a run in the dark.

        Addresses without a register are ignored, as in the gateware. Raises ValueError for an event behind
        what was played of this core or its partner, unless the core is at rest and the register is not
        `RUN`.
        """
        if address == RUN:
            self.start(event, data)
            return
        taken = event + self.strobe_delay + 1
        if self._clock.has_run(self.sequencer) or taken > self._clock.now:
            self._clock.advance(taken)
        sequencer = self.sequencer
        if address == CONFIG:
            enabled, is_master, standalone = (bool(data >> bit & 1) for bit in range(3))
            sequencer.set_config(enabled, is_master, standalone)
        elif address == CYCLE_LENGTH:
            sequencer.cycle_length = data & CYCLE_MASK
        elif address == HERALDS:
            sequencer.set_heralds(_patterns(data), data >> 16 & 0xF)
        elif address >> 3 == TIMING >> 3:
            channel, start, stop = address & 7, data & 0xFFFF, data >> 16 & 0xFFFF
            if channel < NUM_DETECTORS:
                sequencer.output_timing[channel] = (start & OUTPUT_MASK, stop & OUTPUT_MASK)
            else:
                sequencer.detection.set_gate(channel - NUM_DETECTORS, start, stop)
        elif address >> 3 == COUNTER_PATTERNS >> 3:
            sequencer.detection.set_counter_patterns(min(address & 7, NUM_SLOTS - 1), _patterns(data))

    def read(self, address: int, event: int) -> int:
        """Data of the input event that a read at coarse cycle `event` causes: 14 bits, 0 where no register
        is.

        Timestamps and counters change at the end of an attempt. Raises ValueError for an event behind what
        was played of this core or its partner.
        """
        self._clock.advance(event + self.strobe_delay + 1)
        sequencer, detection = self.sequencer, self.sequencer.detection
        if address >> 3 == COUNTS >> 3:
            values = detection.num_clicks + detection.num_patterns
        elif address >> 3 == TIMESTAMPS >> 3:
            values = [*detection.timestamps, detection.reference]
        else:
            status = READY * sequencer.ready | SUCCESS * sequencer.success | TIMED_OUT * sequencer.timed_out
            values = [status, sequencer.num_cycles, sequencer.remaining, detection.num_triggers]
        field = address & 7
        return values[field] & MASK_14 if field < len(values) else 0

    def reset(self, event: int) -> None:
        """Reset of the RTIO core (`core.reset()`): all but the role returns to 0, a run is lost."""
        self._clock.advance(max(event, self._clock.now))
        fresh = Sequencer(self.sequencer.is_master)
        self._clock.replace(self.sequencer, fresh)
        self.sequencer = fresh

    def start(self, event: int, duration: int, edges: InputEdges = DARK) -> None:
        """Start a run of at most `duration` coarse cycles by an event at coarse cycle `event`.

        A run under way is replaced and never reported. Raises ValueError for an event behind what was
        played, and if no cycle length is set.
        """
        if not self.sequencer.cycle_length:
            raise ValueError(
                "cycle length 0, but a run needs 1 to 1023 coarse cycles: write CYCLE_LENGTH before"
            )
        self._clock.advance(event + self.strobe_delay)
        self.sequencer.load_run(event, edges)
        self._clock.strobe(self.sequencer, duration & DURATION_MASK)

    def run(self, event: int, duration: int, edges: InputEdges = DARK) -> Outcome:
        """`start`, and play until this run has ended. A partner that is linked starts nothing meanwhile."""
        self.start(event, duration, edges)
        return self.finish()

    def advance(self, until: int) -> Outcome | None:
        """Play all coarse cycles before `until`; returns the outcome of the last run, None if it goes on.

        Raises ValueError if `until` is played already.
        """
        self._clock.advance(until)
        return self.outcome

    def finish(self) -> Outcome:
        """Play until the run that was started last has ended. Raises RuntimeError if there was none."""
        while True:
            outcome = self.sequencer.outcome
            if outcome is not None:
                return outcome
            if not self._clock.has_run(self.sequencer):
                raise RuntimeError("no run to finish: start one before")
            self._clock.advance_to_end(FOREVER)


class Run(NamedTuple):
    """A run to be started: cycle of its event, duration in coarse cycles, edges at the core's inputs."""

    event: int
    duration: int
    edges: InputEdges = DARK


class LinkedCores:
    """Two cores whose link lines are connected without delay, usually a master and a slave.

    A slave takes trigger, success and time-out from the master's lines, each a coarse cycle late, and the
    master waits for the slave's ready line. The lines keep their state between runs. Events of both cores
    have to be given in the order of their cycles, since one may change what the other does.
    """

    def __init__(self, master: EntanglerCore, slave: EntanglerCore) -> None:
        self.master = master
        self.slave = slave
        now = max(master._clock.now, slave._clock.now)
        for core in (master, slave):
            core._clock.advance(now)
        self._clock = Clock([master.sequencer, slave.sequencer], now)
        master._clock = slave._clock = self._clock

    @property
    def now(self) -> int:
        """First coarse cycle that is not played yet."""
        return self._clock.now

    def advance_to_end(self, until: int) -> None:
        """Play the coarse cycles before `until`, no further than one in which a run ends; see `outcome` of
        the cores.

        For nodes that wait for each other: `until` is the earliest cycle at which one may give another event.
        """
        self._clock.advance_to_end(until)

    def run(self, master: Run, slave: Run) -> tuple[Outcome, Outcome]:
        """One run of each core: outcomes of the master's and of the slave's.

        Raises ValueError if one of the events is behind what was played.
        """
        runs = [(self.master, master), (self.slave, slave)]
        for core, run in sorted(runs, key=lambda item: item[1].event + item[0].strobe_delay):
            core.start(*run)
        return self.master.finish(), self.slave.finish()


def _patterns(data: int) -> list[int]:
    return [data >> 4 * slot & 0xF for slot in range(NUM_SLOTS)]
