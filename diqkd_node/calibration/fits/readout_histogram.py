"""Threshold of the fluorescence readout, and its error rates.

Counts of an ion in S1/2 are Poisson; those of an ion in D5/2 are Poisson around the background, unless it
decays during the window, after which it is bright: its mean is then uniform between the two, to first order
in window over lifetime. The dark histogram also holds ions that were not shelved; that is an error of the
preparation, not of the readout, and is fitted as such.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaln, pdtr, xlogy

from diqkd_node.calibration.fits.count_fit import CountFit, fit_poisson
from diqkd_node.calibration.result import Finding, GoodnessOfFit, Quantity

Array = NDArray[np.float64]
NAMES = ("bright_mean", "dark_mean", "preparation_error")
D_LIFETIME = 0.39  # s, of 4D5/2
LARGEST_ERROR = 1e-3


def poisson(counts: Array, mean: float) -> Array:
    """(n,) Poisson probabilities."""
    probability: Array = np.exp(xlogy(counts, mean) - mean - gammaln(counts + 1))
    return probability


def dark_distribution(counts: Array, bright_mean: float, dark_mean: float, window: float) -> Array:
    """(n,) probabilities of `counts` for an ion that is in D5/2 when the window (s) begins."""
    survival = np.exp(-window / D_LIFETIME)
    after_decay = (gammainc(counts + 1, bright_mean) - gammainc(counts + 1, dark_mean)) / (
        bright_mean - dark_mean
    )
    probability: Array = survival * poisson(counts, dark_mean) + (1 - survival) * after_decay
    return probability


def readout_errors(
    threshold: int, bright_mean: float, dark_mean: float, window: float
) -> tuple[float, float]:
    """Probabilities that a bright ion counts at most `threshold`, and a dark one more."""
    missed = float(pdtr(threshold, bright_mean))
    below = dark_distribution(np.arange(threshold + 1.0), bright_mean, dark_mean, window).sum()
    return missed, float(1 - below)


def best_threshold(bright_mean: float, dark_mean: float, window: float) -> int:
    """The threshold with the smallest mean error; bright is what counts more."""
    candidates = range(int(dark_mean), max(int(bright_mean), int(dark_mean) + 1) + 1)
    return min(candidates, key=lambda value: sum(readout_errors(value, bright_mean, dark_mean, window)))


def fit_readout_histogram(bright_counts: Array, dark_counts: Array, window: float) -> Finding:
    """Threshold from the counts of shots prepared bright and dark, in a window (s)."""
    fit = _fit(bright_counts, dark_counts, window)
    bright_mean, dark_mean = fit["bright_mean"], fit["dark_mean"]
    threshold = best_threshold(bright_mean, dark_mean, window)
    error = fit.derived(lambda means: sum(readout_errors(threshold, means[0], means[1], window)) / 2)
    notes: tuple[str, ...] = ()
    if error[0] > LARGEST_ERROR:
        notes = (
            f"the readout error is {error[0]:.2g}, above {LARGEST_ERROR:g}; align the collection, raise the "
            "light's power or lengthen readout.time",
        )
    top = int(max(bright_counts.max(), dark_counts.max())) + 1
    counts = np.arange(top + 1.0)
    num_bright, num_dark = len(bright_counts), len(dark_counts)
    dark = _dark_mixture(counts, fit.parameters, window)
    return Finding(
        quantities={
            "readout_threshold": Quantity(threshold, 0.0, ""),
            "readout_error": Quantity(*error, ""),
            "bright_mean": Quantity(bright_mean, fit.standard_error("bright_mean"), ""),
            "dark_mean": Quantity(dark_mean, fit.standard_error("dark_mean"), ""),
            "preparation_error": Quantity(
                abs(fit["preparation_error"]), fit.standard_error("preparation_error"), ""
            ),
        },
        goodness_of_fit=GoodnessOfFit.of(fit),
        settings={"readout.threshold": threshold},
        figure={
            "x_label": "photon counts",
            "y_label": "shots",
            "log_y": True,
            "y_range": [
                0.5,
                2.0 * max(num_bright * poisson(counts, bright_mean).max(), num_dark * dark.max()),
            ],
            "bars": True,
            "series": [
                _histogram("prepared in S1/2", bright_counts, counts),
                _histogram("prepared in D5/2", dark_counts, counts),
            ],
            "curves": [
                {
                    "label": "",
                    "x": counts.tolist(),
                    "y": (num_bright * poisson(counts, bright_mean)).tolist(),
                },
                {"label": "", "x": counts.tolist(), "y": (num_dark * dark).tolist()},
            ],
            "marks": [{"x": threshold + 0.5, "label": f"more than {threshold}: bright"}],
        },
        notes=notes,
    )


def _dark_mixture(counts: Array, parameters: Array, window: float) -> Array:
    bright_mean, dark_mean, unshelved = parameters
    shelved = dark_distribution(counts, bright_mean, dark_mean, window)
    mixture: Array = (1 - abs(unshelved)) * shelved + abs(unshelved) * poisson(counts, bright_mean)
    return mixture


def _fit(bright_counts: Array, dark_counts: Array, window: float) -> CountFit:
    bins = np.arange(int(max(bright_counts.max(), dark_counts.max())) + 2)
    values = bins.astype(np.float64)
    seen = np.concatenate(
        [np.bincount(part.astype(np.int64), minlength=len(bins)) for part in (bright_counts, dark_counts)]
    )

    def expected(parameters: Array) -> Array:
        bright = len(bright_counts) * poisson(values, parameters[0])
        return np.concatenate([bright, len(dark_counts) * _dark_mixture(values, parameters, window)])

    low, high = float(np.median(dark_counts)), float(np.median(bright_counts))
    likely_bright = float((dark_counts > (low + high) / 2).mean())
    start = (bright_counts.mean(), max(dark_counts[dark_counts <= (low + high) / 2].mean(), 0.05))
    return fit_poisson(expected, NAMES, [(*start, max(likely_bright, 1e-3))], seen)


def _histogram(label: str, shots: Array, counts: Array) -> dict[str, object]:
    seen = np.bincount(shots.astype(np.int64), minlength=len(counts)).astype(np.float64)
    return {"label": label, "x": counts.tolist(), "y": seen.tolist()}
