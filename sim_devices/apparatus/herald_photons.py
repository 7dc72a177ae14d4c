"""Photons of a heralding pair: when they reach the detectors, and what the slave's crate makes of them.

The tape says in which attempt two detectors click, and which; its success probability is that of a gate which
takes in the first `SPAN_NS` of the photons. The crates sample the edges by clocks of their own, so that the
slave may see another label than the master: a click beyond its gate, or one of another detector within.
"""

import math
from random import Random
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sim_devices.engines.entangler_core import Clicks
from sim_devices.physics.node_parameters import Nature

SPAN_NS = 36  # from the first photons to the end of the published gate
BEYOND_NS = 100  # by which a click that the slave does not see comes late
_NUM_DETECTORS = 4

Number = TypeVar("Number", int, NDArray[np.int64])


def labelled(pattern: Number, seen: Number) -> Number:
    """Number for the tape: detectors that click, and those that the slave sees, 0 for the same."""
    return pattern | seen << _NUM_DETECTORS


def pattern_of(label: Number) -> Number:
    """Detectors that click."""
    return label & (1 << _NUM_DETECTORS) - 1


class HeraldPhotons:
    """Draws the clicks of a herald."""

    def __init__(self, nature: Nature) -> None:
        self._delay_ns = 1e9 * nature.photon_delay
        self._lifetime_ns = 1e9 * nature.photon_lifetime
        self._within_span = 1 - math.exp(-SPAN_NS / self._lifetime_ns) if self._lifetime_ns else 0.0
        self._random = Random()

    def seed(self, seed: int) -> None:
        """Make the draws repeatable."""
        self._random.seed(seed)

    def clicks(self, attempt: int, trigger_ns: int, cycle_ns: int, label: int) -> Clicks:
        """Clicks of an attempt whose picosecond pulse is switched at `trigger_ns`, as far as they come before
        `cycle_ns`."""
        pattern = pattern_of(label)
        seen = label >> _NUM_DETECTORS or pattern
        station, own = [], []
        for detector in range(_NUM_DETECTORS):
            if not (pattern | seen) >> detector & 1:
                continue
            wait_ns = -self._lifetime_ns * math.log1p(-self._within_span * self._random.random())
            time_ns = trigger_ns + int(self._delay_ns + wait_ns)
            if pattern >> detector & 1 and time_ns < cycle_ns:
                station.append((time_ns, detector))
            if not seen >> detector & 1:
                time_ns += BEYOND_NS
            if time_ns < cycle_ns:
                own.append((time_ns, detector))
        return Clicks(attempt, own, station)
