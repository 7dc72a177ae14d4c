"""SVG of a matplotlib figure, embedded in the page and following its light or dark colours.

Figures are drawn in marker colours, one for each role that a colour plays; in the SVG text every marker
becomes a CSS variable, which the page's style sheet defines for both schemes and for print. Text stays text,
in the page's font. Ids are made unique, because all figures share one document.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from diqkd_postproc.link.timeline import Gap

INK, MUTED, GRID = "#010101", "#020202", "#030303"
BLUE, GREEN, ORANGE, RED, SURFACE = "#040404", "#050505", "#060606", "#070707", "#080808"

_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    BLUE: "--blue",
    GREEN: "--green",
    ORANGE: "--orange",
    RED: "--red",
    SURFACE: "--card",
}
WIDE_PT = 600.0
"""A drawing wider than this scrolls on a small screen instead of shrinking to unreadable letters."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "diqkd",
    "font.size": 10.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.use_mathtext": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "mathtext.default": "regular",
}


@contextmanager
def styled() -> Iterator[None]:
    """matplotlib with the report's style, and only within the block."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, without any window behind it."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure


def light_grid(axes: Axes, axis: str = "both") -> None:
    """Grid lines behind the data."""
    axes.grid(True, axis=axis)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def shade(axes: Axes, gap: Gap, scale: float, smallest: float) -> None:
    """Mark a pause; `scale`: seconds of the axis's unit, `smallest`: what is still seen."""
    start = gap.start_s / scale
    axes.axvspan(start, max(gap.end_s / scale, start + smallest), color=ORANGE, alpha=0.35, linewidth=0)


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an `<svg>` element; `name` makes its ids unique, `description` is read out aloud."""
    text = io.StringIO()
    # Without metadata: it would hold a date and addresses of vocabularies.
    nothing = {"Creator": None, "Date": None, "Format": None, "Type": None}
    figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.S)
    box = re.search(r'viewBox="([^"]*)"', svg)
    assert box is not None
    wide = float(box.group(1).split()[2]) > WIDE_PT
    size = ' class="wide"' if wide else ""
    head = f'<svg{size} viewBox="{box.group(1)}" role="img" aria-label="{escape(description, quote=True)}">'
    svg = head + svg[svg.index(">") + 1 :]
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r"'?DejaVu Sans'?[^;\"]*", "var(--font)", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.strip()
