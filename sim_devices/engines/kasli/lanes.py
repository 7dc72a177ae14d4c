"""Lanes in which the core device queues output events (artiq/gateware/rtio/sed/lane_distributor.py).

There are eight. Within one, coarse times increase strictly. An event that is not later than the event written
before it goes into the next lane, and only there: if that lane ends at its time or after it, the event is
dropped with a sequence error, which hardware merely logs. A single event far in the future is enough for
that, some time after it, when the lanes have gone round.

Latencies of channels, which shift coarse times by a few cycles, and full lanes are left out.
"""

from __future__ import annotations

NUM_LANES = 8
COARSE_BITS = 3  # of a machine unit, 1 ns, in a cycle of 8 ns


class Lanes:
    """The last coarse time in each lane, and the lane of the last event."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """All lanes empty, as after `core.reset()`."""
        self._ends = [-1] * NUM_LANES
        self._lane = 0

    def take(self, time: int) -> bool:
        """Queue an event at `time`, mu; False if it is dropped."""
        coarse = time >> COARSE_BITS
        ends, lane = self._ends, self._lane
        if coarse <= ends[lane]:
            lane = (lane + 1) % NUM_LANES
            if coarse <= ends[lane]:
                return False
            self._lane = lane
        ends[lane] = coarse
        return True
