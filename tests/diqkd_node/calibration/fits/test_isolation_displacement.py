"""Coupling against displacement: a link that is not isolated."""

import math

import numpy as np
import pytest

from diqkd_node.calibration.fits.isolation_displacement import fit_isolation_displacement


def test_an_ion_that_stays_coupled_is_named() -> None:
    """Counts without noise at a place where a thousandth of the coupling is left."""
    parts = np.linspace(-0.3, 1.0, 14)
    exposures = np.full(14, 4.0)
    coupling = np.maximum(np.exp(-((2.63 * parts) ** 2)), 0)
    photons = np.round(exposures * (2e5 * coupling + 100)).astype(int)
    finding = fit_isolation_displacement(parts, photons, exposures, (400, 4.0), 3.0)
    assert finding.quantities["isolated_coupling"].value == pytest.approx(math.exp(-(2.63**2)), rel=0.05)
    assert "the link is not isolated" in finding.notes[0]
