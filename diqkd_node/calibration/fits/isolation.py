"""How well moving the ion isolates the link: coupling against place and against time (SI Fig. S5, left).

The coupling is the rate of photons that reach the heralding station, relative to an ion in the focus. Two
statements are made. The one that security rests on needs no model: the posterior of the coupling above the
measured background, where the ion has arrived. The fit of a Gaussian focus above a floor of scattered light,
and of a first-order low-pass, says how wide the focus is, how fast the electrodes are, and when the coupling
has fallen to a given part. The floor may come out below zero, by chance.
"""

import math

import numpy as np
from numpy.typing import NDArray

from diqkd_node.calibration.fits.count_fit import fit_poisson
from diqkd_node.calibration.fits.description import curve
from diqkd_node.calibration.fits.on_off import SignalRate, signal_rate
from diqkd_node.calibration.result import Finding, GoodnessOfFit, Quantity

Array = NDArray[np.float64]
REQUIRED = 1e-4
SHORTEST_SETTLING = 30e-6
DISPLACEMENT_NAMES = ("focus_rate", "inverse_radius", "focus", "floor", "background")
TRANSIENT_NAMES = ("focus_rate", "distance", "time_constant", "floor", "background")
SMALLEST_SHOWN = 1e-7


def _coupling_quantity(rate: SignalRate, focus_rate: float) -> Quantity:
    return Quantity(
        rate.mode / focus_rate,
        (rate.high - rate.low) / 3.92 / focus_rate,
        "",
        low=rate.low / focus_rate,
        high=rate.high / focus_rate,
    )


def _notes(what: str, coupling: Quantity) -> tuple[str, ...]:
    assert coupling.high is not None
    if coupling.high <= REQUIRED:
        return ()
    if coupling.low is not None and coupling.low > REQUIRED:
        return (f"the coupling {what} is {coupling.value:.2g}, above {REQUIRED:g}: the link is not isolated",)
    return (
        f"the coupling {what} may be up to {coupling.high:.2g} (95 %); measure more shots to show that it is "
        f"below {REQUIRED:g}",
    )


def _series(label: str, x: list[float], rates: list[SignalRate], focus_rate: float) -> dict[str, object]:
    """Modes and 95 % intervals for a figure in decades, which has no room for 0."""
    low = [max(rate.low / focus_rate, SMALLEST_SHOWN / 10) for rate in rates]
    high = [max(rate.high / focus_rate, SMALLEST_SHOWN / 10) for rate in rates]
    y = [max(rate.mode / focus_rate, SMALLEST_SHOWN / 10) for rate in rates]
    return {"label": label, "x": x, "y": y, "low": low, "high": high}


def fit_displacement(
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
        shape = _above(floor, np.exp(-((inverse_radius * (all_parts - focus)) ** 2)))
        means: Array = all_exposures * (rate * shape * fluorescing + abs(dark))
        return means

    dark = (background[0] + 0.5) / background[1]
    rate = float((photons / exposures).max())
    starts = [(rate, slope, 0.0, 1e-6, dark) for slope in (2.0, 4.0, 8.0)]
    fit = fit_poisson(expected, DISPLACEMENT_NAMES, starts, np.append(photons, background[0]))
    focus_rate = fit["focus_rate"]
    rates = [
        signal_rate(int(count), exposure, *background)
        for count, exposure in zip(photons, exposures, strict=True)
    ]
    out = int(np.argmin(np.abs(parts - 1.0)))
    isolated = _coupling_quantity(rates[out], focus_rate)
    radius = fit.derived(lambda parameters: distance_um / abs(parameters[1]))
    fine = np.linspace(parts.min(), parts.max(), 400)
    shape = _above(max(fit["floor"], 0.0), np.exp(-((fit["inverse_radius"] * (fine - fit["focus"])) ** 2)))
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
            "series": [_series("", (distance_um * parts).tolist(), rates, focus_rate)],
            "curves": [curve("", distance_um * fine, np.maximum(shape, SMALLEST_SHOWN))],
            "marks": [{"x": distance_um, "label": "isolated"}],
        },
        notes=_notes("in the isolated position", isolated),
    )


def _above(floor: float, shape: Array) -> Array:
    coupling: Array = shape + floor * (1 - shape)
    return coupling


def _remaining(times: Array, distance: float, time_constant: float) -> Array:
    """(n,) coupling at `times` after the step; `distance` is the way in units of the focus' radius."""
    way = distance * -np.expm1(-np.maximum(times, 0.0) / time_constant)
    coupling: Array = np.exp(-(way**2))
    return coupling


def settling_time(part: float, distance: float, time_constant: float) -> float:
    """When the coupling has fallen to `part`; infinite if it never does."""
    way = math.sqrt(-math.log(part)) / abs(distance)
    return math.inf if way >= 1 else -abs(time_constant) * math.log1p(-way)


def fit_transient(
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
        shape = _above(floor, _remaining(inner, distance, abs(time_constant) + 1e-9) @ simpson)
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
    fit = fit_poisson(expected, TRANSIENT_NAMES, starts, np.concatenate([photons, background]))
    focus_rate = fit["focus_rate"]
    off = int(background.sum()), float(shots[1] * widths.sum())
    after = edges[:-1] >= settled - 1e-9
    late = signal_rate(int(photons[after].sum()), float(shots[0] * widths[after].sum()), *off)
    isolated = _coupling_quantity(late, focus_rate)
    fallen = fit.derived(lambda parameters: settling_time(REQUIRED, parameters[1], parameters[2]))
    notes = _notes(f"from {1e6 * settled:g} us on", isolated)
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
    shape = _above(max(fit["floor"], 0.0), _remaining(fine, fit["distance"], abs(fit["time_constant"])))
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
            "series": [_series("", (1e6 * middles).tolist(), rates, focus_rate)],
            "curves": [curve("", 1e6 * fine, np.maximum(shape, SMALLEST_SHOWN))],
            "marks": [{"x": 1e6 * settled, "label": "analysis begins"}],
        },
        notes=notes,
    )
