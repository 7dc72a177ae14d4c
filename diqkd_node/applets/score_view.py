"""Content of the view of a characterisation: S and Q by block of rounds, with 95 % bands.

Only a characterisation, whose outcomes are shared, has these: the dataset `correlations` is not among the
facts of a key run. Its rows are unix time, S, its standard error, Q, its standard error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NORMAL_95 = 1.959964  # standard errors of a 95 % band
LOCAL_BOUND = 2.0
QUANTUM_BOUND = 2.0 * 2.0**0.5


@dataclass(frozen=True)
class Band:
    """A curve with its 95 % band; times in minutes before the last block."""

    times: NDArray[np.float64]
    values: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @property
    def last(self) -> str:
        """Value of the last block with its standard error."""
        if not self.values.size:
            return "–"
        error = (self.high[-1] - self.values[-1]) / NORMAL_95
        return f"{self.values[-1]:.3f} ± {error:.3f}"


def bands(correlations: Any) -> tuple[Band, Band]:
    """S, and Q in per cent. Rows that are not finite are left out; nothing gives empty bands."""
    rows = np.asarray(correlations, dtype=np.float64)
    rows = rows.reshape(-1, 5) if rows.size else np.empty((0, 5))
    rows = rows[np.isfinite(rows).all(axis=1)]
    minutes = (rows[:, 0] - rows[-1, 0]) / 60 if len(rows) else rows[:, 0]
    return _band(minutes, rows[:, 1], rows[:, 2]), _band(minutes, 100 * rows[:, 3], 100 * rows[:, 4])


def _band(times: NDArray[np.float64], values: NDArray[np.float64], errors: NDArray[np.float64]) -> Band:
    return Band(times, values, values - NORMAL_95 * errors, values + NORMAL_95 * errors)
