"""Models of the calibrations against independent ways to the same numbers."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import exponnorm, poisson

from diqkd_node.calibration.fits.isolation import fit_displacement, settling_time
from diqkd_node.calibration.fits.on_off import signal_rate
from diqkd_node.calibration.fits.photon_arrival import arrived
from diqkd_node.calibration.fits.ramsey_coherence import fit_ramsey
from diqkd_node.calibration.fits.readout_histogram import (
    D_LIFETIME,
    best_threshold,
    dark_distribution,
    readout_errors,
)
from diqkd_node.calibration.fits.scrambling_time import fit_deshelving
from diqkd_node.calibration.result import Quantity


@pytest.mark.parametrize("jitter", [0.05, 0.5, 3.0])
def test_arrivals_are_an_exponentially_modified_gaussian(jitter: float) -> None:
    times = np.linspace(-5.0, 80.0, 200)
    oracle = exponnorm.cdf(times, 7.4 / jitter, loc=2.0, scale=jitter)
    np.testing.assert_allclose(arrived(times, 2.0, 7.4, jitter), oracle, atol=1e-9)


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


def test_settling_inverts_the_coupling() -> None:
    time = settling_time(1e-4, 4.84, 30e-6)
    way = 4.84 * (1 - math.exp(-time / 30e-6))
    assert math.exp(-(way**2)) == pytest.approx(1e-4)
    assert settling_time(1e-4, 2.0, 30e-6) == math.inf


def test_an_ion_that_stays_coupled_is_named() -> None:
    """Counts without noise at a place where a thousandth of the coupling is left."""
    parts = np.linspace(-0.3, 1.0, 14)
    exposures = np.full(14, 4.0)
    coupling = np.maximum(np.exp(-((2.63 * parts) ** 2)), 0)
    photons = np.round(exposures * (2e5 * coupling + 100)).astype(int)
    finding = fit_displacement(parts, photons, exposures, (400, 4.0), 3.0)
    assert finding.quantities["isolated_coupling"].value == pytest.approx(math.exp(-(2.63**2)), rel=0.05)
    assert "the link is not isolated" in finding.notes[0]


def test_slow_deshelving_asks_for_longer_scrambling() -> None:
    times = np.linspace(0, 80e-6, 30)
    bright = np.round(2000 * (1 - np.exp(-times / 15e-6))).astype(int)
    finding = fit_deshelving(times, bright, np.full(30, 2000))
    assert 150e-6 < finding.settings["scrambling.time"] < 165e-6


def test_a_ramsey_fringe_tells_the_sign_of_the_detuning() -> None:
    waits = np.repeat(np.linspace(0.02, 1.0, 25) ** 1.5 * 4e-3, 4)
    phases = np.tile([0.0, 0.25, 0.5, 0.75], 25)
    chance = 0.5 + 0.5 * np.exp(-((waits / 3e-3) ** 2)) * np.cos(2 * np.pi * (phases - 1234.0 * waits))
    bright = np.round(1000 * chance).astype(int)
    finding = fit_ramsey(waits, phases, bright, np.full(100, 1000), 108e6, "frequency_qubit")
    assert finding.settings["frequency_qubit"] == pytest.approx(108e6 + 1234.0, abs=3.0)
    assert finding.quantities["coherence_time"].value == pytest.approx(3e-3, rel=0.02)


@pytest.mark.parametrize(
    ("quantity", "text"),
    [
        (Quantity(4.93e-6, 1.2e-8, "s"), "4.930 ± 0.012 µs"),
        (Quantity(107.99967e6, 130.0, "Hz"), "107.99967 ± 0.00013 MHz"),
        (Quantity(1.66e-4, 6.3e-8, ""), "(1.66000 ± 0.00063)e-4"),
        (Quantity(30, 0.0, ""), "30"),
        (Quantity(0.0, 1e-5, "", low=0.0, high=3.6e-5), "0, at most 3.6e-05 (95 %)"),
    ],
)
def test_quantities_are_printed_with_their_error(quantity: Quantity, text: str) -> None:
    assert str(quantity) == text
