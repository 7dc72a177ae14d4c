"""Figures of calibrations, drawn from the description that a result holds (see `description`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from diqkd_node.calibration.result import CalibrationResult

COLOURS = ("#1f5fa8", "#d0722a", "#3d8f5f", "#8a4f9e")
INK, MUTED = "#1d2430", "#6b7480"


def draw(result: CalibrationResult) -> Figure:
    """The figure of a result."""
    description = result.finding.figure
    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for index, series in enumerate(description["series"]):
        _draw_series(axes, series, COLOURS[index % len(COLOURS)], description)
    for index, curve in enumerate(description["curves"]):
        axes.plot(
            curve["x"],
            curve["y"],
            color=COLOURS[index % len(COLOURS)],
            linewidth=1.8,
            label=curve.get("label") or None,
            alpha=0.9,
        )
    for mark in description.get("marks", ()):
        axes.axvline(mark["x"], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), zorder=0)
        axes.annotate(
            mark["label"],
            (mark["x"], 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(4, -4),
            textcoords="offset points",
            va="top",
            color=MUTED,
            fontsize=8.5,
        )
    if description.get("log_y"):
        axes.set_yscale("log")
    if "x_range" in description:
        axes.set_xlim(*description["x_range"])
    if "y_range" in description:
        axes.set_ylim(*description["y_range"])
    axes.set_xlabel(description["x_label"])
    axes.set_ylabel(description["y_label"])
    axes.grid(color="#e4e7eb", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(axes.get_legend_handles_labels()[0]) > 1:
        axes.legend(frameon=False, fontsize=9)
    _title(figure, result)
    return figure


def save(result: CalibrationResult, path: Path) -> None:
    """Write the figure; the suffix decides the format (.png, .svg, .pdf)."""
    draw(result).savefig(path)


def _draw_series(axes: Any, series: dict[str, Any], colour: str, description: dict[str, Any]) -> None:
    x, y = np.asarray(series["x"]), np.asarray(series["y"])
    label = series.get("label") or None
    if description.get("bars"):
        axes.step(x, y, where="mid", color=colour, linewidth=1.0, label=label)
        axes.fill_between(x, y, step="mid", color=colour, alpha=0.22, linewidth=0)
        return
    low, high = np.asarray(series["low"]), np.asarray(series["high"])
    if description.get("band"):
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(x, y, "o", color="white", markeredgecolor=colour, markersize=5, label=label)
        return
    axes.vlines(x, low, high, color=colour, linewidth=1.1, alpha=0.65)
    axes.plot(x, y, "o", color=colour, markersize=4.2, label=label)


def _title(figure: Figure, result: CalibrationResult) -> None:
    title = f"{result.title[:1].upper()}{result.title[1:]}: {result.role.capitalize()}"
    found = "   ".join(
        f"{name.replace('_', ' ')} = {quantity}"
        for name, quantity in list(result.finding.quantities.items())[:2]
    )
    goodness = result.finding.goodness_of_fit
    figure.suptitle(title, x=0.02, ha="left", fontsize=11.5, fontweight="bold", color=INK)
    axes = figure.axes[0]
    axes.set_title(
        f"{found}\n{result.time[:16].replace('T', ' ')} UTC   deviance {goodness.deviance:.1f} for "
        f"{goodness.degrees_of_freedom} degrees of freedom, p = {goodness.p_value:.2g}",
        loc="left",
        fontsize=8.5,
        color=MUTED,
    )
