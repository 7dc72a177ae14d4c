"""Coupling of the link against the ion's displacement (SI Fig. S5, left).

The fit of a Gaussian focus above a floor of scattered light says how wide the focus is. The floor may come
out below zero, by chance. The coupling in the isolated position is that of `link_coupling`, without a model.
"""

import numpy as np
from numpy.typing import NDArray

from diqkd_node.calibration.fits.count_fit import fit_poisson
from diqkd_node.calibration.fits.figure_description import curve
from diqkd_node.calibration.fits.link_coupling import (
    SMALLEST_SHOWN,
    above_floor,
    coupling_quantity,
    coupling_series,
    isolation_notes,
)
from diqkd_node.calibration.fits.on_off import signal_rate
from diqkd_node.calibration.result import Finding, GoodnessOfFit, Quantity

Array = NDArray[np.float64]
NAMES = ("focus_rate", "inverse_radius", "focus", "floor", "background")


def fit_isolation_displacement(
    parts: Array, photons: Array, exposures: Array, background: tuple[int, float], distance_um: float
) -> Finding:
    """Coupling against displacement.

    :param parts: (n,) places, 0 the focus, 1 the isolated position
    :param photons: (n,) photons counted there
    :param exposures: (n,) s of open gates
    :param background: photons and exposure (s) without fluorescence
    :param distance_um: nominal way from focus to isolated position
    """
    all_parts = np.append(parts, 0.0)
    all_exposures = np.append(exposures, background[1])
    fluorescing = np.append(np.ones(len(parts)), 0.0)

    def expected(parameters: Array) -> Array:
        rate, inverse_radius, focus, floor, dark = parameters
        shape = above_floor(floor, np.exp(-((inverse_radius * (all_parts - focus)) ** 2)))
        means: Array = all_exposures * (rate * shape * fluorescing + abs(dark))
        return means

    dark = (background[0] + 0.5) / background[1]
    rate = float((photons / exposures).max())
    starts = [(rate, slope, 0.0, 1e-6, dark) for slope in (2.0, 4.0, 8.0)]
    fit = fit_poisson(expected, NAMES, starts, np.append(photons, background[0]))
    focus_rate = fit["focus_rate"]
    rates = [
        signal_rate(int(count), exposure, *background)
        for count, exposure in zip(photons, exposures, strict=True)
    ]
    out = int(np.argmin(np.abs(parts - 1.0)))
    isolated = coupling_quantity(rates[out], focus_rate)
    radius = fit.derived(lambda parameters: distance_um / abs(parameters[1]))
    fine = np.linspace(parts.min(), parts.max(), 400)
    shape = above_floor(
        max(fit["floor"], 0.0), np.exp(-((fit["inverse_radius"] * (fine - fit["focus"])) ** 2))
    )
    return Finding(
        quantities={
            "isolated_coupling": isolated,
            "focus_radius": Quantity(*radius, "µm"),
            "focus_offset": Quantity(
                distance_um * fit["focus"], distance_um * fit.standard_error("focus"), "µm"
            ),
            "focus_rate": Quantity(focus_rate, fit.standard_error("focus_rate"), "1/s"),
            "background_rate": Quantity(abs(fit["background"]), fit.standard_error("background"), "1/s"),
        },
        goodness_of_fit=GoodnessOfFit.of(fit),
        settings={},
        figure={
            "x_label": "displacement / µm",
            "y_label": "link coupling, relative to the focus",
            "log_y": True,
            "y_range": [SMALLEST_SHOWN, 3],
            "band": True,
            "series": [coupling_series("", (distance_um * parts).tolist(), rates, focus_rate)],
            "curves": [curve("", distance_um * fine, np.maximum(shape, SMALLEST_SHOWN))],
            "marks": [{"x": distance_um, "label": "isolated"}],
        },
        notes=isolation_notes("in the isolated position", isolated),
    )
