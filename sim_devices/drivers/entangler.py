"""Entangler gateware core (`entangler.driver.Entangler`).

Registers, runs and what they come to are those of the gateware's model (`engines.entangler_core`); here is
the timing of the driver.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from operator import index
from typing import Any

from sim_devices.engines.entangler_core import (
    CONFIG,
    COUNTER_PATTERNS,
    COUNTS,
    CYCLE_LENGTH,
    HERALDS,
    NUM_CYCLES,
    NUM_TRIGGERS,
    STATUS,
    TIME_REMAINING,
    TIMESTAMPS,
    TIMING,
    NodeCore,
    counter_patterns_word,
    heralds_word,
    timing_word,
)

sequencer_422sigma = TIMING
sequencer_1092 = sequencer_422sigma + 1
sequencer_422ps_trigger = sequencer_422sigma + 2
sequencer_aux = sequencer_422sigma + 3
gate_apd0 = sequencer_422sigma + 4
gate_apd1 = sequencer_422sigma + 5
gate_apd2 = sequencer_422sigma + 6
gate_apd3 = sequencer_422sigma + 7
timestamp_apd0 = TIMESTAMPS
timestamp_apd1 = timestamp_apd0 + 1
timestamp_apd2 = timestamp_apd0 + 2
timestamp_apd3 = timestamp_apd0 + 3
timestamp_422ps = timestamp_apd0 + 4


class Entangler:
    """Sequences the attempts of one node; the master's core sets the pace of both.

    :ivar gateware: the model of the core
    """

    def __init__(
        self,
        dmgr: Any,
        channel: int,
        is_master: bool = True,
        core_device: str = "core",
        *,
        key: str = "entangler",
    ) -> None:
        self.core = dmgr.get(core_device)
        self.channel = channel
        self.is_master = is_master
        self.key = key
        self.ref_period_mu = round(self.core.coarse_ref_period / self.core.ref_period)
        source = dmgr.get("apparatus").entangler_source(key)
        self.gateware = NodeCore(source)
        source.attach(self.gateware)
        self.core.timeline.reset_hooks.append(self.gateware.reset)
        self._bind_run()

    def init(self) -> None:
        """Write the role of this node; advances the cursor by a coarse cycle."""
        self.set_config()

    def _write(self, address: int, data: int) -> None:
        timeline = self.core.timeline
        cost = timeline.model.output_mu
        if timeline.now < timeline.cpu + cost:
            timeline.late(self.key, cost, self._write, address, data)
        else:
            timeline.cpu += cost
            self.gateware.write(address, data)
        timeline.now += self.ref_period_mu

    def _read(self, address: int) -> int:
        timeline = self.core.timeline
        now, cost = timeline.now, timeline.model.output_mu
        if now < timeline.cpu + cost:
            timeline.late(self.key, cost, self._read, address)
            raise RuntimeError(f"{self.key}: a read cannot be part of a DMA trace")
        data = self.gateware.read(address, now)
        timeline.wait_until(max(now + timeline.model.input_mu, timeline.cpu + cost))
        return data

    def set_config(self, enable: bool = False, standalone: bool = False) -> None:
        """Let the core drive its outputs, with or without a partner; advances by a coarse cycle."""
        self._write(CONFIG, bool(enable) | bool(self.is_master) << 1 | bool(standalone) << 2)

    def set_timing_mu(self, channel: int, t_start_mu: int, t_stop_mu: int) -> None:
        """Times of an output within the cycle, or of a gate relative to the 422 nm pulse."""
        self._write(index(channel), timing_word(channel, index(t_start_mu), index(t_stop_mu)))

    def set_timing(self, channel: int, t_start: float, t_stop: float) -> None:
        """`set_timing_mu` in seconds."""
        to_mu = self.core.seconds_to_mu
        self.set_timing_mu(channel, to_mu(t_start), to_mu(t_stop))

    def set_cycle_length_mu(self, t_cycle_mu: int) -> None:
        """Length of an attempt less four coarse cycles, in whole coarse cycles."""
        self._write(CYCLE_LENGTH, index(t_cycle_mu) >> 3)

    def set_cycle_length(self, t_cycle: float) -> None:
        """`set_cycle_length_mu` in seconds."""
        self.set_cycle_length_mu(self.core.seconds_to_mu(t_cycle))

    def set_heralds(self, heralds: Sequence[int]) -> None:
        """The click patterns that end a run, at most four, APD 0 in the least significant bit."""
        self._write(HERALDS, heralds_word([index(pattern) for pattern in heralds]))

    def set_counter_patterns(self, idx: int, patterns: Sequence[int]) -> None:
        """One to four patterns that a pattern counter counts."""
        word = counter_patterns_word([index(pattern) for pattern in patterns])
        self._write(COUNTER_PATTERNS + _counter(idx), word)

    def _bind_run(self) -> None:
        timeline, key, run = self.core.timeline, self.key, self.gateware.run
        cost, latency = timeline.model.output_mu, timeline.model.input_mu
        step = self.ref_period_mu
        note = timeline.noted(key)

        def run_mu(duration_mu: int) -> tuple[int, int]:
            """Attempt until a herald, or for `duration_mu`; blocks.

            Advances the cursor by a coarse cycle only, and consumes all slack. Returns (end time of the last
            cycle, bit field of the matching patterns, or 0x3fff after a timeout).
            """
            start = timeline.now
            if start < timeline.cpu + cost:
                timeline.late(key, cost, run_mu, duration_mu)
                raise RuntimeError(f"{key}: a run cannot be part of a DMA trace")
            if note:
                note(start)
            timeline.now = start + step
            result = run(start, duration_mu >> 3)
            known = result[0] + latency
            if timeline.cpu < known:
                timeline.cpu = known
            return result

        self.run_mu = run_mu

    def dark_runs_ahead(self, outputs: Set[str]) -> int:
        """How many more runs like the last one end without clicks, when only `outputs` are pulsed in between
        (for the host engine, see `engines.host.repetition`)."""
        return self.gateware.dark_runs_ahead(outputs)

    def skip_dark_runs(self, num: int) -> None:
        """Let so many of them have been."""
        self.gateware.skip_dark_runs(num)

    def run(self, duration: float) -> tuple[int, int]:
        """`run_mu` in seconds."""
        return self.run_mu(self.core.seconds_to_mu(duration))

    # All of these consume all slack and leave the cursor.

    def get_status(self) -> int:
        """Status register: 1 ready for a partner, 2 success, 4 out of time, OR-ed."""
        return self._read(STATUS)

    def get_ncycles(self) -> int:
        """Cycles completed since the last run was started, 14 bits."""
        return self._read(NUM_CYCLES)

    def get_ntriggers(self) -> int:
        """422 nm pulses received since the last run was started, 14 bits."""
        return self._read(NUM_TRIGGERS)

    def get_time_remaining(self) -> int:
        """Coarse cycles to the time-out of the last run, 14 bits; counts on after its end."""
        return self._read(TIME_REMAINING)

    def get_timestamp_mu(self, channel: int) -> int:
        """Time of an input's last edge in its gate, from the start of the cycle."""
        return self._read(channel)

    def get_input_count(self, idx: int) -> int:
        """Clicks of a detector in its gate since the last run was started."""
        return self._read(COUNTS + _counter(idx))

    def get_pattern_count(self, idx: int) -> int:
        """Attempts with a pattern of a pattern counter since the last run was started."""
        return self._read(COUNTS + 4 + _counter(idx))


def _counter(idx: int) -> int:
    if not 0 <= idx < 4:
        raise ValueError(f"counter {idx}; there are counters 0 to 3")
    return index(idx)
