"""A node's apparatus in which things go wrong at a chosen step of a chosen round.

A fault is a mapping: `kind` ("ion_loss", "lock_loss", "kill" or "missed_herald"), `round`, the index of the
round on the laboratory's tape, and but for "missed_herald" `step`, one of STEPS, for "kill" one of KILLED_AT.
It happens once, in that round, or in the next that has the step. "loading" means that the next ion is lost as
well while it is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from campaigns.faults.injection import KILL, Trace
from sim_devices.apparatus import wire
from sim_devices.apparatus.node_apparatus import STROBES, NodeApparatus, Sink
from sim_devices.engines.entangler_core import Clicks, ClickSource, NodeCore, Window

# Where a node can be killed within a round: at steps of its sequence, and before and after an edge.
KILLED_AT = {
    "alice": (
        *("mapping", "isolation", "token", "after token", "await round_type"),
        *("analysis", "readout", "scrambling"),
    ),
    "bob": (
        *("mapping", "isolation", "await token", "round_type", "after round_type"),
        *("analysis", "readout", "scrambling"),
    ),
}
KILLED_AT_LATE = {
    "alice": (*KILLED_AT["alice"], "setting", "after setting"),
    "bob": (*KILLED_AT["bob"], "await setting"),
}
STEPS = ("loading", "cooling", "attempts", "mapping", "isolation", "analysis", "readout", "scrambling")
LOCK_LOSS_MU = 50_000_000
BEFORE_HERALD = ("loading", "cooling", "attempts")
LOCK_LOSS_S = 0.5  # of wall clock


class FaultyApparatus(NodeApparatus):
    """`NodeApparatus` with faults; notes every herald in the trace."""

    def __init__(
        self, device_mgr: Any, role: str, laboratory: str, faults: Sequence[Mapping[str, Any]], trace: Trace
    ) -> None:
        super().__init__(device_mgr, role, laboratory)
        self._faults = [dict(fault) for fault in faults]
        self._trace = trace
        self._round = -1  # of the last herald
        self._num_pulses = 0  # of the 674 nm laser since the herald
        self._scrambled = False
        self._lose_next_ion = False

    def _at(self, step: str, time_mu: int) -> None:
        """The node is at a step; faults planned for it happen now."""
        reached = self._round + (step in BEFORE_HERALD)
        for fault in [fault for fault in self._faults if fault.get("step") == step]:
            if reached >= fault["round"]:
                self._faults.remove(fault)
                self._happen(fault["kind"], step, time_mu)
        if step == "cooling":
            for fault in [fault for fault in self._faults if fault.get("step") == "loading"]:
                if reached >= fault["round"]:
                    self._faults.remove(fault)
                    self._lose_next_ion = True
                    self._happen(fault["kind"], "loading", time_mu)

    def _happen(self, kind: str, step: str, time_mu: int) -> None:
        self._trace.note(fault=kind, step=step, round=self._round)
        if kind == "kill":
            os.kill(os.getpid(), KILL)
        elif kind == "ion_loss":
            self.ion.lost = True
        else:
            self.laser.lock.lose(time_mu, LOCK_LOSS_MU, LOCK_LOSS_S)

    def reload_ion(self) -> None:
        if self._lose_next_ion:
            self._lose_next_ion = False
            self._trace.note(fault="ion_loss", step="loading", round=self._round)
            return
        super().reload_ion()

    def level_sink(self, key: str) -> Sink:
        sink = super().level_sink(key)
        if key in STROBES:
            return self._watched_strobe(key, sink)
        watch = {
            "ttl_422_cool": self._watch_cooling,
            "ttl_674": self._watch_674,
            "ttl_1033": self._watch_deshelving,
        }.get(key)
        if watch is None:
            return sink

        def watched(time_mu: int, value: int) -> None:
            watch(time_mu, value)
            sink(time_mu, value)

        return watched

    def _watched_strobe(self, key: str, sink: Sink) -> Sink:
        line = key.removeprefix("ttl_").removesuffix("_strobe")
        number = STROBES.index(key)

        def watched(time_mu: int, value: int) -> None:
            if value and self.round.open:
                self._at(line, time_mu)
                self._trace.note(edge=line, bit=self.lines._levels[number])
            sink(time_mu, value)
            if value and self.round.open:
                self._at(f"after {line}", time_mu)

        return watched

    def first_edge_source(self, key: str) -> Callable[[int, int], int]:
        source = super().first_edge_source(key)
        if key not in STROBES:
            return source
        step = f"await {key.removeprefix('ttl_').removesuffix('_strobe')}"

        def watched(open_mu: int, close_mu: int) -> int:
            if self.round.open:
                self._at(step, open_mu)
            return source(open_mu, close_mu)

        return watched

    def dac_sink(self, key: str) -> Sink:
        sink = super().dac_sink(key)

        def watched(time_mu: int, channel: int, volts: float) -> None:
            if self.round.open and not self.round.measured:
                self._at("isolation", time_mu)
            sink(time_mu, channel, volts)

        return watched

    def _watch_cooling(self, time_mu: int, value: int) -> None:
        if not value:
            return
        if self.round.open and not self.round.measured:
            self._at("readout", time_mu)
        elif self._scrambled:
            self._scrambled = False
            self._at("cooling", time_mu)

    def _watch_674(self, time_mu: int, value: int) -> None:
        if value and self.round.open and not self.round.measured:
            self._num_pulses += 1
            self._at("mapping" if self._num_pulses == 1 else "analysis", time_mu)
            if self._num_pulses == 2:
                self._trace.note(edge="pulse")

    def _watch_deshelving(self, time_mu: int, value: int) -> None:
        if value:
            self._at("scrambling", time_mu)
        else:
            self._scrambled = True

    def entangler_source(self, key: str) -> ClickSource:
        return _WatchedClicks(super().entangler_source(key), self)

    def _misses_herald(self) -> bool:
        """Whether the node is to miss the herald of the entry at hand."""
        entry: Any = self.round.entry
        for fault in [fault for fault in self._faults if fault["kind"] == "missed_herald"]:
            if entry[wire.INDEX] >= fault["round"]:
                self._faults.remove(fault)
                self._trace.note(fault="missed_herald", round=entry[wire.INDEX])
                return True
        return False

    def _note_herald(self) -> None:
        """A round has begun."""
        self._round = self.rounds.index
        self._num_pulses = 0
        self._trace.note(herald=self._round)


class _WatchedClicks:
    """Clicks of the attempts, with the steps and heralds that faults are planned for."""

    def __init__(self, source: ClickSource, node: FaultyApparatus) -> None:
        self._source, self._node = source, node

    def attach(self, core: NodeCore) -> None:
        """The core that plays the attempts."""
        self._source.attach(core)

    def clicks(self, start_mu: int, window: Window) -> Clicks | None:
        self._node._at("attempts", start_mu)
        clicks = self._source.clicks(start_mu, window)
        if clicks is None or not self._node._misses_herald():
            return clicks
        self._node.round.begin(start_mu)
        self._node.round.close()
        return None

    def dark_runs_ahead(self, start_mu: int, window: Window, outputs: Set[str]) -> int:
        return 0  # a fault may be planned for any of them

    def skip_dark_runs(self, window: Window, num: int) -> None:
        """There are none."""

    def end_run(self, end_mu: int, success: bool) -> None:
        self._source.end_run(end_mu, success)
        if success and self._node.round.open:
            self._node._note_herald()
