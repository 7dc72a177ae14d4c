"""Settling of the coupling after the step of the electrodes."""

import math

import pytest

from diqkd_node.calibration.fits.isolation_transient import settling_time


def test_settling_inverts_the_coupling() -> None:
    time = settling_time(1e-4, 4.84, 30e-6)
    way = 4.84 * (1 - math.exp(-time / 30e-6))
    assert math.exp(-(way**2)) == pytest.approx(1e-4)
    assert settling_time(1e-4, 2.0, 30e-6) == math.inf
