"""Timeline of a run's heralds: elapsed time, rate and pauses, from public timestamps.

The axis is the clock of the node's core device, which a restart sets back; there, and only there, the pause
that was noted by the wall clock takes the place of the difference of two timestamps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.records.sealed_record import RoundRecord

MACHINE_UNIT_S = 1e-9
"""Seconds of a machine unit where the provenance does not say: the RTIO clock of a Kasli."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A pause before `first_round`: why, from when to when in seconds of the axis, and how long it took."""

    first_round: int
    reason: str
    start_s: float
    end_s: float
    duration_s: float
    start_unix: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """(k + 1,) times in seconds, from the first herald on, and (k,) numbers of heralds between them.

    paused_s: how much of the time the gaps took.
    """

    edges_s: npt.NDArray[np.float64]
    heralds: npt.NDArray[np.int64]
    gaps: tuple[Gap, ...]
    paused_s: float

    @property
    def duration_s(self) -> float:
        """From the first herald to the last."""
        return float(self.edges_s[-1])

    @property
    def running_s(self) -> float:
        """The same without the pauses."""
        return max(0.0, self.duration_s - self.paused_s)

    @property
    def herald_rate(self) -> float:
        """Heralds per second while the run was not paused."""
        return float(self.heralds.sum()) / self.running_s if self.running_s > 0 else 0.0

    def rebinned(self, num_bins: int) -> Timeline:
        """The same heralds in `num_bins` bins of equal width.

        Needed where the bins themselves must not be published; heralds are shared out in proportion.
        """
        edges = np.linspace(0.0, self.duration_s, num_bins + 1)
        cumulative = np.concatenate(([0], np.cumsum(self.heralds)))
        at_edges = np.rint(np.interp(edges, self.edges_s, cumulative)).astype(np.int64)
        return replace(self, edges_s=edges, heralds=np.diff(at_edges))


def timeline_of(record: RoundRecord, num_bins: int = 240) -> Timeline:
    """Heralds of a record in `num_bins` equal bins, with the pauses noted in its attributes.

    The axis is `elapsed_seconds`, by the clock of the record's own node. A record without times has a
    timeline of no length and without heralds.
    """
    elapsed = elapsed_seconds(record)
    last = float(elapsed[-1]) if elapsed.size else 0.0
    edges = np.linspace(0.0, last, num_bins + 1)
    heralds = np.zeros(num_bins, dtype=np.int64)
    if last > 0:
        heralds, _ = np.histogram(elapsed, bins=edges)
    known = np.flatnonzero(record.timestamp_mu >= 0)
    gaps = tuple(_gap(noted, elapsed, known) for noted in record.attributes.get("gaps", []))
    return Timeline(
        edges_s=edges,
        heralds=heralds.astype(np.int64),
        gaps=gaps,
        paused_s=sum(gap.end_s - gap.start_s for gap in gaps),
    )


def elapsed_seconds(record: RoundRecord) -> npt.NDArray[np.float64]:
    """(n,) float64: seconds from the first herald to every herald, never decreasing.

    A lost round, which has no timestamp, has the time of the round before it.
    """
    unit = float(record.attributes.get("provenance", {}).get("ref_period", MACHINE_UNIT_S))
    stamps = record.timestamp_mu
    known = np.flatnonzero(stamps >= 0)
    steps = np.zeros(stamps.size)
    if known.size:
        steps[known[1:]] = np.diff(stamps[known]) * unit
    pauses = {int(noted["first_round"]): _duration(noted) for noted in record.attributes.get("gaps", [])}
    for position in np.flatnonzero(steps < 0):
        steps[position] = pauses.get(int(position), 0.0)
    return np.cumsum(steps)


def _duration(noted: dict[str, Any]) -> float:
    return max(0.0, float(noted["end_unix"]) - float(noted["start_unix"]))


def _gap(noted: dict[str, Any], elapsed: npt.NDArray[np.float64], known: npt.NDArray[np.int64]) -> Gap:
    """The gap on the axis: from the round before it to the first round after it that has a timestamp."""
    first = int(noted["first_round"])
    later = known[np.searchsorted(known, first) :]
    after = int(later[0]) if later.size else elapsed.size - 1
    before = max(0, min(first - 1, elapsed.size - 1))
    return Gap(
        first_round=first,
        reason=str(noted["reason"]),
        start_s=float(elapsed[before]),
        end_s=float(elapsed[after]),
        duration_s=_duration(noted),
        start_unix=float(noted["start_unix"]),
    )


def time_unit(duration_s: float) -> tuple[float, str]:
    """Unit of the time axis for a run of this length: its seconds and its name."""
    if duration_s >= 2 * 3600:
        return 3600.0, "hours"
    return (60.0, "minutes") if duration_s >= 180 else (1.0, "seconds")
