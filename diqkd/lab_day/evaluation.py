"""Evaluation of a simulated lab day: its timeline, S and Q in windows, and the simulation's true S.

Both records are read together, and the drifts, which nobody in a real laboratory could. Times are seconds of
the laboratory since its start.
"""

from __future__ import annotations

import json
import time
from calendar import timegm
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diqkd_node.configuration import NodeConfiguration
from diqkd_node.unattended.decision_log import read_decisions
from diqkd_postproc.link.characterisation import check_shared
from diqkd_postproc.link.statistics import chsh_score, moving_windows, qber
from diqkd_postproc.protocol.roles import ROLES
from diqkd_postproc.records.sealed_record import RoundRecord
from sim_devices.physics.drift import STEP_S, Drift
from sim_devices.physics.expected_scores import true_chsh_and_qber

NUM_WINDOWS = 24  # a window is so small a part of the rounds


def evaluate(directory: Path, drift: Drift, samples: list[tuple[float, int]]) -> dict[str, Any]:
    """Everything about a day that is over, JSON-compatible.

    :param samples: (unix time, rounds done) now and then, from Alice's public facts
    """
    records = {role: RoundRecord.read(directory / role / "record.h5") for role in ROLES}
    alice, bob = records["alice"], records["bob"]
    check_shared(alice, bob)
    start = float(alice.attributes["provenance"]["start_unix"])
    decisions = sorted(
        (entry for role in ROLES for entry in read_decisions(directory / role)),
        key=lambda entry: entry["unix"],
    )
    start = min([start, *(entry["unix"] for entry in decisions)])
    gaps = [
        {
            "reason": gap["reason"],
            "first_round": int(gap["first_round"]),
            "start_s": gap["start_unix"] - start,
            "end_s": max(gap["end_unix"], gap["start_unix"]) - start,
        }
        for gap in alice.attributes.get("gaps", [])
    ]
    times, rounds = _progress(samples, gaps, start, alice.outcome.size)
    day_s = float(times[-1])
    windows = _windows(alice, bob, times, rounds)
    truth = _truth(directory, drift, start, day_s, gaps)
    running_s = day_s - sum(gap["end_s"] - gap["start_s"] for gap in gaps) - times[0]
    true_scores = [value for value in truth["chsh"] if value is not None]
    away = sum(min(begin + lasts, day_s) - min(begin, day_s) for begin, lasts in drift.outages)
    score, errors = (
        function(alice.setting, bob.setting, alice.outcome, bob.outcome) for function in (chsh_score, qber)
    )
    return {
        "summary": {
            "num_rounds": int(alice.outcome.size),
            "hours": day_s / 3600,
            "running_share": running_s / day_s,
            "num_pauses": len({entry["reason"] for entry in decisions if entry["event"] == "resume"}),
            "num_calibrations": sum(entry["event"] == "calibrated" for entry in decisions),
            "num_failed_calibrations": sum(entry["event"] == "failed" for entry in decisions),
            "num_ion_losses": sum("ion" in gap["reason"] for gap in gaps),
            "laser_away_minutes": away / 60,
            "chsh_score": score.value,
            "chsh_error": score.standard_error,
            "qber": errors.value,
            "lowest_true_chsh": min(true_scores),
            "last_true_chsh": true_scores[-1],
            "lost_rounds": int(max(record.lost.sum() for record in records.values())),
        },
        "times_s": times.tolist(),
        "rounds": rounds.tolist(),
        "gaps": gaps,
        "windows": windows,
        "truth": truth,
        "outages": [list(outage) for outage in drift.outages],
        "decisions": [entry | {"time_s": entry["unix"] - start} for entry in decisions],
    }


def _progress(
    samples: list[tuple[float, int]], gaps: list[dict[str, Any]], start: float, num_rounds: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Times (k,) and rounds done (k,), both rising: the samples, and both ends of every gap."""
    points = [(unix - start, done) for unix, done in samples if done > 0]
    for gap in gaps:
        points += [(gap["start_s"], gap["first_round"]), (gap["end_s"], gap["first_round"])]
    times, rounds = np.array(sorted(points), dtype=float).T
    rounds = np.maximum.accumulate(rounds).astype(np.int64)
    if rounds[-1] < num_rounds:
        times, rounds = np.append(times, times[-1]), np.append(rounds, num_rounds)
    return times, rounds


def _windows(
    alice: RoundRecord, bob: RoundRecord, times: NDArray[np.float64], rounds: NDArray[np.int64]
) -> dict[str, Any]:
    size = max(1, alice.outcome.size // NUM_WINDOWS)
    moving = moving_windows(
        alice.setting, bob.setting, alice.outcome, bob.outcome, window=size, step=max(1, size // 8)
    )
    middle = moving.first_round + size // 2
    # Rounds come at an even rate between two points; a pause is a step in time at a round.
    distinct, last = np.unique(rounds, return_index=True)
    return {
        "rounds": size,
        "middle_s": np.interp(middle, distinct, times[last]).tolist(),
        **{
            name: getattr(moving, name).tolist()
            for name in ("chsh_score", "chsh_low", "chsh_high", "qber", "qber_low", "qber_high")
        },
    }


def _truth(
    directory: Path, drift: Drift, start: float, day_s: float, gaps: list[dict[str, Any]]
) -> dict[str, Any]:
    """S every few minutes for the configurations in use; None in a pause."""
    configurations = {role: _configurations(directory / role, role, start) for role in ROLES}
    step = max(STEP_S, day_s / 200)
    times = np.arange(0.0, day_s, step).tolist()
    scores: list[float | None] = []
    for time_s in times:
        used = [_in_use(configurations[role], time_s) for role in ROLES]
        paused = any(gap["start_s"] <= time_s < gap["end_s"] for gap in gaps)
        if paused or None in used:
            scores.append(None)
        else:
            scores.append(true_chsh_and_qber(used[0], used[1], drift.state(time_s))[0])
    return {"times_s": times, "chsh": scores}


def _configurations(directory: Path, role: str, start: float) -> list[tuple[float, NodeConfiguration]]:
    """What the key run has kept of every configuration it ran with, by the time in the file's name."""
    found = []
    for path in directory.glob("node_configuration_*.json"):
        stamp = path.stem.removeprefix("node_configuration_")[:15]
        since = timegm(time.strptime(stamp, "%Y%m%dT%H%M%S")) - start
        found.append((since, path.stem, NodeConfiguration.from_json(path.read_text(encoding="utf-8"), role)))
    return [(since, configuration) for since, _, configuration in sorted(found, key=lambda item: item[:2])]


def _in_use(configurations: list[tuple[float, NodeConfiguration]], time_s: float) -> Any:
    used = None
    for since, configuration in configurations:
        if since <= time_s + 1.0:
            used = configuration
    return used


def load(directory: Path) -> dict[str, Any]:
    """The evaluation that `diqkd lab-day` has left in a directory."""
    day: dict[str, Any] = json.loads((directory / "day.json").read_text(encoding="utf-8"))
    return day
