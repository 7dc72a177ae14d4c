"""Coupling of an ion to the link: the rate of photons at the heralding station, relative to the focus.

What security rests on needs no model: the posterior of the coupling above the measured background, where the
ion has arrived.
"""

import numpy as np
from numpy.typing import NDArray

from diqkd_node.calibration.fits.on_off import SignalRate
from diqkd_node.calibration.result import Quantity

Array = NDArray[np.float64]
REQUIRED = 1e-4
SMALLEST_SHOWN = 1e-7


def coupling_quantity(rate: SignalRate, focus_rate: float) -> Quantity:
    """Mode, error and 95 % interval of a coupling."""
    return Quantity(
        rate.mode / focus_rate,
        (rate.high - rate.low) / 3.92 / focus_rate,
        "",
        low=rate.low / focus_rate,
        high=rate.high / focus_rate,
    )


def isolation_notes(what: str, coupling: Quantity) -> tuple[str, ...]:
    """What to say where the coupling is not shown to be as small as required."""
    assert coupling.high is not None
    if coupling.high <= REQUIRED:
        return ()
    if coupling.low is not None and coupling.low > REQUIRED:
        return (f"the coupling {what} is {coupling.value:.2g}, above {REQUIRED:g}: the link is not isolated",)
    return (
        f"the coupling {what} may be up to {coupling.high:.2g} (95 %); measure more shots to show that it is "
        f"below {REQUIRED:g}",
    )


def coupling_series(
    label: str, x: list[float], rates: list[SignalRate], focus_rate: float
) -> dict[str, object]:
    """Modes and 95 % intervals for a figure in decades, which has no room for 0."""
    low = [max(rate.low / focus_rate, SMALLEST_SHOWN / 10) for rate in rates]
    high = [max(rate.high / focus_rate, SMALLEST_SHOWN / 10) for rate in rates]
    y = [max(rate.mode / focus_rate, SMALLEST_SHOWN / 10) for rate in rates]
    return {"label": label, "x": x, "y": y, "low": low, "high": high}


def above_floor(floor: float, shape: Array) -> Array:
    """(n,) coupling of which `floor` is left however far the ion is: scattered light."""
    coupling: Array = shape + floor * (1 - shape)
    return coupling
