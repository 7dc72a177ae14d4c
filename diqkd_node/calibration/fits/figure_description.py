"""Descriptions of calibration figures: plain numbers, kept in the result, for `figures` to draw.

A description has `x_label`, `y_label`, `series` (label, x, y, low, high: points with 95 % intervals),
`curves` (label, x, y), and optionally `log_y`, `x_range`, `y_range`, `marks` (x, label: vertical lines),
`bars` (a histogram, drawn as steps) and `band` (the intervals as a shaded area). All numbers are in the units
that the labels name.
"""

from typing import Any

import numpy as np

from diqkd_postproc.link.statistics import wilson_bounds


def binomial_series(label: str, x: Any, bright: Any, shots: Any) -> dict[str, Any]:
    """Fractions with Wilson's 95 % intervals."""
    low, high = wilson_bounds(bright, shots)
    return {
        "label": label,
        "x": np.asarray(x).tolist(),
        "y": (np.asarray(bright) / np.asarray(shots)).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
    }


def curve(label: str, x: Any, y: Any) -> dict[str, Any]:
    """A curve of a description."""
    return {"label": label, "x": np.asarray(x).tolist(), "y": np.asarray(y).tolist()}
