"""Entangler core of one node, as its kernel sees it, with a partner that keeps in step.

An engine writes, runs and reads by address; what clicks in a run comes from the apparatus (`ClickSource`).
The other node's core lives in another process, on a clock of its own, so the link's other end is a second
core of the model: it has the same registers and runs in the same windows, the slave `PARTNER_LAG` coarse
cycles after its master. As a master it has open gates: what its own cut off shows at its own node.

A node plays some ten windows without a click for every herald, and seldom reads a register. So the length of
a window is taken from the model once for every duration, and clicks go through the model's gates alone. The
run itself is played when a register is read or written after it, which also checks the shortcut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from operator import index
from typing import NamedTuple, Protocol

from sim_devices.engines.entangler_core.core import EntanglerCore, LinkedCores, Run
from sim_devices.engines.entangler_core.detection import AttemptEdges, InputEdges
from sim_devices.engines.entangler_core.outcome import Outcome, attempt_pulses
from sim_devices.engines.entangler_core.registers import (
    COARSE_MU,
    CONFIG,
    CYCLE_LENGTH,
    CYCLE_MASK,
    HERALDS,
    NUM_DETECTORS,
    NUM_SLOTS,
    OUTPUT_MASK,
    RTIO_STROBE_DELAY,
    TIMEOUT_REASON,
    TIMING,
)
from sim_devices.engines.entangler_core.sequencer import FOREVER, OVERHEAD

PARTNER_LAG = 4
"""Coarse cycles from the master's run event to the slave's: the least with which no attempt is lost."""

PUMPING_OUTPUT, REPUMPING_OUTPUT, TRIGGER_OUTPUT = range(3)
"""Sequencer outputs: 422 nm sigma light, 1092 nm, and the picosecond pulse, whose edge is the gates'
reference."""

_ENABLED, _MASTER, _STANDALONE = 1, 2, 4
_OPEN_GATE = 8191 << 16
# An event behind all that was played changes a register of a core at rest, and does not move its clock.
_LONG_AGO = -2 * FOREVER


class Clicks(NamedTuple):
    """Clicks in one attempt of a run: pairs (ns from its start, detector) as each core gets them, before
    `Window.cycle_ns`."""

    attempt: int
    own: Sequence[tuple[int, int]]
    partner: Sequence[tuple[int, int]]


class Window(NamedTuple):
    """A run without clicks: its attempts and its length.

    `trigger_ns` is when the picosecond pulse comes in an attempt, None if it does not; `patterns` herald;
    `cycle_ns` is the end of the time in which an attempt can have clicks.
    """

    num_attempts: int
    lasting_mu: int
    trigger_ns: int | None
    patterns: tuple[int, ...]
    cycle_ns: int


class ClickSource(Protocol):
    """What an apparatus gives an entangler core."""

    def attach(self, core: NodeCore) -> None:
        """The core that plays the attempts."""

    def clicks(self, start_mu: int, window: Window) -> Clicks | None:
        """Clicks in one attempt of a run whose event is at `start_mu`, None if there are none."""

    def end_run(self, end_mu: int, success: bool) -> None:
        """End of a run that had clicks or heralded."""

    def dark_runs_ahead(self, start_mu: int, window: Window, outputs: Set[str]) -> int:
        """How many runs after the one at `start_mu`, which had no clicks, have none either, if there is no
        more between them than before it and only `outputs` (keys) are pulsed; 0 if that is not known."""

    def skip_dark_runs(self, window: Window, num: int) -> None:
        """So many of them have been."""


# A run that was answered and is still to be played: its event (mu), duration and clicks, and the answer.
_Deferred = tuple[int, int, Clicks | None, tuple[int, int]]


class NodeCore:
    """Registers, runs and reads of one core; times in machine units.

    :ivar registers: data last written, by address
    :ivar run: see `_bind_run`
    """

    def __init__(self, source: ClickSource, strobe_delay: int = RTIO_STROBE_DELAY) -> None:
        self._source = source
        self._strobe_delay = strobe_delay
        self.registers: dict[int, int] = {CONFIG: 0}
        self._windows: dict[int, Window] = {}
        self._deferred: _Deferred | None = None
        self._own, self._partner, self._pair = self._make_cores()
        self.run = self._bind_run()

    @property
    def ready(self) -> bool:
        """Whether a run would end: the core is enabled and has a cycle length."""
        return bool(self.registers[CONFIG] & _ENABLED and self._length)

    @property
    def trigger_ns(self) -> int | None:
        """When the picosecond pulse comes in an attempt, None if it does not."""
        pulses = self._pulses(TRIGGER_OUTPUT)
        return COARSE_MU * pulses[0][0] if pulses and 0 <= pulses[0][0] <= self._length else None

    def lit_ns(self, output: int) -> int:
        """How long an output is on in an attempt before the picosecond pulse."""
        end = (self.trigger_ns or 0) // COARSE_MU
        return COARSE_MU * sum(max(0, min(stop, end) - start) for start, stop in self._pulses(output))

    def _pulses(self, output: int) -> list[tuple[int, int]]:
        timing = self.registers.get(TIMING + output, 0)
        follows = not self.registers[CONFIG] & (_MASTER | _STANDALONE)
        return attempt_pulses(timing & OUTPUT_MASK, timing >> 16 & OUTPUT_MASK, self._length, follows)

    def write(self, address: int, data: int) -> None:
        """Write a register other than `RUN`. Runs are over by then, so the time does not matter."""
        self._play_deferred()
        self._windows.clear()
        rewired = address == CONFIG and data & ~_ENABLED != self.registers[CONFIG] & ~_ENABLED
        self.registers[address] = data
        if rewired:
            self._own, self._partner, self._pair = self._make_cores()
            return
        self._own.write(address, data, _LONG_AGO)
        if self._partner is not None:
            self._partner.write(address, self._partners_word(address, data), _LONG_AGO)

    def read(self, address: int, time_mu: int) -> int:
        """Data of a register that is read at `time_mu`."""
        self._play_deferred()
        return self._own.read(address, time_mu // COARSE_MU)

    def reset(self) -> None:
        """Reset of the RTIO core: all registers but the role return to 0."""
        self.registers = {CONFIG: self.registers[CONFIG] & _MASTER}
        self._windows.clear()
        self._deferred = None
        self._own, self._partner, self._pair = self._make_cores()

    def dark_runs_ahead(self, outputs: Set[str]) -> int:
        """How many runs like the last one will have no clicks, see `ClickSource`; 0 if it had some."""
        if self._deferred is None:
            return 0
        time_mu, duration, clicks, _ = self._deferred
        return 0 if clicks else self._source.dark_runs_ahead(time_mu, self._windows[duration], outputs)

    def skip_dark_runs(self, num: int) -> None:
        """Let so many of them have been. The last one that was played stands for them."""
        assert self._deferred is not None
        self._source.skip_dark_runs(self._windows[self._deferred[1]], num)

    def _bind_run(self) -> Callable[[int, int], tuple[int, int]]:
        windows, clicks_in, answer = self._windows, self._source.clicks, self._answer
        whole_cycles, reason = -COARSE_MU, TIMEOUT_REASON  # in the closure: this is the hot path of a search

        def run(time_mu: int, duration: int) -> tuple[int, int]:
            """Run for at most `duration` coarse cycles: (time of the end in machine units, reason).

            Raises RuntimeError for a core that is not `ready`: it would never answer.
            """
            try:
                window = windows[duration]
            except KeyError:
                duration = index(duration)
                window, heralds = self._measure(duration)
                if heralds:
                    return answer(time_mu, duration, window, clicks_in(time_mu, window), dark=False)
                windows[duration] = window
            clicks = clicks_in(time_mu, window)
            if clicks is not None:
                return answer(time_mu, duration, window, clicks)
            result = (time_mu & whole_cycles) + window[1], reason
            self._deferred = time_mu, duration, None, result
            return result

        return run

    def _answer(
        self, time_mu: int, duration: int, window: Window, clicks: Clicks | None, dark: bool = True
    ) -> tuple[int, int]:
        """A run with clicks, or, if it is not `dark` without, any."""
        trigger_ns = window.trigger_ns
        if clicks is None or not dark or trigger_ns is None or clicks.attempt == 0:
            # Without a reference, or before the run's first, the gates are those of an earlier run.
            self._play_deferred()
            outcome = self._play(time_mu, duration, clicks, trigger_ns)
            result, success = (COARSE_MU * outcome.end, outcome.reason), outcome.success
        else:
            end_mu = (time_mu & -COARSE_MU) + window.lasting_mu
            success, reason = self._decide(clicks, trigger_ns)
            if success:
                end_mu -= COARSE_MU * (window.num_attempts - 1 - clicks.attempt) * (self._length + OVERHEAD)
            result = end_mu, reason
            self._deferred = time_mu, duration, clicks, result
        self._source.end_run(result[0], success)
        return result

    # The model.

    @property
    def _length(self) -> int:
        return self.registers.get(CYCLE_LENGTH, 0) & CYCLE_MASK

    def _make_cores(self) -> tuple[EntanglerCore, EntanglerCore | None, LinkedCores | None]:
        """This core, its partner, and both linked, with all registers written."""
        config = self.registers[CONFIG]
        own, partner, pair = EntanglerCore(self._strobe_delay), None, None
        for address, data in self.registers.items():
            own.write(address, data, _LONG_AGO)
        if not config & _STANDALONE:
            partner = EntanglerCore(self._strobe_delay)
            for address, data in self.registers.items():
                partner.write(address, self._partners_word(address, data), _LONG_AGO)
            pair = LinkedCores(own, partner) if config & _MASTER else LinkedCores(partner, own)
        return own, partner, pair

    def _partners_word(self, address: int, data: int) -> int:
        is_master = bool(self.registers[CONFIG] & _MASTER)
        if address == CONFIG:
            return _ENABLED | _MASTER * (not is_master)
        is_gate = TIMING + NUM_DETECTORS <= address < TIMING + 2 * NUM_DETECTORS
        return _OPEN_GATE if is_gate and not is_master else data

    def _measure(self, duration: int) -> tuple[Window, bool]:
        """What a run of a duration comes to, and whether it heralds without clicks: taken from a pair of its
        own, which has played nothing."""
        if not self.ready:
            raise RuntimeError("run before set_config(enable=True) and set_cycle_length()")
        length, trigger_ns = self._length, self.trigger_ns
        word = self.registers.get(HERALDS, 0)
        patterns = tuple(word >> 4 * slot & 0xF for slot in range(NUM_SLOTS) if word >> 16 + slot & 1)
        fresh = NodeCore(self._source, self._strobe_delay)
        fresh.registers = self.registers
        fresh._own, fresh._partner, fresh._pair = fresh._make_cores()
        outcome = fresh._play(0, duration, None, trigger_ns)
        cycle_ns = COARSE_MU * (length + 1)
        lasting_mu = COARSE_MU * (outcome.end - outcome.start)
        return Window(outcome.num_attempts, lasting_mu, trigger_ns, patterns, cycle_ns), outcome.success

    def _play(self, time_mu: int, duration: int, clicks: Clicks | None, trigger_ns: int | None) -> Outcome:
        """A run of the model."""
        event, duration = time_mu // COARSE_MU, index(duration)
        own = InputEdges(trigger_ns, [AttemptEdges(clicks.attempt, clicks.own)] if clicks else ())
        if self._pair is None:
            return self._own.run(event, duration, own)
        partners = InputEdges(trigger_ns, [AttemptEdges(clicks.attempt, clicks.partner)] if clicks else ())
        if self.registers[CONFIG] & _MASTER:
            return self._pair.run(Run(event, duration, own), Run(event + PARTNER_LAG, duration, partners))[0]
        return self._pair.run(Run(event - PARTNER_LAG, duration, partners), Run(event, duration, own))[1]

    def _play_deferred(self) -> None:
        if self._deferred is None:
            return
        time_mu, duration, clicks, answered = self._deferred
        self._deferred = None
        outcome = self._play(time_mu, duration, clicks, self._windows[duration].trigger_ns)
        played = COARSE_MU * outcome.end, outcome.reason
        if played != answered:
            raise RuntimeError(f"run ended at (mu, reason) {answered}, but in the model at {played}")

    def _decide(self, clicks: Clicks, trigger_ns: int) -> tuple[bool, int]:
        """(success, reason) of a run with clicks: the master's success, this core's own reason.

        The gates are left as the run leaves them, since it may never be played.
        """
        own, length = self._own.sequencer, self._length
        decided, pattern = own.detection.hold_after_another(clicks.own, trigger_ns, length, own.follows)
        success = own.heralds(decided)
        if own.follows:
            assert self._partner is not None
            master = self._partner.sequencer
            decided, _ = master.detection.hold_after_another(clicks.partner, trigger_ns, length, False)
            success = master.heralds(decided)
        return success, own.matches(pattern) if success else TIMEOUT_REASON
