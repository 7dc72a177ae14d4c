"""Pictures of measurements as files: one look, and on every one of them where it comes from."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from diqkd_postproc import __version__
from diqkd_postproc.protocol.errors import ParameterError, StorageError

INK, MUTED, GRID = "#1d2433", "#667085", "#e3e7ee"
BLUE, GREEN, ORANGE, PURPLE = "#1f5fa8", "#2f8f5b", "#c2681b", "#a8326e"
PATTERN_COLOURS = (BLUE, GREEN, ORANGE, PURPLE)
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "diqkd",
}


@contextmanager
def picture(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of this size in inches; the style holds within the block, so save it there."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def save_picture(figure: Figure, path: Path, provenance: Mapping[str, Any]) -> None:
    """Write a figure with its provenance in a line below; the format follows the file's name.

    provenance: some of rid, role, run_id, start_unix, artiq, diqkd. Raises ParameterError for an unknown
    ending, StorageError where the file cannot be written.
    """
    figure.supxlabel(provenance_line(provenance), fontsize=7.5, color=MUTED, x=0.995, ha="right")
    try:
        figure.savefig(path, dpi=160, metadata={"Title": path.stem} if path.suffix == ".png" else None)
    except OSError as error:
        raise StorageError(f"cannot write the figure {path}: {error.strerror}") from None
    except ValueError:
        raise ParameterError(f"{path} has no known ending; write a .png, .pdf or .svg") from None


def provenance_line(provenance: Mapping[str, Any]) -> str:
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
