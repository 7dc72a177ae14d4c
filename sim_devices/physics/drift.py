"""Drifts of a running laboratory: the 674 nm laser, light power, the phases of the heralded states.

Everything is a function of laboratory time alone, so that nodes and station agree on it without talking. A
drift has a linear part and a wander, a sum of slow sines with random phases. Parameters are constant within
an epoch of `STEP_S`, which keeps the number of different pulses small.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Self

import numpy as np

from diqkd_postproc.protocol.roles import HERALD_PATTERNS, ROLES

STEP_S = 60.0
_PERIODS_S = (2400.0, 5200.0, 9100.0, 17000.0)  # of a wander, incommensurate
_SOURCES = ("laser", *ROLES, "all patterns", *(f"pattern {pattern:04b}" for pattern in HERALD_PATTERNS))


class DriftState(NamedTuple):
    """Parameters at a time: offset of the 674 nm light (Hz), Rabi frequency over the nominal one by role,
    offset of the Bell phase (rad) by pattern, in the order of `HERALD_PATTERNS`.
    """

    frequency_offset: float
    rabi_scale: dict[str, float]
    phase_offsets: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How a laboratory drifts. Rates are an hour's, wanders are amplitudes.

    `outages` are (start, duration) in s of laboratory time at which the 674 nm laser is not locked; after
    each it comes back at an offset drawn with standard deviation `relock_hz`. A new ion takes `loading_s`.
    `time_scale`: every round of a key run stands for so many of the laboratory, one after the other; those
    of a scan, whose rounds are all tests, stand for themselves.
    """

    seed: int = 0
    time_scale: float = 1.0
    laser_hz: float = 0.0
    laser_wander_hz: float = 0.0
    relock_hz: float = 0.0
    power: float = 0.0  # fraction, of the Rabi frequency
    power_wander: float = 0.0
    phase: float = 0.0  # rad, of all patterns
    phase_wander: float = 0.0  # rad, of all patterns, and a third of it of each
    outages: tuple[tuple[float, float], ...] = ()
    loading_s: float = 0.0

    def __post_init__(self) -> None:
        if not 1.0 <= self.time_scale <= 1e5:
            raise ValueError(f"time scale {self.time_scale} is outside 1 to 100000")
        if abs(self.power_wander) >= 0.5 or self.loading_s < 0:
            raise ValueError("power_wander must be below 0.5 and loading_s not negative")
        end = 0.0
        for start, duration in self.outages:
            if start < end or duration <= 0:
                raise ValueError(f"outage {(start, duration)} begins before the one before it has ended")
            end = start + duration

    @property
    def still(self) -> bool:
        """True if nothing ever changes."""
        moving = (self.laser_hz, self.laser_wander_hz, self.power, self.power_wander, self.phase)
        return not any(moving) and not self.phase_wander and not (self.relock_hz and self.outages)

    def epoch(self, time_s: float) -> int:
        """Number of the interval in which all parameters are constant."""
        return 0 if self.still else int(time_s // STEP_S)

    def locked(self, time_s: float) -> bool:
        """Whether the 674 nm laser is locked."""
        return not any(start <= time_s < start + duration for start, duration in self.outages)

    def state(self, time_s: float) -> DriftState:
        """Parameters at a time, those of its epoch."""
        return _state(self, self.epoch(time_s))

    def to_json(self) -> str:
        """As JSON, for the wire."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError, TypeError for what is no drift."""
        values: dict[str, Any] = json.loads(text)
        values["outages"] = tuple((float(start), float(duration)) for start, duration in values["outages"])
        return cls(**values)


@lru_cache(maxsize=64)
def _state(drift: Drift, epoch: int) -> DriftState:
    time_s = epoch * STEP_S
    hours = time_s / 3600.0
    jumps = np.random.default_rng([drift.seed, 99]).normal(0.0, 1.0, len(drift.outages))
    jumped = sum(
        float(jump) * drift.relock_hz
        for jump, (start, duration) in zip(jumps, drift.outages, strict=True)
        if time_s >= start + duration
    )
    common = drift.phase * hours + drift.phase_wander * _wander(drift.seed, "all patterns", time_s)
    return DriftState(
        drift.laser_hz * hours + drift.laser_wander_hz * _wander(drift.seed, "laser", time_s) + jumped,
        {
            role: 1.0 + drift.power * hours + drift.power_wander * _wander(drift.seed, role, time_s)
            for role in ROLES
        },
        tuple(
            common + drift.phase_wander / 3 * _wander(drift.seed, f"pattern {pattern:04b}", time_s)
            for pattern in HERALD_PATTERNS
        ),
    )


def _wander(seed: int, source: str, time_s: float) -> float:
    """A slow signal of amplitude about 1 that is 0 at time 0."""
    phases = np.random.default_rng([seed, _SOURCES.index(source)]).uniform(0, 2 * math.pi, len(_PERIODS_S))
    return sum(
        math.sin(2 * math.pi * time_s / period + phase) - math.sin(phase)
        for period, phase in zip(_PERIODS_S, phases, strict=True)
    ) / len(_PERIODS_S)
