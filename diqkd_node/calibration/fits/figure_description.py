"""Descriptions of calibration figures: plain numbers, kept in the result, for `figures` to draw.

A description has `x_label`, `y_label`, `series` (label, x, y, low, high: points with 95 % intervals),
`curves` (label, x, y), and optionally `log_y`, `x_range`, `y_range`, `marks` (x, label: vertical lines),
`bars` (a histogram, drawn as steps) and `band` (the intervals as a shaded area). All numbers are in the units
that the labels name.
"""

from typing import Any

import numpy as np


def binomial_series(label: str, x: Any, bright: Any, shots: Any) -> dict[str, Any]:
    """Fractions with Wilson's 95 % intervals."""
    bright, shots = np.asarray(bright, dtype=np.float64), np.asarray(shots, dtype=np.float64)
    z = 1.96
    fraction = bright / shots
    centre = (fraction + z**2 / (2 * shots)) / (1 + z**2 / shots)
    half = z * np.sqrt(fraction * (1 - fraction) / shots + z**2 / (4 * shots**2)) / (1 + z**2 / shots)
    return {
        "label": label,
        "x": np.asarray(x).tolist(),
        "y": fraction.tolist(),
        "low": (centre - half).tolist(),
        "high": (centre + half).tolist(),
    }


def curve(label: str, x: Any, y: Any) -> dict[str, Any]:
    """A curve of a description."""
    return {"label": label, "x": np.asarray(x).tolist(), "y": np.asarray(y).tolist()}
