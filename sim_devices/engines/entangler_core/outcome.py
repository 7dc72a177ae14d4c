"""Outcome of one run of the entangler core, and the output pulses that were played in it.

Pulses follow from the attempts and the timing registers, so they are worked out when somebody asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim_devices.engines.entangler_core.registers import CYCLE_MASK


class Attempts(NamedTuple):
    """Attempts at equal distances: start of the first and period in coarse cycles, and their number."""

    start: int
    period: int
    num: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of one core; times in coarse cycles.

    `start` is the cycle of the run event, `end` the timestamp of the input event that closes the run.
    `reported` is False if the core was not enabled: then it gave no event. `reason` is the event's data,
    the bits of the matching slots or `TIMEOUT_REASON`. `attempts` are those of the run, in blocks of equal
    distances.
    """

    start: int
    end: int
    success: bool
    reason: int
    reported: bool
    attempts: tuple[Attempts, ...]
    output_timing: tuple[tuple[int, int], ...]
    cycle_length: int
    follows: bool

    @property
    def num_attempts(self) -> int:
        """Attempts of the run, the last one included; not truncated to 14 bits."""
        return sum(block.num for block in self.attempts)

    def attempt_starts(self) -> NDArray[np.int64]:
        """Starts of all attempts: (num_attempts,) int64, coarse cycles."""
        blocks = [block.start + block.period * np.arange(block.num) for block in self.attempts]
        return np.concatenate([np.empty(0, np.int64), *blocks]).astype(np.int64)

    def output_pulses(self, output: int) -> NDArray[np.int64]:
        """Pulses of sequencer output 0 to 3: (n, 2) int64, coarse cycles at which it goes on and off.

        The timing registers are those at the end of the run. The output reaches its pad only if `reported`.
        """
        start, stop = self.output_timing[output]
        pulses = attempt_pulses(start, stop, self.cycle_length, self.follows)
        offsets = np.array(pulses, np.int64).reshape(-1, 2)
        return (self.attempt_starts()[:, None, None] + offsets).reshape(-1, 2)


def attempt_pulses(start: int, stop: int, cycle_length: int, follows: bool) -> list[tuple[int, int]]:
    """Pulses of an output relative to the start of the attempt (`ChannelSequencer` in entangler/core.py).

    The output changes in the cycle after the one in which the counter matches; where both times match, the
    start wins. What is still on in the idle cycle after the attempt goes off behind it.
    """
    counter = [(cycle, cycle) for cycle in range(cycle_length + 1)]
    if follows:
        last = cycle_length + 1 & CYCLE_MASK
        counter += [(cycle_length + 1, last), (cycle_length + 2, last)]
    else:
        counter = [(-2, 0), (-1, 0), *counter]
    pulses: list[tuple[int, int]] = []
    on: int | None = None
    for cycle, value in counter:
        if value == start:
            on = cycle + 1 if on is None else on
        elif value == stop and on is not None:
            pulses.append((on, cycle + 1))
            on = None
    if on is not None:
        pulses.append((on, counter[-1][0] + 2))
    return pulses
