"""Detection of drifts of a run's public statistics since the last calibration.

Counts of the time since the calibration are cut into windows; the first is the reference, every later one is
compared with it. A change counts if it is both significant (six standard deviations, a chance below 1e-8 a
comparison) and large. The input is public counts only, never outcomes: to pause a key run because of S or Q
would be to choose rounds by their outcomes.
"""

import math
from dataclasses import dataclass, field

from diqkd_node.unattended.calibration_graph import HERALD_RATE, ION_LOSS_RATE, PATTERN_FRACTIONS

SIGNIFICANCE = 6.0  # standard deviations


@dataclass(frozen=True, kw_only=True)
class PublicCounts:
    """Totals at a time: heralds, heralds of each pattern, ions lost."""

    time_s: float
    heralds: int = 0
    patterns: tuple[int, ...] = ()
    ion_losses: int = 0


@dataclass(kw_only=True)
class DriftWatch:
    """Compares windows of `window_s` running seconds. Changes below `tolerance` (a fraction) do not count;
    more than `max_ion_losses` in a window do.
    """

    window_s: float = 600.0
    tolerance: float = 0.1
    max_ion_losses: int = 3
    _reference: PublicCounts | None = field(default=None, init=False)
    _current: PublicCounts = field(default_factory=lambda: PublicCounts(time_s=0.0), init=False)
    _last: PublicCounts | None = field(default=None, init=False)

    def reset(self) -> None:
        """Discard all windows: the next one is the reference."""
        self._reference = self._last = None
        self._current = PublicCounts(time_s=0.0)

    def interrupt(self) -> None:
        """The run pauses: the time until the next counts is not running time."""
        self._last = None

    def update(self, counts: PublicCounts) -> dict[str, str]:
        """Add the totals of now; returns the statistics that have drifted, each with a sentence."""
        last, self._last = self._last, counts
        if last is None or counts.heralds < last.heralds or len(counts.patterns) != len(last.patterns):
            return {}  # the first totals, or a count that began anew
        self._current = _sum(self._current, last, counts)
        if self._current.time_s < self.window_s:
            return {}
        window, self._current = self._current, PublicCounts(time_s=0.0)
        drifted = {}
        if window.ion_losses > self.max_ion_losses:
            drifted[ION_LOSS_RATE] = f"{window.ion_losses} ions lost within {window.time_s / 60:.0f} min"
        if self._reference is None:
            self._reference = window
            return drifted
        return drifted | self._changes(self._reference, window)

    def _changes(self, reference: PublicCounts, window: PublicCounts) -> dict[str, str]:
        drifted = {}
        before, now = reference.heralds / reference.time_s, window.heralds / window.time_s
        spread = math.sqrt(reference.heralds / reference.time_s**2 + window.heralds / window.time_s**2)
        if abs(now - before) > max(SIGNIFICANCE * spread, self.tolerance * before):
            drifted[HERALD_RATE] = f"herald rate went from {before:.3g} to {now:.3g} a second"
        num_before, num_now = sum(reference.patterns), sum(window.patterns)
        if num_before and num_now and len(reference.patterns) == len(window.patterns):
            for index, (count, new) in enumerate(zip(reference.patterns, window.patterns, strict=True)):
                mean = (count + new) / (num_before + num_now)
                spread = math.sqrt(mean * (1 - mean) * (1 / num_before + 1 / num_now))
                share, new_share = count / num_before, new / num_now
                if abs(new_share - share) > max(SIGNIFICANCE * spread, self.tolerance * share):
                    drifted[PATTERN_FRACTIONS] = (
                        f"share of herald pattern {index} went from {share:.1%} to {new_share:.1%}"
                    )
        return drifted


def _sum(window: PublicCounts, last: PublicCounts, now: PublicCounts) -> PublicCounts:
    """A window with what came between two totals."""
    patterns = window.patterns or (0,) * len(now.patterns)
    return PublicCounts(
        time_s=window.time_s + max(0.0, now.time_s - last.time_s),
        heralds=window.heralds + now.heralds - last.heralds,
        patterns=tuple(
            count + new - old for count, new, old in zip(patterns, now.patterns, last.patterns, strict=True)
        ),
        ion_losses=window.ion_losses + max(0, now.ion_losses - last.ion_losses),
    )
