"""Readout counts and threshold against integration and exhaustion."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import poisson

from diqkd_node.calibration.fits.readout_histogram import (
    D_LIFETIME,
    best_threshold,
    dark_distribution,
    readout_errors,
)


def test_dark_counts_are_the_integral_over_the_moment_of_decay() -> None:
    window, bright, dark = 250e-6, 60.0, 1.5
    for count in (0, 3, 20, 55):

        def decayed(moment: float, count: int = count) -> float:
            mean = dark + (bright - dark) * (1 - moment / window)
            return poisson.pmf(count, mean) / window

        after_decay = quad(decayed, 0, window)[0]
        survival = math.exp(-window / D_LIFETIME)
        oracle = survival * poisson.pmf(count, dark) + (1 - survival) * after_decay
        assert dark_distribution(np.array([float(count)]), bright, dark, window)[0] == pytest.approx(oracle)


def test_the_best_threshold_is_best() -> None:
    errors = [sum(readout_errors(threshold, 25.0, 2.0, 1e-3)) for threshold in range(25)]
    assert best_threshold(25.0, 2.0, 1e-3) == int(np.argmin(errors))
