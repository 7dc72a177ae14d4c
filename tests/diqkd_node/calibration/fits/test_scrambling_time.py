"""Scrambling time of a slow deshelving."""

import numpy as np

from diqkd_node.calibration.fits.scrambling_time import fit_scrambling_time


def test_slow_deshelving_asks_for_longer_scrambling() -> None:
    times = np.linspace(0, 80e-6, 30)
    bright = np.round(2000 * (1 - np.exp(-times / 15e-6))).astype(int)
    finding = fit_scrambling_time(times, bright, np.full(30, 2000))
    assert 150e-6 < finding.settings["scrambling.time"] < 165e-6
