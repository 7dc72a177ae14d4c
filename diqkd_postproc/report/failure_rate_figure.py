"""Failure rates of a campaign as a figure, with likelihood intervals and the limit of finite blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.roles import lost_test_probability
from diqkd_postproc.reconciliation.code_design.intervals import (
    MAX_LIKELIHOOD_FACTOR,
    finite_length_failure_rate,
    likelihood_interval,
)
from diqkd_postproc.reconciliation.code_design.results import Statistics
from diqkd_postproc.reconciliation.code_design.task import FrameTask
from diqkd_postproc.report.figure_style import SERIES, new_figure, save_figure

Axis = Literal["efficiency", "true-q", "true-s"]
LABELS = {
    "efficiency": r"syndrome length $f = m\,/\,nH$",
    "true-q": "QBER of the frames",
    "true-s": "CHSH score of the frames",
}


def _abscissa(task: FrameTask, against: Axis) -> float:
    if against == "efficiency":
        return task.syndrome_bits / task.limit_bits
    return task.true_qber if against == "true-q" else task.true_chsh_score


def _curve(task: FrameTask, against: Axis) -> tuple[object, ...]:
    """What the points of one curve have in common."""
    common: tuple[object, ...] = (task.ensemble.name, task.num_rounds, task.gamma, task.chsh_score, task.qber)
    if against != "true-q":
        common += (task.true_qber,)
    if against != "true-s":
        common += (task.true_chsh_score,)
    return common if against == "efficiency" else (*common, task.syndrome_bits)


def _label(task: FrameTask, against: Axis) -> str:
    parts = [task.ensemble.name, f"n = {task.num_rounds:,}"]
    if against != "efficiency":
        parts.append(f"m = {task.syndrome_bits:,}")
    if against != "true-s":
        parts.append(f"S = {task.true_chsh_score:g}")
    if against != "true-q":
        parts.append(f"Q = {task.true_qber:g}")
    return ", ".join(parts)


def plot_failure_rates(
    statistics: Sequence[Statistics], path: Path | str, against: Axis = "efficiency"
) -> None:
    """Write the figure; points without a failure show as intervals that reach down to the frame.

    Raises ParameterError if there is nothing to show; formats and other errors as `save_figure`.
    """
    present = [entry for entry in statistics if entry.frames]
    if not present:
        raise ParameterError("the results have no frames; collect some with `diqkd codes evaluate`")
    num_curves = len({repr(_curve(entry.task, against)) for entry in present})
    with new_figure(7.5, 5.0 + 0.1 * num_curves) as figure:
        _draw(figure, present, against)
        save_figure(figure, path)


def _draw(figure: Figure, present: Sequence[Statistics], against: Axis) -> None:
    axes = figure.subplots()
    floor = 0.1 / max(entry.frames for entry in present)

    def name(entry: Statistics) -> tuple[int, str]:
        return entry.task.num_rounds, repr(_curve(entry.task, against))

    for number, (_, group) in enumerate(groupby(sorted(present, key=name), key=name)):
        points = sorted(group, key=lambda entry: _abscissa(entry.task, against))
        colour = SERIES[number % len(SERIES)]
        x = np.array([_abscissa(entry.task, against) for entry in points])
        rates = np.array([entry.wrong_frames / entry.frames for entry in points])
        bounds = np.array([likelihood_interval(entry.wrong_frames, entry.frames) for entry in points])
        axes.vlines(x, np.maximum(bounds[:, 0], floor), bounds[:, 1], color=colour, lw=3, alpha=0.35)
        failed = rates > 0
        label = _label(points[0].task, against)
        if failed.any():
            axes.plot(x[failed], rates[failed], "o-", color=colour, label=label, ms=4)
        axes.plot(x[~failed], bounds[~failed, 1], "v", color=colour, label=None if failed.any() else label)
        _plot_limit(axes, points, against, colour, floor)
    axes.set_yscale("log")
    axes.set_ylim(floor, 1.2)
    axes.set_xlabel(LABELS[against])
    axes.set_ylabel("frame failure rate")
    axes.grid(which="both")
    figure.legend(fontsize="small", loc="outside lower center", ncols=2)
    total = sum(entry.frames for entry in present)
    versions = ", ".join(sorted({entry.version for entry in present}))
    processors = ", ".join(sorted({name for entry in present for name in entry.processors}))
    axes.set_title(
        f"{total:,} frames, diqkd {versions}, {processors}; bars: likelihood at least "
        f"1/{MAX_LIKELIHOOD_FACTOR:.0f} of the best;\ntriangles: no failure; dashed: normal approximation of "
        "the finite-length limit",
        fontsize="small",
        loc="left",
    )


def _plot_limit(axes: Axes, points: Sequence[Statistics], against: Axis, colour: str, floor: float) -> None:
    """What the best code could do on the frames' own channel."""
    x = np.array([_abscissa(entry.task, against) for entry in points])
    low, high = float(x.min()), float(x.max())
    if against == "efficiency":
        low = min(low, 1.0)
    grid = np.linspace(low, high, 200)
    task = points[0].task
    rates = []
    for value in grid:
        qber = value if against == "true-q" else task.true_qber
        score = value if against == "true-s" else task.true_chsh_score
        length = value * task.limit_bits if against == "efficiency" else task.syndrome_bits
        channel = (float(task.gamma), float(qber), lost_test_probability(float(score)))
        rates.append(finite_length_failure_rate(task.num_rounds, *channel, float(length)))
    shown = np.array(rates) >= floor
    axes.plot(grid[shown], np.array(rates)[shown], "--", color=colour, lw=1)
