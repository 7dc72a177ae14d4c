"""Test bench of the entangler core's gateware: the modules of entangler-core, played through scripts.

Edges are placed where the gateware itself starts its attempts, so that nothing of our model decides what it
sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from entangler.phy import Entangler
from migen import Module, Signal, run_simulation

from sim_devices.engines.entangler_core import DARK, RUN, AttemptEdges, InputEdges
from tests.support.compiled_gateware import CompiledGateware
from tests.support.entangler_operations import Observed, Operation

CLOCKS = {"sys": 8, "rio": 8, "rio_phy": 8}
NUM_LINES = 5


class _InputPhy(Module):
    def __init__(self) -> None:
        self.fine_ts = Signal(3)
        self.stb_rising = Signal()


class CoresUnderTest(Module):
    """One or two cores of the gateware; two are linked as their pads link them on a pair of Kaslis."""

    def __init__(self, num_cores: int) -> None:
        self.phys = [[_InputPhy() for _ in range(NUM_LINES)] for _ in range(num_cores)]
        self.cores = [Entangler(None, None, None, phys, simulate=True) for phys in self.phys]
        self.submodules += self.cores
        if num_cores == 2:
            machines = [core.core.msm for core in self.cores]
            for own, other in (machines, machines[::-1]):
                self.comb += [
                    own.slave_ready_raw.eq(other.ready & ~other.is_master & ~other.standalone),
                    own.trigger_in_raw.eq(other.trigger_out & other.is_master),
                    own.success_in_raw.eq(other.success & other.is_master),
                    own.timeout_in_raw.eq(other.timeout & other.is_master),
                ]

    def inputs(self) -> list[Any]:
        """Register events of each core, then its five input lines: 13 signals a core."""
        signals: list[Any] = []
        for core, phys in zip(self.cores, self.phys, strict=True):
            signals += [core.rtlink.o.stb, core.rtlink.o.address, core.rtlink.o.data]
            for phy in phys:
                signals += [phy.stb_rising, phy.fine_ts]
        return signals

    def outputs(self) -> list[Any]:
        """Input events, sequencer outputs and registers of each core."""
        signals: list[Any] = []
        for core in self.cores:
            machine = core.core.msm
            signals += [core.rtlink.i.stb, core.rtlink.i.data]
            signals += [sequencer.output for sequencer in core.core.sequencers]
            signals += [machine.m, machine.time_remaining, machine.cycles_completed, machine.running]
            signals += [machine.ready, machine.success, machine.timeout, core.core.triggers_received]
            signals += [gate.sig_ts for gate in core.core.apd_gaters]
            signals += [counter.counter for counter in core.core.counters]
        return signals


@dataclass
class _Light:
    """Edges of one core's run in the gateware, attempt by attempt."""

    edges: InputEdges = DARK
    num_attempts: int = 0
    pending: dict[int, dict[int, int]] = field(default_factory=dict)

    def start(self, edges: InputEdges) -> None:
        self.edges = edges
        self.num_attempts = 0

    def place_attempt(self, start: int) -> None:
        references = () if self.edges.reference_ns is None else (self.edges.reference_ns,)
        clicks: Sequence[tuple[int, int]] = ()
        for attempt in self.edges.attempts:
            assert isinstance(attempt, AttemptEdges)
            if attempt.attempt == self.num_attempts:
                clicks = attempt.clicks
                references = references if attempt.references is None else tuple(attempt.references)
        self.num_attempts += 1
        for time, line in [*clicks, *((time, NUM_LINES - 1) for time in references)]:
            lines = self.pending.setdefault(start + (time >> 3), {})
            lines[line] = min(time & 7, lines.get(line, 7))


class GatewareBench:
    """One compiled instance of the gateware; scripts follow each other on its one clock."""

    def __init__(self, num_cores: int) -> None:
        self.modules = CoresUnderTest(num_cores)
        machines = [core.core.msm for core in self.modules.cores]
        self.gateware = CompiledGateware(self.modules, CLOCKS)
        slot = self.gateware.slot
        self._inputs = [slot(signal) for signal in self.modules.inputs()]
        self._outputs = [slot(signal) for signal in self.modules.outputs()]
        sequences = [machine._submodules[0][1] for machine in machines]
        self._states = [slot(sequence.state) for sequence in sequences]
        self._next_states = [slot(sequence.next_state) for sequence in sequences]
        self._idle = sequences[0].encoding["IDLE"]
        self._roles = [(slot(machine.is_master), slot(machine.standalone)) for machine in machines]
        self._lights = [_Light() for _ in machines]
        self._levels = [[0] * 4 for _ in machines]
        self.cycle = 0
        self.recording: list[tuple[list[int], list[int]]] | None = None
        self.gateware.tick()

    def play(self, operations: Sequence[Operation], until: int) -> Observed:
        """Play the cycles from `cycle` to before `until`."""
        observed = Observed()
        schedule: dict[int, list[Operation]] = {}
        for operation in operations:
            schedule.setdefault(operation.cycle, []).append(operation)
        while self.cycle < until:
            self._play_cycle(schedule.pop(self.cycle, []), observed)
            self.cycle += 1
        assert not schedule
        return observed

    def _play_cycle(self, operations: Sequence[Operation], observed: Observed) -> None:
        values = self.gateware.values
        for index in self._inputs:
            values[index] = 0
        for operation in operations:
            first = operation.core * 13
            event = (1, operation.address, operation.data)
            for index, value in zip(self._inputs[first : first + 3], event, strict=True):
                values[index] = value
            if operation.address == RUN:
                self._lights[operation.core].start(operation.edges)
        self.gateware.settle(values)
        placed = False
        for core, light in enumerate(self._lights):
            if values[self._states[core]] == self._idle != values[self._next_states[core]]:
                leads = any(values[index] for index in self._roles[core])
                light.place_attempt(self.cycle + (3 if leads else 1))
            for line, fine in light.pending.pop(self.cycle, {}).items():
                index = 13 * core + 3 + 2 * line
                values[self._inputs[index]] = 1
                values[self._inputs[index + 1]] = fine
                placed = True
        if placed:
            self.gateware.settle(values)
        self._observe(values, observed)
        if self.recording is not None:
            inputs = [values[index] for index in self._inputs]
            self.recording.append((inputs, [values[index] for index in self._outputs]))
        self.gateware.tick()

    def _observe(self, values: list[int], observed: Observed) -> None:
        width = len(self._outputs) // len(self._lights)
        for core, levels in enumerate(self._levels):
            slots = self._outputs[core * width : core * width + 6]
            strobe, data, *outputs = (values[index] for index in slots)
            if strobe:
                observed.events.add((core, self.cycle, data))
            for output, level in enumerate(outputs):
                if level != levels[output]:
                    observed.outputs.add((core, output, self.cycle, level))
                    levels[output] = level

    def replay_in_migen(self) -> int:
        """Play the recorded inputs through migen's own simulator; returns in how many cycles they differ."""
        assert self.recording is not None
        modules = CoresUnderTest(len(self._lights))
        inputs, outputs = modules.inputs(), modules.outputs()
        seen: list[list[int]] = []

        def stimulus(recording: list[tuple[list[int], list[int]]]) -> Any:
            last: list[int] = [0] * len(inputs)
            for values, _ in recording:
                for signal, value, old in zip(inputs, values, last, strict=True):
                    if value != old:
                        yield signal.eq(value)
                last = values
                yield
                seen.append((yield outputs))

        run_simulation(modules, stimulus(self.recording), clocks=CLOCKS)
        expected = [values for _, values in self.recording]
        return sum(mine != theirs for mine, theirs in zip(expected, seen, strict=True))
