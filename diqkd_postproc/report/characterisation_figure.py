"""Fig. 3 of the paper for any run: S and Q in moving windows and the time, against the Bell pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from diqkd_postproc.link.characterisation import Characterisation
from diqkd_postproc.link.timeline import time_unit
from diqkd_postproc.report.figure_style import BLUE, GREEN, INK, MUTED, ORANGE, new_figure, save_figure

MAX_TIME_POINTS = 4000


def draw_characterisation(result: Characterisation, path: Path, provenance: Mapping[str, Any]) -> None:
    """Write the picture; see `save_figure` for formats and errors.

    Bands are the 95 % intervals of each moving window; the lowest panel is the time against the Bell pairs.
    provenance: as `save_figure`.
    """
    windows = result.windows
    middle = windows.first_round + windows.window / 2
    with new_figure(8.2, 6.4) as figure:
        score, error, clock = figure.subplots(3, 1, sharex=True, height_ratios=(1.15, 1.15, 1))
        score.plot(middle, windows.chsh_score, color=BLUE)
        score.fill_between(middle, windows.chsh_low, windows.chsh_high, color=BLUE, alpha=0.22, linewidth=0)
        score.axhline(2, color=MUTED, linestyle="--", linewidth=1)
        score.axhline(2 * np.sqrt(2), color=MUTED, linestyle=":", linewidth=1)
        score.set_ylabel("CHSH score $S$")
        low, high = _range(windows.chsh_low, windows.chsh_high)
        score.set_ylim(min(1.95, low - 0.05), max(2.9, high + 0.03))
        _note(score, f"avg.: {result.chsh_score.value:.4f} ± {result.chsh_score.standard_error:.4f}")
        error.plot(middle, 100 * windows.qber, color=GREEN)
        error.fill_between(
            middle, 100 * windows.qber_low, 100 * windows.qber_high, color=GREEN, alpha=0.22, linewidth=0
        )
        error.set_ylim(0, max(3.0, 108 * _range(windows.qber_low, windows.qber_high)[1]))
        error.set_ylabel("QBER $Q$, %")
        _note(error, f"avg.: {result.qber_text}")
        _clock(clock, result)
        score.set_title(
            f"Moving averages over {windows.window:,} rounds with {100 * windows.confidence:g} % bands; "
            f"{result.chsh_score.num_rounds:,} test rounds of {result.num_rounds:,}",
            loc="left",
        )
        save_figure(figure, path, provenance)


def _range(low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Lowest and highest of what is known; windows without a test or key round are NaN."""
    known = np.isfinite(low) & np.isfinite(high)
    return (float(low[known].min()), float(high[known].max())) if known.any() else (2.0, 2.0)


def _clock(axes: Axes, result: Characterisation) -> None:
    """When each pair came; pauses are vertical steps."""
    scale, unit = time_unit(result.timeline.duration_s)
    chosen = np.unique(
        np.concatenate(
            [
                np.linspace(0, result.num_rounds - 1, min(result.num_rounds, MAX_TIME_POINTS)).astype(int),
                *(
                    np.clip([gap.first_round - 1, gap.first_round], 0, result.num_rounds - 1)
                    for gap in result.timeline.gaps
                ),
            ]
        )
    )
    axes.plot(chosen + 1, result.elapsed_s[chosen] / scale, color=ORANGE)
    for gap in result.timeline.gaps:
        axes.plot([gap.first_round] * 2, [gap.start_s / scale, gap.end_s / scale], color=INK, linewidth=2.2)
    axes.set_xlim(0, result.num_rounds)
    axes.set_ylim(0, None)
    axes.set_ylabel(f"time, {unit}")
    axes.set_xlabel("number of Bell pairs")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    duration = result.timeline.duration_s
    rate = result.num_rounds / duration if duration > 0 else 0.0
    gaps = len(result.timeline.gaps)
    pauses = f", {gaps} pause{'s' * (gaps != 1)}" if gaps else ""
    _note(axes, f"avg. rate: {rate:,.1f} s$^{{-1}}${pauses}", bottom=True)


def _note(axes: Axes, text: str, bottom: bool = False) -> None:
    axes.text(
        0.985,
        0.08 if bottom else 0.06,
        text,
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        color=INK,
        fontsize=10.5,
        fontweight="bold",
    )
