"""Density matrices of all herald patterns (SI Fig. S3) and their fidelities, as one picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from diqkd_postproc.link.tomography import TomographyResult
from diqkd_postproc.report.figure_style import BLUE, INK, MUTED, new_figure, save_figure

BASIS = ("00", "01", "10", "11")
SMALLEST_LABEL = 0.1  # magnitude below which no phase is written


def draw_tomography(result: TomographyResult, path: Path, provenance: Mapping[str, Any]) -> None:
    """Write the picture; see `save_figure` for formats and errors.

    Above, one density matrix a pattern: the area of a square is the magnitude of an element, its colour the
    phase. Below, the fidelities.
    """
    names = list(result.by_pattern)
    columns = max(len(names), 2)
    with new_figure(2.65 * columns, 5.4) as figure:
        grid = figure.add_gridspec(2, 1, height_ratios=(1.25, 1))
        above, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
        panels = np.atleast_1d(above.subplots(1, columns))
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        for name, axes in zip(names, panels, strict=False):
            pattern = result.by_pattern[name]
            _density_matrix(axes, pattern.state.rho)
            phase = f"{pattern.phase.value:+.3f} ± {pattern.phase.standard_error:.3f} rad"
            axes.set_title(f"{name}\n$\\varphi$ = {phase}")
        _fidelities(below.subplots(), result)
        save_figure(figure, path, provenance)


def _density_matrix(axes: Axes, rho: npt.NDArray[np.complex128]) -> None:
    """Squares whose area is the magnitude of an element and whose colour is its phase; the largest
    off-diagonal elements have their phase written below."""
    wheel = colormaps["twilight_shifted"]
    for row in range(4):
        for column in range(4):
            value = rho[row, column]
            side = float(np.sqrt(min(2 * abs(value), 1.0)))  # full at 1/2
            colour = wheel((np.angle(value) / (2 * np.pi)) % 1.0) if row != column else BLUE
            axes.add_patch(
                Rectangle((column - side / 2, row - side / 2), side, side, facecolor=colour, linewidth=0)
            )
            if abs(value) >= SMALLEST_LABEL:
                text = f"{abs(value):.3f}"
                if row != column:
                    text += f"\n{np.angle(value):+.2f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color="white")
    axes.set_xlim(-0.55, 3.55)
    axes.set_ylim(3.55, -0.55)
    axes.set_aspect("equal")
    axes.set_xticks(range(4), [f"⟨{label}|" for label in BASIS])
    axes.set_yticks(range(4), [f"|{label}⟩" for label in BASIS])
    axes.tick_params(length=0)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.6)


def _fidelities(axes: Axes, result: TomographyResult) -> None:
    names = list(result.by_pattern)
    positions = range(len(names))
    values = np.array([100 * p.fidelity.value for p in result.by_pattern.values()])
    low = np.array([100 * p.fidelity.interval.low for p in result.by_pattern.values()])
    high = np.array([100 * p.fidelity.interval.high for p in result.by_pattern.values()])
    mean = result.mean_fidelity
    axes.axhspan(100 * mean.interval.low, 100 * mean.interval.high, color=MUTED, alpha=0.15, linewidth=0)
    axes.axhline(100 * mean.value, color=MUTED, linewidth=1, linestyle="--")
    below, above = np.maximum(values - low, 0), np.maximum(high - values, 0)
    axes.errorbar(positions, values, (below, above), fmt="o", color=BLUE, capsize=4, markersize=6)
    for position, pattern in zip(positions, result.by_pattern.values(), strict=True):
        axes.annotate(
            f"{100 * pattern.fidelity.value:.2f} ± {100 * pattern.fidelity.standard_error:.2f} %\n"
            f"{pattern.state.num_counts:,} heralds",
            (position, 100 * pattern.fidelity.value),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=INK,
        )
    axes.set_xlim(-0.5, len(names) - 0.2)
    axes.set_xticks(positions, names)
    axes.set_xlabel("detectors that clicked")
    axes.set_ylabel("fidelity, %")
    axes.set_title(
        f"Fidelity to the closest maximally entangled state; mean {100 * mean.value:.2f} ± "
        f"{100 * mean.standard_error:.2f} %. Bars and band: 95 % of {result.num_resamples} bootstrap samples",
        loc="left",
    )
