"""Figures of calibrations, drawn from the description that a result holds (see `figure_description`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diqkd_node.calibration.result import CalibrationResult
from diqkd_postproc.report.figure_style import INK, MUTED, SERIES, SURFACE, new_figure, save_figure


def save(result: CalibrationResult, path: Path) -> None:
    """Write the figure of a result; formats and errors as `save_figure`."""
    with new_figure(7.2, 4.4) as figure:
        _draw(figure, result)
        save_figure(figure, path)


def _draw(figure: Figure, result: CalibrationResult) -> None:
    description = result.finding.figure
    axes = figure.add_subplot()
    for index, series in enumerate(description["series"]):
        _draw_series(axes, series, SERIES[index % len(SERIES)], description)
    for index, curve in enumerate(description["curves"]):
        axes.plot(
            curve["x"],
            curve["y"],
            color=SERIES[index % len(SERIES)],
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
    if len(axes.get_legend_handles_labels()[0]) > 1:
        axes.legend(fontsize=9)
    _title(figure, result)


def _draw_series(axes: Axes, series: dict[str, Any], colour: str, description: dict[str, Any]) -> None:
    x, y = np.asarray(series["x"]), np.asarray(series["y"])
    label = series.get("label") or None
    if description.get("bars"):
        axes.step(x, y, where="mid", color=colour, linewidth=1.0, label=label)
        axes.fill_between(x, y, step="mid", color=colour, alpha=0.22, linewidth=0)
        return
    low, high = np.asarray(series["low"]), np.asarray(series["high"])
    if description.get("band"):
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(x, y, "o", color=SURFACE, markeredgecolor=colour, markersize=5, label=label)
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
