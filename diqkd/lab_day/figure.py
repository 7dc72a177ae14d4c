"""The picture of a lab day, after Fig. 3: S and Q against time, the gaps and their causes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from diqkd_postproc.report.figure_style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    RED,
    new_figure,
    save_figure,
)

# Reason of a gap (beginning of its text) -> colour and name. What is not listed is a pause.
GAPS = (
    ("674", RED, "laser not locked"),
    ("ion", PURPLE, "ion lost"),
    ("", ORANGE, "calibration"),
)
CALIBRATIONS_SHOWN = 12
LONG_GAP = 4.0  # steps of the windows, over which no line is drawn


def draw(day: dict[str, Any], path: Path, other: dict[str, Any] | None = None) -> Path:
    """Write the picture of a day; `other` is the day whose S is drawn next to it, such as one without
    calibrations."""
    with new_figure(11.0, 8.2) as figure:
        _draw(figure, day, other)
        save_figure(figure, path)
    return path


def _draw(figure: Figure, day: dict[str, Any], other: dict[str, Any] | None) -> None:
    calibrated = any(entry["event"] == "calibrated" for entry in day["decisions"])
    ratios = (3.2, 1.6, 1.4, 1.8) if calibrated else (3.2, 1.6, 1.4)
    panels = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios)
    _scores(panels[0], day, other)
    _errors(panels[1], day)
    _rate(panels[2], day)
    if calibrated:
        _events(panels[3], day)
    hours = day["times_s"][-1] / 3600
    for axes in panels:
        _shade(axes, day["gaps"], hours)
    panels[-1].set_xlim(0, hours)
    panels[-1].set_xlabel("time in the laboratory, hours")
    summary = day["summary"]
    figure.suptitle(
        f"{summary['num_rounds']:,} rounds in {hours:.1f} h without an operator: {summary['num_pauses']} "
        f"pauses, {summary['num_calibrations']} calibrations",
        fontsize=12,
    )


def _scores(axes: Axes, day: dict[str, Any], other: dict[str, Any] | None) -> None:
    if other is not None:
        times, values = _truth(other)
        axes.plot(times, values, color=RED, linewidth=1.5, label="S without recalibration (truth)")
    windows = day["windows"]
    middle, measured, low, high = _windows(day, "chsh_score", "chsh_low", "chsh_high")
    axes.fill_between(middle, low, high, color=BLUE, alpha=0.2, linewidth=0)
    label = f"S in windows of {windows['rounds']:,} rounds, 95 %"
    axes.plot(middle, measured, color=BLUE, linewidth=1.5, label=label)
    times, values = _truth(day)
    axes.plot(times, values, color=INK, linewidth=1.2, label="S of the link as it is (truth)")
    axes.axhline(2 * np.sqrt(2), color=MUTED, linestyle=":", linewidth=1)
    axes.axhline(2.0, color=MUTED, linestyle="--", linewidth=1)
    axes.text(0.002, 2.0, "2: local", transform=axes.get_yaxis_transform(), va="bottom", color=MUTED, size=8)
    lowest = min(value for value in values if value is not None and np.isfinite(value))
    axes.set_ylim(1.2 if other is not None else min(1.9, lowest - 0.1), 2.92)
    axes.set_ylabel("CHSH score S")
    axes.legend(loc="lower left", fontsize=9)


def _windows(day: dict[str, Any], *names: str) -> list[Any]:
    """Times (hours) and curves of the windows, interrupted where time passed without rounds."""
    middle = np.array(day["windows"]["middle_s"]) / 3600
    steps = np.diff(middle)
    breaks = np.flatnonzero(steps > LONG_GAP * np.median(steps)) + 1 if steps.size else []
    curves = (middle, *(np.array(day["windows"][name], dtype=float) for name in names))
    return [np.insert(curve, breaks, np.nan) for curve in curves]


def _truth(day: dict[str, Any]) -> tuple[Any, Any]:
    times = np.array(day["truth"]["times_s"]) / 3600
    return times, np.array([np.nan if value is None else value for value in day["truth"]["chsh"]])


def _errors(axes: Axes, day: dict[str, Any]) -> None:
    middle, measured, low, high = _windows(day, "qber", "qber_low", "qber_high")
    axes.fill_between(middle, 100 * low, 100 * high, color=GREEN, alpha=0.2, linewidth=0)
    axes.plot(middle, 100 * measured, color=GREEN, linewidth=1.5)
    axes.set_ylabel("Q, %")
    axes.set_ylim(0, max(3.0, 110 * float(np.nanmax(high))))


def _rate(axes: Axes, day: dict[str, Any]) -> None:
    times, rounds = np.array(day["times_s"]) / 3600, np.array(day["rounds"])
    edges = np.linspace(0.0, times[-1], 97)
    done = np.interp(edges, times, rounds)
    per_minute = np.diff(done) / (60 * np.diff(edges))
    axes.stairs(per_minute / 1000, edges, color=INK, fill=True, alpha=0.25)
    axes.stairs(per_minute / 1000, edges, color=INK, linewidth=1)
    axes.set_ylabel("10³ rounds\na minute")
    axes.set_ylim(0, None)
    gaps = [Patch(color=colour, alpha=0.35, label=name) for _, colour, name in GAPS]
    axes.legend(handles=gaps, loc="lower right", ncols=len(gaps), fontsize=8, framealpha=0.9)


def _events(axes: Axes, day: dict[str, Any]) -> None:
    done = [entry for entry in day["decisions"] if entry["event"] == "calibrated"]
    names = sorted({entry["calibration"] for entry in done})[:CALIBRATIONS_SHOWN]
    marks = {"alice": ("|", BLUE, -0.12), "bob": ("|", GREEN, 0.12)}
    for row, name in enumerate(names):
        for role, (marker, colour, shift) in marks.items():
            times = [
                entry["time_s"] / 3600
                for entry in done
                if entry["calibration"] == name and entry["role"] == role
            ]
            label = role.capitalize() if row == 0 else None
            axes.plot(times, np.full(len(times), row + shift), marker, color=colour, ms=7, label=label)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    if names:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)


def _shade(axes: Axes, gaps: list[dict[str, Any]], hours: float) -> None:
    for gap in gaps:
        colour = next(colour for begin, colour, _ in GAPS if gap["reason"].startswith(begin))
        start = gap["start_s"] / 3600
        end = max(gap["end_s"] / 3600, start + hours / 600)
        axes.axvspan(start, end, color=colour, alpha=0.25, linewidth=0)
