"""Time constant of deshelving (SI Fig. S5, right): an exponential approach of the bright fraction.

What scrambling needs is that nothing of the outcome is left, so ten time constants are proposed, and never
less than the 100 us of the protocol.
"""

import math

import numpy as np
from numpy.typing import NDArray

from diqkd_node.calibration.fits.count_fit import angle, fit_binomial, fraction
from diqkd_node.calibration.fits.figure_description import binomial_series, curve
from diqkd_node.calibration.result import Finding, GoodnessOfFit, Quantity

Array = NDArray[np.float64]
NAMES = ("time_constant", "final", "initial")
TIME_CONSTANTS = 10
SHORTEST_SCRAMBLING = 100e-6


def bright_fraction(times: Array, time_constant: float, final: float, initial: float) -> Array:
    """(n,) model at `times` (s); the levels are angles."""
    end, start = fraction(final), fraction(initial)
    model: Array = end + (start - end) * np.exp(-times / abs(time_constant))
    return model


def fit_scrambling_time(times: Array, bright: Array, shots: Array) -> Finding:
    """Time constant from `bright` of `shots` after deshelving for `times` (s); arrays (n,)."""
    seen = np.asarray(bright) / np.asarray(shots)
    starts = [
        (trial, angle(float(seen[np.argmax(times)])), angle(float(seen[np.argmin(times)])))
        for trial in np.geomspace(times.max() / 50, times.max() / 2, 6)
    ]
    fit = fit_binomial(
        lambda theta: bright_fraction(times, theta[0], theta[1], theta[2]), NAMES, starts, bright, shots
    )
    time_constant = Quantity(abs(fit["time_constant"]), fit.standard_error("time_constant"), "s")
    contrast = fit.derived(lambda theta: fraction(theta[1]) - fraction(theta[2]))
    needed = TIME_CONSTANTS * (time_constant.value + 2 * time_constant.standard_error)
    scrambling_time = max(SHORTEST_SCRAMBLING, math.ceil(needed * 1e6) * 1e-6)
    fine = np.linspace(0, times.max(), 500)
    return Finding(
        quantities={"time_constant": time_constant, "contrast": Quantity(*contrast, "")},
        goodness_of_fit=GoodnessOfFit.of(fit),
        settings={"scrambling.time": round(scrambling_time, 9)},
        figure={
            "x_label": "1033 nm deshelving pulse / µs",
            "y_label": "bright fraction",
            "y_range": [-0.04, 1.04],
            "series": [binomial_series("", 1e6 * times, bright, shots)],
            "curves": [curve("", 1e6 * fine, bright_fraction(fine, *fit.parameters))],
            "marks": [{"x": 1e6 * time_constant.value, "label": "1/e"}],
        },
    )
