"""Arrival times of the photons of a picosecond pulse, and the window that takes them in.

The histogram is the exponential decay of P1/2, smeared by the detectors' and the pulse's jitter (a Gaussian)
and lifted by a flat background: its bins are integrals of an exponentially modified Gaussian. A window that
opens two jitters before the first photons and closes when all but a hundredth have come is proposed, in whole
nanoseconds.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr

from diqkd_node.calibration.fits.count_fit import fit_poisson
from diqkd_node.calibration.fits.figure_description import curve
from diqkd_node.calibration.result import Finding, GoodnessOfFit, Quantity

Array = NDArray[np.float64]
NAMES = ("delay", "lifetime", "jitter", "photons", "background")
MISSED = 0.01
SMALLEST_JITTER = 0.15  # ns; bins of 1 ns do not tell a smaller one, and without any the fit is not regular
JITTERS_BEFORE = 2.0


def _smear(jitter: float) -> float:
    return math.hypot(jitter, SMALLEST_JITTER)


def arrived(times: Array, delay: float, lifetime: float, jitter: float) -> Array:
    """(n,) part of the photons that have arrived by `times`, all in one unit."""
    jitter = max(abs(jitter), 1e-3 * lifetime)
    u = (times - delay) / jitter
    ratio = jitter / lifetime
    # exp(ratio^2/2 - u ratio) Phi(u - ratio), by way of erfcx where the exponential would overflow.
    v = (ratio - u) / math.sqrt(2)
    steep = np.where(
        v > 0,
        0.5 * erfcx(np.maximum(v, 0)) * np.exp(-(u**2) / 2),
        np.exp(np.minimum(ratio**2 / 2 - u * ratio, 700)) * ndtr(u - ratio),
    )
    part: Array = ndtr(u) - steep
    return part


def fit_photon_arrival(times: Array, start: int, stop: int, attempts: int) -> Finding:
    """Decay and window from arrival `times` (ns after the pulse's switch, whole numbers: the nanosecond in
    which each began) of `attempts` attempts with gates from `start` to `stop` (ns)."""
    edges = np.arange(start, stop + 1, dtype=np.float64)
    seen = np.bincount(np.asarray(times, dtype=np.int64) - start, minlength=stop - start)[: stop - start]

    def expected(parameters: Array) -> Array:
        delay, lifetime, jitter, photons, background = parameters
        signal = photons * np.diff(arrived(edges, delay, abs(lifetime) + 1e-3, _smear(jitter)))
        means: Array = signal + abs(background)
        return means

    background = max(float(np.median(seen)), 0.02 * len(times) / len(seen))
    peak = float(edges[np.argmax(np.convolve(seen, np.ones(3), mode="same"))])
    photons = max(len(times) - background * len(seen), 1.0)
    starts = [(peak - shift, lifetime, 0.7, photons, background) for shift in (0, 1) for lifetime in (5, 9)]
    fit = fit_poisson(expected, NAMES, starts, seen)
    delay, lifetime = fit["delay"], abs(fit["lifetime"])
    jitter, jitter_error = fit.derived(lambda parameters: _smear(parameters[2]))
    opens = max(math.floor(delay - JITTERS_BEFORE * jitter), 0)
    fine = np.arange(opens, stop + 1, dtype=np.float64)
    shut = fine[np.argmax(arrived(fine, delay, lifetime, jitter) >= 1 - MISSED)]
    closes = int(shut) if shut > opens else stop
    window = np.array([opens, closes], dtype=np.float64)

    def inside(parameters: Array) -> float:
        return float(np.diff(arrived(window, parameters[0], abs(parameters[1]), _smear(parameters[2])))[0])

    caught = fit.derived(inside)
    drawn = np.linspace(start, stop, 6 * (stop - start))
    slope = np.gradient(arrived(drawn, delay, lifetime, jitter), drawn)
    return Finding(
        quantities={
            "lifetime": Quantity(1e-9 * lifetime, 1e-9 * fit.standard_error("lifetime"), "s"),
            "photon_probability": Quantity(
                fit["photons"] / attempts, fit.standard_error("photons") / attempts, ""
            ),
            "delay": Quantity(1e-9 * delay, 1e-9 * fit.standard_error("delay"), "s"),
            "jitter": Quantity(1e-9 * jitter, 1e-9 * jitter_error, "s"),
            "caught_fraction": Quantity(*caught, ""),
            "background_probability": Quantity(
                abs(fit["background"]) * (closes - opens) / attempts,
                fit.standard_error("background") * (closes - opens) / attempts,
                "",
            ),
        },
        goodness_of_fit=GoodnessOfFit.of(fit),
        settings={"attempts.photon_window": [round(opens * 1e-9, 12), round(closes * 1e-9, 12)]},
        figure={
            "x_label": "arrival after the pulse's switch / ns",
            "y_label": "photons in 1 ns",
            "log_y": True,
            "x_range": [max(start, opens - 20), min(stop, closes + 50)],
            "y_range": [0.5, 2.5 * max(float(seen.max()), 1.0)],
            "bars": True,
            "series": [{"label": "", "x": (edges[:-1] + 0.5).tolist(), "y": seen.astype(float).tolist()}],
            "curves": [curve("", drawn, fit["photons"] * slope + abs(fit["background"]))],
            "marks": [{"x": opens, "label": "window"}, {"x": closes, "label": ""}],
        },
    )
