"""Time of a pi pulse, from Rabi oscillations.

The bright fraction oscillates between two levels, `high` and `low`, as (1 + cos(pi t / T))/2. Where that does
not describe the data, an exponential decay towards the middle is added: the spread of Rabi frequencies of an
ion that is not cold, or of a laser that is not quiet.
"""

import numpy as np
from numpy.typing import NDArray

from diqkd_node.calibration.fits.count_fit import CountFit, angle, fit_binomial, fraction
from diqkd_node.calibration.fits.figure_description import binomial_series, curve
from diqkd_node.calibration.result import Finding, GoodnessOfFit, Quantity

Array = NDArray[np.float64]
NAMES = ("pi_time", "high", "low", "decay_rate")
DOUBTFUL = 0.05
DEVIANCE_OF_DECAY = 6.6  # by which a decay has to improve the fit: chance in 100


def bright_fraction(times: Array, pi_time: float, high: float, low: float, decay_rate: float = 0.0) -> Array:
    """(n,) model at `times` (s); `high` is the level at time 0. Levels are angles (`count_fit.angle`)."""
    top, bottom = fraction(high), fraction(low)
    wave = np.cos(np.pi * times / pi_time) * np.exp(-decay_rate * times)
    model: Array = (top + bottom) / 2 + (top - bottom) / 2 * wave
    return model


def fit_pi_pulse_time(times: Array, bright: Array, shots: Array, setting: str) -> Finding:
    """Pi time from `bright` of `shots` at pulse lengths `times` (s); all (n,).

    :param setting: field of the configuration that takes the pi time
    """
    fit = _fit(times, bright, shots)
    pi_time = Quantity(fit["pi_time"], fit.standard_error("pi_time"), "s")
    contrast = fit.derived(lambda theta: float(fraction(theta[1]) - fraction(theta[2])))
    fine = np.linspace(0, times.max(), 400)
    return Finding(
        quantities={"pi_time": pi_time, "contrast": Quantity(abs(contrast[0]), contrast[1], "")},
        goodness_of_fit=GoodnessOfFit.of(fit),
        settings={setting: pi_time.rounded},
        figure={
            "x_label": "pulse length / µs",
            "y_label": "bright fraction",
            "y_range": [-0.04, 1.04],
            "series": [binomial_series("", 1e6 * times, bright, shots)],
            "curves": [curve("", 1e6 * fine, bright_fraction(fine, *fit.parameters))],
            "marks": [{"x": 1e6 * pi_time.value, "label": "π"}],
        },
    )


def _fit(times: Array, bright: Array, shots: Array) -> CountFit:
    starts = _starts(times, np.asarray(bright) / np.asarray(shots))
    fit = fit_binomial(lambda theta: bright_fraction(times, *theta[:3]), NAMES[:3], starts, bright, shots)
    if fit.p_value >= DOUBTFUL or len(times) <= len(NAMES):
        return fit
    slowest = 0.1 / np.ptp(times)
    decaying = fit_binomial(
        lambda theta: bright_fraction(times, theta[0], theta[1], theta[2], abs(theta[3])),
        NAMES,
        [(*start, rate) for start in starts for rate in (slowest, 10 * slowest)],
        bright,
        shots,
    )
    return decaying if decaying.deviance < fit.deviance - DEVIANCE_OF_DECAY else fit


def _starts(times: Array, bright: Array) -> list[tuple[float, float, float]]:
    """First guesses: cosines of many periods, fitted by linear regression."""
    spacing = np.median(np.diff(np.unique(times)))
    guesses = []
    for trial in np.geomspace(2 * spacing, 4 * np.ptp(times), 600):
        waves = np.stack([np.ones_like(times), np.cos(np.pi * times / trial)], axis=1)
        solution, *_ = np.linalg.lstsq(waves, bright, rcond=None)
        guesses.append((float(((waves @ solution - bright) ** 2).sum()), float(trial), *solution))
    guesses.sort()
    return [
        (trial, angle(middle + amplitude), angle(middle - amplitude))
        for _, trial, middle, amplitude in guesses[:3]
    ]
