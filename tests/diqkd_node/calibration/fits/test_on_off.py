"""Posterior of a weak signal against numerical integration."""

import math

import numpy as np
import pytest
from scipy.stats import poisson

from diqkd_node.calibration.fits.on_off import signal_rate


@pytest.mark.parametrize(("num_on", "num_off"), [(0, 0), (3, 1), (12, 40), (60, 200)])
def test_the_posterior_of_a_signal_is_that_of_numerical_integration(num_on: int, num_off: int) -> None:
    exposure_on, exposure_off = 2.0, 5.0
    found = signal_rate(num_on, exposure_on, num_off, exposure_off)

    # Both rates on a grid: the joint likelihood, summed over the background.
    signal = np.linspace(0, 60, 3001)[:, None]
    background = np.linspace(0, 80, 2001)[None, :]
    joint = poisson.pmf(num_on, (signal + background) * exposure_on)
    posterior = (joint * poisson.pmf(num_off, background * exposure_off)).sum(axis=1)
    inside = (signal[:, 0] >= found.low) & (signal[:, 0] <= found.high)
    assert posterior[inside].sum() / posterior.sum() == pytest.approx(0.95, abs=0.01)
    assert signal[np.argmax(posterior), 0] == pytest.approx(found.mode, abs=0.03)
    assert posterior[inside].min() >= 0.97 * posterior[~inside].max()


def test_a_large_signal_is_the_difference_of_the_rates() -> None:
    found = signal_rate(90_000, 3.0, 600, 2.0)
    assert found.mode == pytest.approx(30_000 - 300, abs=1)
    assert (found.high - found.low) / 3.92 == pytest.approx(math.hypot(100, 12.2), rel=0.02)
