"""Content of the view of a run, from its public facts: progress, rate, lamps and pauses.

Facts arrive as they change; a run leaves no history in the datasets, so the view keeps the facts since it was
opened. `RunView` knows nothing of Qt and draws nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

MAX_POINTS = 4000  # of the rate's history; beyond it every second one goes
STALE_S = 15.0
CLOCK_STEP_S = 3600.0  # facts further from this PC's time follow another clock, as a simulation's
RUNNING_STATES = ("running", "ready", "finished")


class Lamp(Enum):
    """Colour of a state."""

    GOOD = "good"
    WAITING = "waiting"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Status:
    """A line of the view: label, state, lamp."""

    label: str
    text: str
    lamp: Lamp


@dataclass
class Pause:
    """A time without rounds; `end_s` is None while it lasts."""

    reason: str
    start_s: float
    end_s: float | None = None


@dataclass
class RunView:
    """Facts go in by `update`; the other methods give the content of the view."""

    facts: dict[str, Any] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)

    def update(self, facts: Mapping[str, Any]) -> None:
        """Take the present facts (names without prefix). Repeated facts change nothing."""
        earlier = self.facts.get("last_update_unix")
        self.facts = dict(facts)
        now = facts.get("last_update_unix")
        if now is None or now == earlier:
            return
        state = str(facts.get("node_state", ""))
        running = state in RUNNING_STATES
        self.times.append(float(now))
        self.rates.append(float(facts.get("herald_rate", 0.0)) if running else 0.0)
        if len(self.times) > MAX_POINTS:
            del self.times[1:-1:2], self.rates[1:-1:2]
        last = self.pauses[-1] if self.pauses else None
        if last is not None and last.end_s is None and (running or last.reason != state):
            last.end_s = float(now)
        if not running and (last is None or last.end_s is not None):
            self.pauses.append(Pause(state or "paused", float(now)))

    @property
    def fraction(self) -> float:
        """Part of the rounds that is done."""
        total = self.facts.get("num_rounds", 0)
        return min(1.0, self.facts.get("rounds_done", 0) / total) if total else 0.0

    @property
    def progress(self) -> str:
        """Rounds done of all, and the time left."""
        total, done = self.facts.get("num_rounds"), self.facts.get("rounds_done")
        if total is None or done is None:
            return "no run yet"
        text = f"{done:,} of {total:,} rounds, {self.fraction:.1%}"
        left = self.seconds_left
        if done >= total:
            return f"{text}, complete"
        return text if left is None else f"{text}, {duration(left)} left"

    @property
    def seconds_left(self) -> float | None:
        """At the mean rate since this view was opened, pauses included; None before there is one."""
        if not self.times or self.times[-1] <= self.times[0]:
            return None
        rate = self._rounds_seen() / (self.times[-1] - self.times[0])
        left = self.facts["num_rounds"] - self.facts["rounds_done"]
        return left / rate if rate > 0 else None

    def _rounds_seen(self) -> float:
        """Heralds since the first update, from the rates."""
        steps = zip(self.times[:-1], self.times[1:], self.rates[1:], strict=True)
        return sum((after - before) * rate for before, after, rate in steps)

    def statuses(self, now_s: float | None = None) -> tuple[Status, ...]:
        """Lamps: node, laser, ion, herald rate, balance of the patterns."""
        if "node_state" not in self.facts:
            return (Status("node", "no run yet", Lamp.UNKNOWN),)
        now_s = time.time() if now_s is None else now_s
        facts = self.facts
        state = str(facts["node_state"])
        age = now_s - facts.get("last_update_unix", now_s)
        if STALE_S < age < CLOCK_STEP_S and state != "finished":
            node = Status("node", f"silent for {duration(age)}", Lamp.BAD)
        else:
            node = Status("node", state, Lamp.GOOD if state in RUNNING_STATES else Lamp.WAITING)
        locked = facts.get("laser_lock") == "locked"
        present = facts.get("ion_state") == "present"
        losses = facts.get("ion_losses", 0)
        lost = f", lost {losses} time{'s' * (losses != 1)}" if losses else ""
        return (
            node,
            Status("674 nm laser", "locked" if locked else "not locked", Lamp.GOOD if locked else Lamp.BAD),
            Status(
                "ion", ("present" if present else "absent") + lost, Lamp.GOOD if present else Lamp.WAITING
            ),
            Status("heralds", f"{facts.get('herald_rate', 0.0):,.1f} a second", Lamp.UNKNOWN),
            Status("patterns", self.pattern_shares, Lamp.UNKNOWN),
        )

    @property
    def pattern_shares(self) -> str:
        """Share of each herald pattern since the start."""
        counts = [int(count) for count in self.facts.get("herald_patterns", ())]
        total = sum(counts)
        return " / ".join(f"{100 * count / total:.1f}" for count in counts) + " %" if total else "none yet"

    @property
    def last_pause(self) -> str:
        """The present pause, or the last one."""
        if not self.pauses:
            return "no pause seen"
        pause = self.pauses[-1]
        if pause.end_s is None:
            return f"paused: {pause.reason}, for {duration(self.times[-1] - pause.start_s)}"
        return f"last pause: {pause.reason}, {duration(pause.end_s - pause.start_s)}"

    def history(self) -> tuple[list[float], list[float]]:
        """Minutes before the last update, and the herald rate (1/s) then."""
        last = self.times[-1] if self.times else 0.0
        return [(moment - last) / 60 for moment in self.times], list(self.rates)

    def pause_spans(self) -> list[tuple[float, float]]:
        """Pauses on the axis of `history`."""
        if not self.times:
            return []
        first, last = self.times[0], self.times[-1]
        return [
            ((max(pause.start_s, first) - last) / 60, ((pause.end_s or last) - last) / 60)
            for pause in self.pauses
            if (pause.end_s or last) >= first
        ]


def duration(seconds: float) -> str:
    """A duration in words, two units at most."""
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
