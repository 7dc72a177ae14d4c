"""Entangler gateware core (`entangler.driver.Entangler`).

The sequencer repeats attempt cycles until a herald pattern matches or the time is over. Which cycle heralds
is the apparatus' business; here are the registers and the timing of the driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

TIMEOUT_REASON = 0x3FFF

sequencer_422sigma = 0b001000
sequencer_1092 = sequencer_422sigma + 1
sequencer_422ps_trigger = sequencer_422sigma + 2
sequencer_aux = sequencer_422sigma + 3
gate_apd0 = sequencer_422sigma + 4
gate_apd1 = sequencer_422sigma + 5
gate_apd2 = sequencer_422sigma + 6
gate_apd3 = sequencer_422sigma + 7
timestamp_apd0 = 0b101000
timestamp_422ps = timestamp_apd0 + 4


class Entangler:
    """Sequences the attempts of one node; the master's core sets the pace of both."""

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
        self.enable = False
        self.standalone = False
        self.timing_mu: dict[int, tuple[int, int]] = {}
        self._cycle_mu = 0
        self._patterns: tuple[int, ...] = ()
        self._duration_mu = 0
        self._run_time_mu = 0
        self._source = dmgr.get("apparatus").entangler_source(key)
        self._bind_run()

    def init(self) -> None:
        """Write the role of this node; advances the cursor by a coarse cycle."""
        self.set_config()

    def _write(self) -> None:
        timeline = self.core.timeline
        cost = timeline.model.output_mu
        if timeline.now < timeline.cpu + cost:
            timeline.late(self.key, cost, self._no_operation)
        else:
            timeline.cpu += cost
        timeline.now += self.ref_period_mu

    def _no_operation(self) -> None:
        """Replays a register write in a DMA trace: registers were set when it was recorded."""

    def set_config(self, enable: bool = False, standalone: bool = False) -> None:
        """Let the core drive its outputs, with or without a partner; advances by a coarse cycle."""
        self._write()
        self.enable = bool(enable)
        self.standalone = bool(standalone)
        self._bind_run()

    def set_timing_mu(self, channel: int, t_start_mu: int, t_stop_mu: int) -> None:
        """Times of an output within the cycle, or of a gate relative to the 422 nm pulse."""
        self._write()
        self.timing_mu[int(channel)] = (int(t_start_mu), int(t_stop_mu))

    def set_timing(self, channel: int, t_start: float, t_stop: float) -> None:
        """`set_timing_mu` in seconds."""
        to_mu = self.core.seconds_to_mu
        self.set_timing_mu(channel, to_mu(t_start), to_mu(t_stop))

    def set_cycle_length_mu(self, t_cycle_mu: int) -> None:
        """Length of an attempt, in whole coarse cycles."""
        self._write()
        self._cycle_mu = int(t_cycle_mu) >> 3 << 3
        self._bind_run()

    def set_cycle_length(self, t_cycle: float) -> None:
        """`set_cycle_length_mu` in seconds."""
        self.set_cycle_length_mu(self.core.seconds_to_mu(t_cycle))

    def set_heralds(self, heralds: Sequence[int]) -> None:
        """The click patterns that end a run, at most four, APD 0 in the least significant bit."""
        if len(heralds) > 4:
            raise ValueError(f"at most 4 herald patterns can be set, not {len(heralds)}")
        self._write()
        self._patterns = tuple(int(pattern) & 0xF for pattern in heralds)
        self._bind_run()

    def _bind_run(self) -> None:
        timeline, key, source = self.core.timeline, self.key, self._source
        cost, latency = timeline.model.output_mu, timeline.model.input_mu
        step = self.ref_period_mu
        cycle, patterns = self._cycle_mu, self._patterns
        note = timeline.noted(key)
        ready = self.enable and cycle > 0 and bool(patterns)

        def run_mu(duration_mu: int) -> tuple[int, int]:
            """Attempt until a herald, or for `duration_mu`; blocks.

            Advances the cursor by a coarse cycle only, and consumes all slack. Returns (end time of the last
            cycle, bit field of the matching patterns, or 0x3fff after a timeout).
            """
            start = timeline.now
            if not ready:
                raise RuntimeError(
                    f"{key}: run before set_config(enable=True), set_cycle_length() and set_heralds()"
                )
            if start < timeline.cpu + cost:
                timeline.late(key, cost, run_mu, duration_mu)
                raise RuntimeError(f"{key}: a run cannot be part of a DMA trace")
            if note:
                note(start)
            duration = index(duration_mu) & -8
            timeline.now = start + step
            result = source(start, cycle, duration, patterns)
            end = result[0]
            self._run_time_mu = end - start
            self._duration_mu = duration
            if timeline.cpu < end + latency:
                timeline.cpu = end + latency
            return result

        self.run_mu = run_mu

    def run(self, duration: float) -> tuple[int, int]:
        """`run_mu` in seconds."""
        return self.run_mu(self.core.seconds_to_mu(duration))

    def get_ncycles(self) -> int:
        """Cycles completed since the last run was started; consumes all slack."""
        self._read()
        return self._run_time_mu // self._cycle_mu if self._cycle_mu else 0

    def get_ntriggers(self) -> int:
        """422 nm pulses received since the last run was started; consumes all slack."""
        return self.get_ncycles()

    def get_time_remaining(self) -> int:
        """Coarse cycles that were left when the last run ended; consumes all slack."""
        self._read()
        return max(self._duration_mu - self._run_time_mu, 0) >> 3

    def get_status(self) -> int:
        """Status register: 0, since a run is never under way when the kernel can ask."""
        self._read()
        return 0

    def _read(self) -> None:
        timeline = self.core.timeline
        now = timeline.now
        self._write()
        timeline.wait_until(now + timeline.model.input_mu)
