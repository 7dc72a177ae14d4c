"""Arrival of photons against an independent distribution."""

import numpy as np
import pytest
from scipy.stats import exponnorm

from diqkd_node.calibration.fits.photon_arrival import arrived


@pytest.mark.parametrize("jitter", [0.05, 0.5, 3.0])
def test_arrivals_are_an_exponentially_modified_gaussian(jitter: float) -> None:
    times = np.linspace(-5.0, 80.0, 200)
    oracle = exponnorm.cdf(times, 7.4 / jitter, loc=2.0, scale=jitter)
    np.testing.assert_allclose(arrived(times, 2.0, 7.4, jitter), oracle, atol=1e-9)
