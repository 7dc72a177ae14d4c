"""State machine of the entangler core (`MainStateMachine` in entangler/core.py), and the clock that steps it.

Assignments happen in the gateware's order: those of the state machine come last and win over a run
strobe's. A core is settled if a cycle changes nothing but its counters; then the clock skips to the next
cycle that may.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from sim_devices.engines.entangler_core.detection import (
    DARK,
    AttemptEdges,
    Detection,
    InputEdges,
    Observation,
)
from sim_devices.engines.entangler_core.outcome import Attempts, Outcome
from sim_devices.engines.entangler_core.registers import (
    CYCLE_MASK,
    MASK_14,
    NUM_SLOTS,
    TIMEOUT_REASON,
)

FOREVER = 1 << 62

# Cycles of an attempt besides its N programmed ones: one more of the counter and three of the state machine.
OVERHEAD = 4

# States, in the order in which the machine goes through them.
IDLE, TRIGGER, TRIGGER_AGAIN, COUNTER, WAIT, CHECK = range(6)


class Lines(NamedTuple):
    """Lines of the link: trigger, success and time-out come from a master, ready comes from a slave."""

    trigger: bool = False
    success: bool = False
    timeout: bool = False
    ready: bool = False


LOW = Lines()
_OF_READY_SLAVE = Lines(ready=True)
_OF_MASTER = {levels: Lines(*levels) for levels in product((False, True), repeat=3)}


class Sequencer:
    """State machine of one core with its gates, its outputs' timing and the run that it plays."""

    def __init__(self, is_master: bool = False) -> None:
        self.cycle_length = 0
        self.output_timing = [(0, 0)] * 4
        self.detection = Detection()
        self.outcome: Outcome | None = None
        self.set_config(False, is_master, False)
        self.set_heralds([0] * NUM_SLOTS, 0)
        self.running = self.ready = self.success = False
        self.remaining = 0
        self.num_cycles = 0
        self.state = IDLE
        self.settled = False
        self._counter = 0
        self._done = False
        self._just_idle = False
        self._lines = LOW
        self._load(0, DARK)
        self._seen: Observation | None = None

    # Registers.

    def set_config(self, enabled: bool, is_master: bool, standalone: bool) -> None:
        """Whether the core has its outputs and gives events, its role, and whether it has no partner."""
        self.enabled = enabled
        self.is_master = is_master
        self.standalone = standalone
        self.follows = not (is_master or standalone)

    def set_heralds(self, slots: Sequence[int], enables: int) -> None:
        """Patterns in the four slots, and the bits of those that herald."""
        self._matches = [
            sum((slots[slot] == seen) << slot for slot in range(NUM_SLOTS)) for seen in range(16)
        ]
        self._heralds = [bool(matches & enables) for matches in self._matches]

    def heralds(self, decided: int) -> bool:
        """Whether the clicks that count for the herald are one."""
        return self._heralds[decided]

    def matches(self, pattern: int) -> int:
        """Bits of the slots that hold a pattern."""
        return self._matches[pattern]

    @property
    def timed_out(self) -> bool:
        """Whether the time is over, or a slave's master says so: the core's time-out line."""
        return not self.remaining or (self.follows and self._lines.timeout)

    def driven_lines(self) -> Lines:
        """Lines to the partner; what this core's role does not drive is low."""
        if self.is_master:
            return _OF_MASTER[TRIGGER <= self.state <= TRIGGER_AGAIN, self.success, self.timed_out]
        return _OF_READY_SLAVE if self.ready and not self.standalone else LOW

    # The run.

    def load_run(self, event: int, edges: InputEdges) -> None:
        """Take the edges of a run that is strobed next. An attempt under way keeps those of the last run."""
        if self._seen is None and TRIGGER <= self.state <= COUNTER:
            self._seen = self._observe()
        self._load(event, edges)

    def _load(self, event: int, edges: InputEdges) -> None:
        self.outcome = None
        self._event = event
        self._attempt = 0
        self._references = () if edges.reference_ns is None else (edges.reference_ns,)
        self._source: Iterator[AttemptEdges] = iter(edges.attempts)
        self._next = next(self._source, None)
        self._blocks: list[Attempts] = []

    def _observe(self) -> Observation:
        """What the gates make of the next attempt, whose edges are taken from the run's."""
        edges, attempt = self._next, self._attempt
        self._attempt = attempt + 1
        if edges is None or edges.attempt != attempt:
            return self.detection.observe_references(self._references, self.cycle_length, self.follows)
        self._next = next(self._source, None)
        if self._next is not None and self._next.attempt <= attempt:
            raise ValueError(
                f"edges of attempt {self._next.attempt} follow those of {attempt}: sort the attempts"
            )
        references = self._references if edges.references is None else edges.references
        return self.detection.observe(edges.clicks, references, self.cycle_length, self.follows)

    def record_attempts(self, start: int, num: int) -> None:
        """Note attempts that start at `start` and follow each other without a wait."""
        period = self.cycle_length + OVERHEAD
        if self._blocks:
            block = self._blocks[-1]
            if block.period == period and block.start + period * block.num == start:
                self._blocks[-1] = Attempts(block.start, period, block.num + num)
                return
        self._blocks.append(Attempts(start, period, num))

    # One cycle.

    def step(self, now: int, duration: int | None, lines: Lines) -> bool:
        """Coarse cycle `now`, with the partner's lines and a run strobe's data; returns if a run ends."""
        state, follows, held, num_cycles = self.state, self.follows, self._lines, self.num_cycles
        timed_out = not self.remaining or (follows and held.timeout)
        finishing = duration is None and self.running and (timed_out or self.success)
        done = finishing and state == IDLE
        ended = done and not self._done
        leaving = state == IDLE and self.ready and not finishing
        leaving = leaving and (held.trigger if follows else held.ready or self.standalone)
        settled = (
            not leaving
            and lines == held
            and duration is None
            and done == self._done
            and not (finishing and self.ready)
            and not self._just_idle
            and (timed_out or self.remaining > 1)
        )
        if ended:
            self.outcome = self._result(now)
            self.running = False
        if finishing:
            self.ready = False
        if duration is not None:
            self.running = self.ready = True
            self.success = False
            self.num_cycles = 0
            self.remaining = duration
            self.detection.clear_counters()
        elif not timed_out:
            self.remaining -= 1
        self._done = done
        self._lines = lines

        if state == IDLE:
            if leaving:
                self._leave_idle(now)
            self._just_idle = False
            self._counter = 0
        elif state == COUNTER:
            if self._counter == self.cycle_length:
                self.num_cycles = num_cycles + 1 & MASK_14
                self._end_attempt(counting=duration is None)
            self._counter = self._counter + 1 & CYCLE_MASK
        elif state == CHECK:
            self.success = self.success or held.success
            self._enter_idle()
        else:
            self.state = state + 1
        self.settled = settled and self.state == state
        return ended

    def _leave_idle(self, now: int) -> None:
        if not self._just_idle:
            self.detection.wait()
        self.state = COUNTER if self.follows else TRIGGER
        self.record_attempts(now + (1 if self.follows else 3), 1)

    def _enter_idle(self) -> None:
        self.state = IDLE
        self._just_idle = True

    def _end_attempt(self, counting: bool) -> None:
        seen = self._observe() if self._seen is None else self._seen
        self._seen = None
        self.detection.hold(seen, self.cycle_length, counting=counting)
        if self.follows:
            self.state = WAIT
            return
        self.success = self.success or self._heralds[seen.decided]
        self._enter_idle()

    def _result(self, now: int) -> Outcome:
        pattern = self.detection.pattern if self._just_idle else 0
        return Outcome(
            start=self._event,
            end=now,
            success=self.success,
            reason=self._matches[pattern] if self.success else TIMEOUT_REASON,
            reported=self.enabled,
            attempts=tuple(self._blocks),
            output_timing=tuple(self.output_timing),
            cycle_length=self.cycle_length,
            follows=self.follows,
        )

    # What is skipped.

    def num_settled(self) -> int:
        """Coarse cycles for which a settled core stays so."""
        num = FOREVER if self.timed_out else self.remaining
        if self.state == COUNTER:
            num = min(num, self.cycle_length - self._counter & CYCLE_MASK)
        return num

    def skip_settled(self, num: int) -> None:
        """Let coarse cycles pass in which the core is settled."""
        if not self.timed_out:
            self.remaining -= num
        if self.state == COUNTER:
            self._counter = self._counter + num & CYCLE_MASK

    def keeps_on(self) -> bool:
        """Whether nothing but its time or a herald keeps this core from going on with attempts."""
        return self.running and self.ready and not self.success and self._seen is None

    def keeps_step(self, master: Sequencer) -> bool:
        """Whether this slave is about to play every attempt of a master whose trigger has just gone up."""
        return (
            self.follows
            and self.cycle_length == master.cycle_length
            and not (self._lines.success or self._lines.timeout)
            and (self.state == CHECK or (self.state == IDLE and not self._lines.trigger))
            and self.keeps_on()
        )

    def pass_attempts(self, limit: int) -> int:
        """Let up to `limit` attempts pass, as a master none that heralds; returns how many.

        A master begins and ends in the trigger of an attempt, a slave in the check before it.
        """
        detection, decides = self.detection, not self.follows
        if self.follows and self.state == IDLE:
            detection.wait()
        idle_reference = any(time < 0 for time in self._references)
        first = self._attempt
        stop = first + limit
        while self._attempt < stop:
            attempt = self._attempt
            num_equal = 1
            if self._next is None or self._next.attempt > attempt:
                num_equal = (stop if self._next is None else min(stop, self._next.attempt)) - attempt
                if idle_reference:
                    num_equal = 1
            seen = self._observe()
            if decides and self._heralds[seen.decided]:
                self._seen = seen
                limit = attempt - first
                break
            self._attempt = attempt + num_equal
            detection.hold(seen, self.cycle_length, num_equal)
        self.remaining -= limit * (self.cycle_length + OVERHEAD)
        self.num_cycles = self.num_cycles + limit & MASK_14
        if self.follows and limit:
            self.state = CHECK
            self._counter = self.cycle_length + 1 & CYCLE_MASK
        return limit


