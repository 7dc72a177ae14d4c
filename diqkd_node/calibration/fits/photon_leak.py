"""Photons that leak to the station during readout: clicks with the ion bright and dark (SI Table S5).

What an adversary at the end of the fibre learns about an outcome comes from the difference between the two:
dark counts and stray light do not depend on it. The number of photons is that of clicks over the efficiency
from the fibre to a click, for which SI section S2 D has coupling losses of about 25 % and a quantum
efficiency of about 70 %.
"""

import math

import numpy as np
from numpy.typing import NDArray

from diqkd_node.calibration.fits.on_off import signal_rate
from diqkd_node.calibration.result import Finding, GoodnessOfFit, Quantity

Array = NDArray[np.float64]

DETECTION_EFFICIENCY = 0.75 * 0.70
PLACES = {"link connected": 0.0, "link isolated": 1.0}


def joint_leaks(clicks: Array, rounds: Array, bright: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Clicks that a bright readout of each node adds to a round, by weighted least squares.

    :param clicks: (n,) clicks under each joint outcome, as in Table S5
    :param rounds: (n,) rounds with it
    :param bright: (n, k) which of k nodes was bright
    :returns: values and standard errors, (k,), in clicks a round
    """
    design = np.column_stack([np.ones(len(rounds)), bright.astype(np.float64)])
    mean = clicks / rounds
    weights = rounds / np.maximum(mean, 1.0 / rounds)  # inverse variance of a mean of Poisson counts
    covariance = np.linalg.inv(design.T @ (design * weights[:, None]))
    values = covariance @ design.T @ (weights * mean)
    return values[1:], np.sqrt(np.diag(covariance))[1:]


def find_photon_leak(
    clicks: dict[str, tuple[int, int]],
    shots: dict[str, tuple[int, int]],
    efficiency: float = DETECTION_EFFICIENCY,
) -> Finding:
    """Leak of one node.

    :param clicks: by the names of PLACES, clicks with a bright and with a dark ion
    :param shots: readouts of each
    :param efficiency: clicks per photon in the fibre
    """
    connected, isolated = PLACES
    quantities: dict[str, Quantity] = {}
    added = {}
    for place in PLACES:
        (bright, dark), (num_bright, num_dark) = clicks[place], shots[place]
        rate = signal_rate(bright, num_bright, dark, num_dark)
        error = math.sqrt((bright + 1) / num_bright**2 + (dark + 1) / num_dark**2)
        added[place] = (bright / num_bright - dark / num_dark, error, rate)
    _, error, rate = added[isolated]
    quantities["leaked_photons"] = leak = Quantity(
        rate.mode / efficiency, error / efficiency, "", rate.low / efficiency, rate.high / efficiency
    )
    photons, photon_error, _ = added[connected]
    quantities["photons_when_connected"] = Quantity(photons / efficiency, photon_error / efficiency, "")
    quantities["suppression"] = Quantity(
        rate.mode / photons, error / photons, "", rate.low / photons, rate.high / photons
    )
    dark_clicks, num_dark = clicks[isolated][1], shots[isolated][1]
    quantities["dark_clicks"] = Quantity(dark_clicks / num_dark, math.sqrt(dark_clicks + 1) / num_dark, "")
    assert leak.high is not None
    entropy = _binary_entropy(min(leak.high / 2, 0.5))
    quantities["leaked_information"] = Quantity(
        _binary_entropy(min(leak.value / 2, 0.5)), 0.0, "bit", low=0.0, high=entropy
    )
    return Finding(
        quantities=quantities,
        # Counts are compared, not fitted.
        goodness_of_fit=GoodnessOfFit(0.0, 0, 1.0),
        settings={},
        figure={
            "x_label": "0: link connected    1: link isolated",
            "y_label": "clicks per readout, all detectors",
            "log_y": True,
            "series": [
                _series(label, index, clicks, shots) for index, label in enumerate(("bright", "dark"))
            ],
            "curves": [],
        },
        notes=_notes(leak),
    )


def _binary_entropy(p: float) -> float:
    if p <= 0.0 or p >= 1.0:
        return 0.0
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def _notes(leak: Quantity) -> tuple[str, ...]:
    if leak.low is not None and leak.low > 0:
        return (f"a bright readout sends {leak.value:.2g} photons to the station; see `leaked information`",)
    return ()


def _series(
    label: str, index: int, clicks: dict[str, tuple[int, int]], shots: dict[str, tuple[int, int]]
) -> dict[str, object]:
    """Means with 95 % intervals; in decades there is no room for 0."""
    x, y, low, high = [], [], [], []
    for place, part in PLACES.items():
        count, number = clicks[place][index], shots[place][index]
        x.append(part + 0.02 * (2 * index - 1))
        y.append(max(count, 0.3) / number)
        low.append(max(count - 1.96 * math.sqrt(count), 0.2) / number)
        high.append((count + 1.96 * math.sqrt(count) + 3.0) / number)
    return {"label": f"{label} ion", "x": x, "y": y, "low": low, "high": high}
