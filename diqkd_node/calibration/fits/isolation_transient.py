"""Coupling of the link against the time after the electrodes' step (SI Fig. S5, left).

The fit of a Gaussian focus that the ion leaves by a first-order low-pass, above a floor of scattered light,
says how fast the electrodes are and when the coupling has fallen to a given part. The floor may come out
below zero, by chance. The coupling once settled is that of `link_coupling`, without a model.
"""

import math

import numpy as np
from numpy.typing import NDArray

from diqkd_node.calibration.fits.count_fit import fit_poisson
from diqkd_node.calibration.fits.figure_description import curve
from diqkd_node.calibration.fits.link_coupling import (
    REQUIRED,
    SMALLEST_SHOWN,
    above_floor,
    coupling_quantity,
    coupling_series,
    isolation_notes,
)
from diqkd_node.calibration.fits.on_off import signal_rate
from diqkd_node.calibration.result import Finding, GoodnessOfFit, Quantity

Array = NDArray[np.float64]
NAMES = ("focus_rate", "distance", "time_constant", "floor", "background")
SHORTEST_SETTLING = 30e-6


def _remaining(times: Array, distance: float, time_constant: float) -> Array:
    """(n,) coupling at `times` after the step; `distance` is the way in units of the focus' radius."""
    way = distance * -np.expm1(-np.maximum(times, 0.0) / time_constant)
    coupling: Array = np.exp(-(way**2))
    return coupling


def settling_time(part: float, distance: float, time_constant: float) -> float:
    """When the coupling has fallen to `part`; infinite if it never does."""
    way = math.sqrt(-math.log(part)) / abs(distance)
    return math.inf if way >= 1 else -abs(time_constant) * math.log1p(-way)


def fit_isolation_transient(
    edges: Array, photons: Array, background: Array, shots: tuple[int, int], settled: float
) -> Finding:
    """Coupling against time after the electrodes' step.

    :param edges: (n + 1,) limits of the bins, s after the step
    :param photons: (n,) photons in them
    :param background: (n,) the same without fluorescence
    :param shots: of both
    :param settled: s after the step from which on the link has to be isolated
    """
    widths = np.diff(edges)
    middles = (edges[:-1] + edges[1:]) / 2
    nodes = np.linspace(0, 1, 9)
    inner = edges[:-1, None] + widths[:, None] * nodes
    simpson = np.array([1, 4, 2, 4, 2, 4, 2, 4, 1]) / 24

    def expected(parameters: Array) -> Array:
        rate, distance, time_constant, floor, dark = parameters
        shape = above_floor(floor, _remaining(inner, distance, abs(time_constant) + 1e-9) @ simpson)
        signal = shots[0] * widths * (rate * shape + abs(dark))
        means: Array = np.concatenate([signal, shots[1] * widths * abs(dark)])
        return means

    before = edges[1:] <= 0
    dark = (background.sum() + 0.5) / (shots[1] * widths.sum())
    rate = photons[before].sum() / (shots[0] * widths[before].sum())
    starts = [
        (rate, distance, time_constant, 1e-6, dark)
        for distance in (3.0, 5.0, 8.0)
        for time_constant in (10e-6, 30e-6, 90e-6)
    ]
    fit = fit_poisson(expected, NAMES, starts, np.concatenate([photons, background]))
    focus_rate = fit["focus_rate"]
    off = int(background.sum()), float(shots[1] * widths.sum())
    after = edges[:-1] >= settled - 1e-9
    late = signal_rate(int(photons[after].sum()), float(shots[0] * widths[after].sum()), *off)
    isolated = coupling_quantity(late, focus_rate)
    fallen = fit.derived(lambda parameters: settling_time(REQUIRED, parameters[1], parameters[2]))
    notes = isolation_notes(f"from {1e6 * settled:g} us on", isolated)
    settings: dict[str, float] = {}
    if math.isfinite(sum(fallen)):
        needed = max(SHORTEST_SETTLING, math.ceil(1e6 * (fallen[0] + 2 * fallen[1])) * 1e-6)
        settings = {"isolation.settling_time": round(needed, 9)}
    else:
        notes = (*notes, f"the fitted coupling never falls to {REQUIRED:g}; move the ion further")
    rates = [
        signal_rate(int(count), float(shots[0] * width), *off)
        for count, width in zip(photons, widths, strict=True)
    ]
    fine = np.linspace(edges[0], edges[-1], 500)
    shape = above_floor(max(fit["floor"], 0.0), _remaining(fine, fit["distance"], abs(fit["time_constant"])))
    return Finding(
        quantities={
            "settled_coupling": isolated,
            "settling_time": Quantity(*fallen, "s") if settings else Quantity(0.0, 0.0, "s"),
            "electrode_time_constant": Quantity(
                abs(fit["time_constant"]), fit.standard_error("time_constant"), "s"
            ),
            "distance_in_radii": Quantity(abs(fit["distance"]), fit.standard_error("distance"), ""),
            "focus_rate": Quantity(focus_rate, fit.standard_error("focus_rate"), "1/s"),
            "background_rate": Quantity(abs(fit["background"]), fit.standard_error("background"), "1/s"),
        },
        goodness_of_fit=GoodnessOfFit.of(fit),
        settings=settings,
        figure={
            "x_label": "time after the DAC step / µs",
            "y_label": "link coupling, relative to the focus",
            "log_y": True,
            "y_range": [SMALLEST_SHOWN, 3],
            "band": True,
            "series": [coupling_series("", (1e6 * middles).tolist(), rates, focus_rate)],
            "curves": [curve("", 1e6 * fine, np.maximum(shape, SMALLEST_SHOWN))],
            "marks": [{"x": 1e6 * settled, "label": "analysis begins"}],
        },
        notes=notes,
    )
