"""A node's apparatus in which things go wrong at a chosen step of a chosen round.

A fault is a mapping: `kind` ("ion_loss", "lock_loss" or "missed_herald"), `round`, the index of the round on
the laboratory's tape, and for the first two `step`, one of STEPS. It happens once, in that round, or in the
next that has the step. "loading" means that the next ion is lost as well while it is loaded. Since Bob's
process is ahead of Alice's, the laboratory has to know of a loss of hers in advance: see `laboratory_fault`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from campaigns.faults.injection import Trace
from sim_devices.apparatus import wire
from sim_devices.apparatus.attempts import ENTANGLER_TIMEOUT
from sim_devices.apparatus.node_apparatus import NodeApparatus, Sink

STEPS = ("loading", "cooling", "attempts", "mapping", "isolation", "analysis", "readout", "scrambling")
LOCK_LOSS_MU = 50_000_000
BEFORE_HERALD = ("loading", "cooling", "attempts")
LOCK_LOSS_S = 0.5  # of wall clock


def laboratory_fault(fault: Mapping[str, Any]) -> str:
    """The option of the laboratory that keeps Bob from heralds while Alice has no ion."""
    return f"--fault={fault['round'] + (fault['step'] not in BEFORE_HERALD)}:alice_ion_loss"


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
        if kind == "ion_loss":
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

    def _watch_deshelving(self, time_mu: int, value: int) -> None:
        if value:
            self._at("scrambling", time_mu)
        else:
            self._scrambled = True

    def entangler_source(self, key: str) -> Callable[[int, int, int, Any], tuple[int, int]]:
        attempt = super().entangler_source(key)

        def watched(start_mu: int, cycle_mu: int, duration_mu: int, patterns: Any) -> tuple[int, int]:
            self._at("attempts", start_mu)
            result = attempt(start_mu, cycle_mu, duration_mu, patterns)
            if result[1] == ENTANGLER_TIMEOUT or not self._misses_herald():
                return result
            self.round.close()
            return start_mu + duration_mu, ENTANGLER_TIMEOUT

        return watched

    def _misses_herald(self) -> bool:
        """Note the herald of the round that has begun; True if the node is to miss it."""
        entry: Any = self.round.entry
        self._round = entry[wire.INDEX]
        self._num_pulses = 0
        for fault in [fault for fault in self._faults if fault["kind"] == "missed_herald"]:
            if self._round >= fault["round"]:
                self._faults.remove(fault)
                self._trace.note(fault="missed_herald", round=self._round)
                return True
        self._trace.note(herald=self._round)
        return False