class Clock:
    """Clock of one core or of two linked ones. All coarse cycles before `now` are played."""

    def __init__(self, sequencers: Sequence[Sequencer], now: int = -FOREVER) -> None:
        self.now = now
        self.sequencers = list(sequencers)
        self._strobes: dict[int, int] = {}

    def strobe(self, sequencer: Sequencer, duration: int) -> None:
        """A run strobe in the cycle that is played next."""
        self._strobes[self.sequencers.index(sequencer)] = duration

    def has_run(self, sequencer: Sequencer) -> bool:
        """Whether a run is under way or about to start."""
        return sequencer.running or self.sequencers.index(sequencer) in self._strobes

    def replace(self, sequencer: Sequencer, successor: Sequencer) -> None:
        """Put another core in the place of one, without its strobe."""
        index = self.sequencers.index(sequencer)
        self.sequencers[index] = successor
        self._strobes.pop(index, None)

    def advance(self, until: int) -> None:
        """Play all cycles before `until`. Raises ValueError if `until` is played already."""
        if until < self.now:
            raise ValueError(f"cycle {until} is played already: the core stands at {self.now}")
        while self.now < until:
            self.advance_to_end(until)

    def advance_to_end(self, until: int) -> None:
        """Play the cycles before `until`, no further than one in which a run ends."""
        while self.now < until:
            for sequencer in self.sequencers:
                if sequencer.state == TRIGGER:
                    self._skip_attempts(sequencer, until)
            if self.now < until and self._play_cycle(until):
                return

    def _play_cycle(self, until: int) -> bool:
        now, strobes, sequencers = self.now, self._strobes, self.sequencers
        if len(sequencers) == 1:
            ended = sequencers[0].step(now, strobes.get(0), LOW)
            settled = sequencers[0].settled
        else:
            one, other = sequencers
            lines = one.driven_lines()
            ended = one.step(now, strobes.get(0), other.driven_lines())
            ended = other.step(now, strobes.get(1), lines) or ended
            settled = one.settled and other.settled
        strobes.clear()
        self.now = now + 1
        if settled and not ended:
            num = until - self.now
            for sequencer in sequencers:
                num = min(num, sequencer.num_settled())
            for sequencer in sequencers:
                sequencer.skip_settled(num)
            self.now += num
        return ended

    def _skip_attempts(self, leader: Sequencer, until: int) -> None:
        """Skip attempts without a herald, from the trigger of one to the trigger of another."""
        followers = [sequencer for sequencer in self.sequencers if sequencer is not leader]
        if self._strobes or leader.standalone == bool(followers) or not leader.keeps_on():
            return
        if not all(follower.keeps_step(leader) for follower in followers):
            return
        period = leader.cycle_length + OVERHEAD
        limit = (until - self.now) // period
        for sequencer in self.sequencers:
            limit = min(limit, (sequencer.remaining - 1) // period)
        num = leader.pass_attempts(limit) if limit > 0 else 0
        if num > 0:
            # The attempt whose trigger this is has been recorded already.
            leader.record_attempts(self.now + 2 + period, num)
            for follower in followers:
                follower.pass_attempts(num)
                follower.record_attempts(self.now + 2, num)
            self.now += num * period
