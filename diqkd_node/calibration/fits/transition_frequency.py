"""Frequency of a transition, from the response to a weak pulse of fixed length.

The bright fraction goes from `rest`, far from the line, towards `driven` by W^2/(W^2+d^2)
sin^2(sqrt(W^2+d^2) t/2), with the Rabi frequency W and the detuning d in rad/s: Rabi's formula.
"""

import numpy as np
from numpy.typing import NDArray

from diqkd_node.calibration.fits.count_fit import angle, fit_binomial, fraction
from diqkd_node.calibration.fits.figure_description import binomial_series, curve
from diqkd_node.calibration.result import Finding, GoodnessOfFit, Quantity

Array = NDArray[np.float64]
NAMES = ("offset", "rest", "driven", "pulse_area")


def response(offsets: Array, duration: float, pulse_area: float) -> Array:
    """(n,) transition probability at detunings `offsets` (Hz); `pulse_area` is W t / pi."""
    rabi, detuning = np.pi * pulse_area / duration, 2 * np.pi * offsets
    total = np.hypot(rabi, detuning)
    probability: Array = (rabi / total) ** 2 * np.sin(total * duration / 2) ** 2
    return probability


def bright_fraction(offsets: Array, duration: float, line: Array) -> Array:
    """(n,) model; `line` holds `NAMES`: the line's offset in units of 1/duration, two angles, the area."""
    rest, driven = fraction(line[1]), fraction(line[2])
    model: Array = rest + (driven - rest) * response(offsets - line[0] / duration, duration, line[3])
    return model


def fit_transition_frequency(
    frequencies: Array, bright: Array, shots: Array, duration: float, setting: str
) -> Finding:
    """Resonance from `bright` of `shots` at `frequencies` (Hz) under pulses of `duration` (s); arrays (n,).

    :param setting: field of the configuration that takes the frequency
    """
    middle = float(np.mean(frequencies))
    offsets = frequencies - middle
    starts = _starts(offsets, np.asarray(bright) / np.asarray(shots), duration)
    fit = fit_binomial(lambda line: bright_fraction(offsets, duration, line), NAMES, starts, bright, shots)
    shift = fit["offset"] / duration
    frequency = Quantity(middle + shift, fit.standard_error("offset") / duration, "Hz")
    contrast = fit.derived(lambda line: float(fraction(line[2]) - fraction(line[1])))
    area = abs(fit["pulse_area"]), fit.standard_error("pulse_area")
    fine = np.linspace(offsets.min(), offsets.max(), 500)
    return Finding(
        quantities={
            "frequency": frequency,
            "contrast": Quantity(abs(contrast[0]), contrast[1], ""),
            "rabi_frequency": Quantity(area[0] / (2 * duration), area[1] / (2 * duration), "Hz"),
        },
        goodness_of_fit=GoodnessOfFit.of(fit),
        settings={setting: frequency.rounded},
        figure={
            "x_label": f"frequency − {middle / 1e6:.4f} MHz / kHz",
            "y_label": "bright fraction",
            "y_range": [-0.04, 1.04],
            "series": [binomial_series("", 1e-3 * offsets, bright, shots)],
            "curves": [curve("", 1e-3 * fine, bright_fraction(fine, duration, fit.parameters))],
            "marks": [{"x": 1e-3 * shift, "label": "resonance"}],
        },
    )


def _starts(offsets: Array, bright: Array, duration: float) -> list[tuple[float, ...]]:
    """First guesses: lines in many places, fitted by linear regression."""
    guesses = []
    for area in (0.7, 1.0, 1.3):
        for trial in np.linspace(offsets.min(), offsets.max(), 4 * len(offsets)):
            shape = response(offsets - trial, duration, area)
            waves = np.stack([np.ones_like(shape), shape], axis=1)
            (rest, change), *_ = np.linalg.lstsq(waves, bright, rcond=None)
            misfit = float(((rest + change * shape - bright) ** 2).sum())
            guesses.append((misfit, float(trial * duration), angle(rest), angle(rest + change), area))
    guesses.sort()
    return [guess[1:] for guess in guesses[:3]]
