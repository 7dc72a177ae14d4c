"""Ramsey fringes: detuning and coherence time."""

import numpy as np
import pytest

from diqkd_node.calibration.fits.ramsey_coherence import fit_ramsey_coherence


def test_a_ramsey_fringe_tells_the_sign_of_the_detuning() -> None:
    waits = np.repeat(np.linspace(0.02, 1.0, 25) ** 1.5 * 4e-3, 4)
    phases = np.tile([0.0, 0.25, 0.5, 0.75], 25)
    chance = 0.5 + 0.5 * np.exp(-((waits / 3e-3) ** 2)) * np.cos(2 * np.pi * (phases - 1234.0 * waits))
    bright = np.round(1000 * chance).astype(int)
    finding = fit_ramsey_coherence(waits, phases, bright, np.full(100, 1000), 108e6, "frequency_qubit")
    assert finding.settings["frequency_qubit"] == pytest.approx(108e6 + 1234.0, abs=3.0)
    assert finding.quantities["coherence_time"].value == pytest.approx(3e-3, rel=0.02)
