"""Style of all figures: colours, axes, and how a figure becomes a file or part of the report's page.

A figure in the page is SVG text in which every colour of `COLOURS` becomes a variable of the page's style
sheet, so that it follows the light or dark scheme and the print. A figure in a file has the colours of the
light scheme, and says below where it comes from.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from diqkd_postproc.link.timeline import Gap
from diqkd_postproc.protocol.errors import ParameterError, StorageError
from diqkd_postproc.protocol.version import __version__

COLOURS = {
    "ink": "#1b2330",
    "muted": "#64707f",
    "grid": "#e3e7ec",
    "blue": "#2462c4",
    "green": "#1a7f4b",
    "orange": "#c96a12",
    "red": "#c0362c",
    "purple": "#8a4f9e",
    "card": "#ffffff",
}
"""Colours by the names of their variables in `page.css`, with the values of its light scheme."""

INK, MUTED, GRID, BLUE, GREEN, ORANGE, RED, PURPLE, SURFACE = COLOURS.values()
SERIES = (BLUE, ORANGE, GREEN, PURPLE, RED, MUTED)
"""Colours of the curves of a figure, in this order."""

WIDE_PT = 600.0
"""A figure wider than this scrolls on a small screen instead of shrinking to unreadable letters."""

RESOLUTION_DPI = 150
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": INK,
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.formatter.use_mathtext": False,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": cycler(color=SERIES),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.edgecolor": "none",
    "legend.facecolor": SURFACE,
    "legend.framealpha": 0.8,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "diqkd",
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of this size in inches; the style holds within the block, so save it there.

    Rendered by Agg without a display; matplotlib's own settings of the caller are restored after the block.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def shade(axes: Axes, gap: Gap, scale: float, smallest: float) -> None:
    """Mark a pause; `scale`: seconds of the axis's unit, `smallest`: what is still seen.

    The band is never narrower than `smallest`, in the axis's unit, so that a short pause stays visible in a
    long run.
    """
    start = gap.start_s / scale
    axes.axvspan(start, max(gap.end_s / scale, start + smallest), color=ORANGE, alpha=0.35, linewidth=0)


def save_figure(figure: Figure, path: Path | str, provenance: Mapping[str, Any] | None = None) -> None:
    """Write a figure, with its provenance in a line below; the format follows the file's name.

    provenance: some of rid, role, run_id, start_unix, artiq, diqkd. Raises ParameterError for an unknown
    ending, StorageError where the file cannot be written.
    """
    path = Path(path)
    if provenance is not None:
        figure.supxlabel(_provenance_line(provenance), fontsize=7.5, color=MUTED, x=0.995, ha="right")
    # A date would make every SVG of the same data a different file.
    metadata = {".png": {"Title": path.stem}, ".svg": {"Date": None}}.get(path.suffix)
    try:
        figure.savefig(path, dpi=RESOLUTION_DPI, metadata=metadata)
    except OSError as error:
        raise StorageError(f"cannot write the figure {path}: {error.strerror}") from None
    except ValueError:
        raise ParameterError(f"{path} has no known ending; write a .png, .pdf or .svg") from None


def _provenance_line(provenance: Mapping[str, Any]) -> str:
    """RID, node, time and versions in one line, as far as they are known."""
    parts = []
    if "rid" in provenance:
        parts.append(f"RID {provenance['rid']}")
    if "role" in provenance:
        parts.append(str(provenance["role"]))
    if "run_id" in provenance:
        parts.append(f"run {str(provenance['run_id'])[:8]}")
    if "source" in provenance:
        parts.append(str(provenance["source"]))
    if "start_unix" in provenance:
        moment = time.gmtime(float(provenance["start_unix"]))
        parts.append(time.strftime("%Y-%m-%d %H:%M UTC", moment))
    if "artiq" in provenance:
        parts.append(f"ARTIQ {provenance['artiq']}")
    parts.append(f"diqkd {provenance.get('diqkd', __version__)}")
    return " · ".join(parts)


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an `<svg>` element; `name` makes its ids unique, `description` is read out aloud.

    Text stays text, in the page's font.
    """
    text = io.StringIO()
    # Without metadata: it would hold a date and addresses of vocabularies.
    nothing = {"Creator": None, "Date": None, "Format": None, "Type": None}
    with matplotlib.rc_context({"svg.fonttype": "none"}):
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
    for variable, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg.strip()
