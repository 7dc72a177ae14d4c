"""Sections of a characterisation run in the report: Fig. 3 of the run and the probability table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.link.characterisation import Characterisation
from diqkd_postproc.link.timeline import time_unit
from diqkd_postproc.report.figure_style import (
    BLUE,
    GREEN,
    MUTED,
    inline_svg,
    new_figure,
    shade,
)
from diqkd_postproc.report.markup import Content, Markup, element, figure, section, table


def characterisation_sections(result: Characterisation) -> tuple[Markup, ...]:
    """S and Q in moving windows, and P(A, B | X, Y)."""
    score = result.chsh_score
    caption = (
        f"Moving averages over {result.windows.window:,} rounds with 95 % bands. Over the whole run S = "
        f"{score.value:.4f} ± {score.standard_error:.4f} from {score.num_rounds:,} rounds, Q = "
        f"{result.qber_text}. Answers fixed in advance win as often with probability {result.p_value:.3g}."
    )
    rows: dict[str, list[Content]] = {}
    for x, y, a, b, value, error in result.probabilities.entries():
        row = rows.setdefault(f"X = {x}, Y = {y}", [])
        row.append(element("span", f"{value:.4f}", title=f"A = {a}, B = {b}: ± {error:.4f}"))
    headings = ("settings", "A = 0, B = 0", "A = 0, B = 1", "A = 1, B = 0", "A = 1, B = 1")
    return (
        section("CHSH score and bit error rate", figure(moving_scores_figure(result), caption)),
        section("P(A, B | X, Y)", table([(name, *row) for name, row in rows.items()], headings)),
    )


def moving_scores_figure(result: Characterisation) -> str:
    """S and Q in moving windows against time, with 95 % bands (Fig. 3, top), as an `<svg>` element."""
    windows, timeline = result.windows, result.timeline
    middle = windows.first_round + windows.window // 2
    scale, unit = time_unit(timeline.duration_s)
    # A break of the curves at every pause, where nothing was measured.
    breaks = np.searchsorted(middle, [gap.first_round for gap in timeline.gaps])

    def broken(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.insert(values.astype(float), breaks, np.nan)

    times = broken(result.elapsed_s[middle] / scale)
    with new_figure(10.4, 5.0) as drawing:
        above, below = drawing.subplots(2, 1, sharex=True)
        above.plot(times, broken(windows.chsh_score), color=BLUE)
        band = {"alpha": 0.25, "linewidth": 0}
        above.fill_between(times, broken(windows.chsh_low), broken(windows.chsh_high), color=BLUE, **band)
        above.axhline(2 * np.sqrt(2), color=MUTED, linestyle=":", linewidth=1)
        above.set_ylabel("CHSH score S")
        below.plot(times, broken(100 * windows.qber), color=GREEN)
        low, high = broken(100 * windows.qber_low), broken(100 * windows.qber_high)
        below.fill_between(times, low, high, color=GREEN, **band)
        below.set_xlim(0, timeline.duration_s / scale)
        below.set_ylabel("bit error rate Q, %")
        below.set_xlabel(f"time since the first herald, {unit}")
        for axes in (above, below):
            for gap in timeline.gaps:
                shade(axes, gap, scale, 0.0025 * timeline.duration_s / scale)
        drawing.align_ylabels([above, below])
        return inline_svg(drawing, "scores", "CHSH score and bit error rate in moving windows")
