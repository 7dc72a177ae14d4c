"""Scripts for the entangler core, what they show, and our model played through them.

A script is a list of operations on one core or on two linked ones. The gateware's bench takes the same
scripts and gives the same kind of observation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from sim_devices.engines.entangler_core import DARK, RUN, EntanglerCore, InputEdges, LinkedCores, Outcome

READ = 0x20
LONGEST_REST = 160
"""Coarse cycles for which an attempt may go on after the strobe that replaces its run."""


class Operation(NamedTuple):
    """An event for core 0 or 1 in a coarse cycle, a read if bit 5 of the address is set."""

    cycle: int
    core: int
    address: int
    data: int = 0
    edges: InputEdges = DARK


@dataclass
class Observed:
    """Input events and edges of the outputs: (core, cycle, data) and (core, output, cycle, level)."""

    events: set[tuple[int, int, int]] = field(default_factory=set)
    outputs: set[tuple[int, int, int, int]] = field(default_factory=set)

    def without_replaced_runs(self, operations: Sequence[Operation], ends: set[tuple[int, int]]) -> Observed:
        """Without the outputs of runs that another one replaced, of which the model gives no account.

        `ends` are pairs (core, cycle at which a run ended). An attempt under way belongs to the replaced run.
        """
        since: dict[int, int] = {}
        for core in (0, 1):
            starts = sorted(o.cycle for o in operations if o.core == core and o.address == RUN)
            for start, following in pairwise(starts):
                if not any(start < end < following for ended, end in ends if ended == core):
                    since[core] = following + LONGEST_REST
        kept = {edge for edge in self.outputs if edge[2] > since.get(edge[0], 0)}
        return Observed(self.events, kept)


class ModelBench:
    """Our model behind the same operations."""

    def __init__(self, num_cores: int) -> None:
        self.ended: list[tuple[int, Outcome]] = []
        self.cores = [EntanglerCore(strobe_delay=0) for _ in range(num_cores)]
        if num_cores == 2:
            LinkedCores(*self.cores)

    def play(self, operations: Sequence[Operation], until: int) -> Observed:
        """What the gateware's bench observes in the same cycles."""
        events: dict[tuple[int, int], int] = {}
        outcomes: dict[int, tuple[int, Outcome]] = {}

        def advance(cycle: int) -> None:
            for index, core in enumerate(self.cores):
                outcome = core.advance(cycle)
                if outcome is not None:
                    outcomes[id(outcome)] = index, outcome

        for operation in sorted(operations, key=lambda item: (item.cycle, item.address != RUN)):
            core = self.cores[operation.core]
            if operation.address == RUN:
                advance(operation.cycle)
                core.start(operation.cycle, operation.data, operation.edges)
            elif operation.address & READ:
                events[operation.core, operation.cycle + 1] = core.read(operation.address, operation.cycle)
                advance(operation.cycle + 1)
            else:
                core.write(operation.address, operation.data, operation.cycle)
                advance(operation.cycle + 1)
        advance(until)
        observed = Observed()
        self.ended = list(outcomes.values())
        for index, outcome in self.ended:
            if outcome.end >= min((operation.cycle for operation in operations), default=0):
                if outcome.reported:
                    events[index, outcome.end] = outcome.reason
                for output in range(4):
                    for on, off in outcome.output_pulses(output).tolist():
                        observed.outputs |= {(index, output, on, 1), (index, output, off, 0)}
        observed.events = {(core, cycle, data) for (core, cycle), data in events.items()}
        return observed
