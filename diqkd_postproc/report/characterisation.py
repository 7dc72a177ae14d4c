"""The report of a characterisation run, whose outcomes both nodes share: Fig. 3 and the probability table.

Only here do two nodes' outcomes meet. A run whose parameters allow a key is refused: comparing its outcomes
would give the key away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.link.characterisation import check_shared, default_window
from diqkd_postproc.link.statistics import (
    Estimate,
    chsh_score,
    moving_windows,
    outcome_probabilities,
    qber,
)
from diqkd_postproc.link.timeline import elapsed_seconds, time_unit, timeline_of
from diqkd_postproc.records.sealed_record import RoundRecord
from diqkd_postproc.report.drawing import (
    BLUE,
    GREEN,
    MUTED,
    inline_svg,
    light_grid,
    new_figure,
    shade,
    styled,
)
from diqkd_postproc.report.markup import Content, Markup, element, figure, section, table


@dataclass(frozen=True, slots=True, kw_only=True)
class Characterisation:
    """What shared outcomes say about the link, and the sections of the page that tell it."""

    chsh_score: Estimate
    qber: Estimate
    sections: tuple[Markup, ...]


def characterise(alice: RoundRecord, bob: RoundRecord) -> Characterisation:
    """S, Q and P(A, B | X, Y) of a characterisation run, with Fig. 3.

    Raises ParameterError for a run that could make a key, StorageError where the records do not fit.
    """
    check_shared(alice, bob)
    shared = (alice.setting, bob.setting, alice.outcome, bob.outcome)
    score, errors, probabilities = chsh_score(*shared), qber(*shared), outcome_probabilities(*shared)
    window = default_window(alice.parameters.num_rounds)
    caption = (
        f"Moving averages over {window:,} rounds with 95 % bands. Over the whole run S = "
        f"{score.value:.4f} ± {score.standard_error:.4f} from {score.num_rounds:,} rounds, Q = "
        f"{100 * errors.value:.3f} ± {100 * errors.standard_error:.3f} % from {errors.num_rounds:,}."
    )
    rows: dict[str, list[Content]] = {}
    for x, y, a, b, value, error in probabilities.entries():
        row = rows.setdefault(f"X = {x}, Y = {y}", [])
        row.append(element("span", f"{value:.4f}", title=f"A = {a}, B = {b}: ± {error:.4f}"))
    headings = ("settings", "A = 0, B = 0", "A = 0, B = 1", "A = 1, B = 0", "A = 1, B = 1")
    sections = (
        section("CHSH score and bit error rate", figure(moving_scores_figure(alice, bob), caption)),
        section("P(A, B | X, Y)", table([(name, *row) for name, row in rows.items()], headings)),
    )
    return Characterisation(chsh_score=score, qber=errors, sections=sections)


def moving_scores_figure(alice: RoundRecord, bob: RoundRecord, window: int | None = None) -> str:
    """S and Q in moving windows against time, with 95 % bands (Fig. 3, top), as an `<svg>` element."""
    check_shared(alice, bob)
    shared = (alice.setting, bob.setting, alice.outcome, bob.outcome)
    windows = moving_windows(*shared, window=window or default_window(alice.parameters.num_rounds))
    middle = windows.first_round + windows.window // 2
    timeline = timeline_of(bob)
    scale, unit = time_unit(timeline.duration_s)
    # A break of the curves at every pause, where nothing was measured.
    breaks = np.searchsorted(middle, [gap.first_round for gap in timeline.gaps])

    def broken(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.insert(values.astype(float), breaks, np.nan)

    times = broken(elapsed_seconds(bob)[middle] / scale)
    with styled():
        drawing = new_figure(10.4, 5.0)
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
            light_grid(axes)
        drawing.align_ylabels([above, below])
        return inline_svg(drawing, "scores", "CHSH score and bit error rate in moving windows")
