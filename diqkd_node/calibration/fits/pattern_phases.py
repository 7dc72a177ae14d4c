"""Phases of Bob's analysis pulses, one for each herald pattern, from fringes of the link.

Alice measures as for x = 1; Bob scans the phase of a pi/2 pulse. In the state (|01> + e^(i phi) |10>)/sqrt2 a
round would be won for y = 0, A xor B = 0, with a probability m + a cos(2 pi (p - p0)) at a phase of p turns,
whose maximum p0 = 1/2 - phi/(2 pi) is what `pattern_phase_turns` has to be.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from diqkd_node.calibration.fits.count_fit import CountFit, fit_binomial
from diqkd_node.calibration.fits.figure_description import binomial_series, curve
from diqkd_node.calibration.result import Finding, GoodnessOfFit, Quantity
from diqkd_postproc.protocol.errors import ParameterError

Array = NDArray[np.float64]
NAMES = ("cosine", "sine", "middle")
FIELD = "analysis.pattern_phase_turns"
SMALLEST_CONTRAST = 0.2


def won_fraction(phases: Array, parameters: Array) -> Array:
    """(n,) probability of a won round at `phases` (turns)."""
    cosine, sine, middle = parameters
    model: Array = middle + cosine * np.cos(2 * np.pi * phases) + sine * np.sin(2 * np.pi * phases)
    return model


def fit_pattern_phases(
    phases: Array, won: NDArray[np.int64], rounds: NDArray[np.int64], patterns: list[str]
) -> Finding:
    """Phases (turns) of the maxima of `won` of `rounds`, both (k patterns, n phases).

    The settings are in the order of `patterns`. Raises ParameterError where a fringe has too few rounds or no
    contrast.
    """
    if rounds.shape != (len(patterns), len(phases)) or won.shape != rounds.shape:
        raise ParameterError(f"counts of shape {rounds.shape} for {len(patterns)} patterns and {len(phases)}")
    quantities, maxima, series, curves, marks, fits = {}, [], [], [], [], []
    fine = np.linspace(0, 1, 201)
    for name, won_row, rounds_row in zip(patterns, won, rounds, strict=True):
        fit = _fit(phases, won_row, rounds_row, name)
        turns, error = fit.derived(_turns_near(fit))
        quantities[f"phase_{name}"] = phase = Quantity(turns % 1.0, error, "turns")
        maxima.append(phase.rounded % 1.0)
        fits.append(fit)
        seen = rounds_row > 0
        series.append(binomial_series(name, phases[seen], won_row[seen], rounds_row[seen]))
        curves.append(curve("", fine, won_fraction(fine, fit.parameters)))
        marks.append({"x": phase.value, "label": ""})
    for name, fit in zip(patterns, fits, strict=True):
        contrast, error = fit.derived(lambda p: float(2 * np.hypot(p[0], p[1])))
        quantities[f"contrast_{name}"] = Quantity(contrast, error, "")
    smallest = min(fit.p_value for fit in fits)
    return Finding(
        quantities=quantities,
        goodness_of_fit=GoodnessOfFit(
            deviance=float(sum(fit.deviance for fit in fits)),
            degrees_of_freedom=sum(fit.degrees_of_freedom for fit in fits),
            # The worst of several fringes (Bonferroni).
            p_value=min(1.0, len(fits) * smallest),
        ),
        settings={FIELD: maxima},
        figure={
            "x_label": "phase of Bob's pulse / turns",
            "y_label": "fraction with A xor B = 0",
            "y_range": [-0.04, 1.04],
            "series": series,
            "curves": curves,
            "marks": marks,
        },
    )


def _fit(phases: Array, won: NDArray[np.int64], rounds: NDArray[np.int64], name: str) -> CountFit:
    seen = rounds > 0
    if np.unique(phases[seen]).size <= len(NAMES):
        raise ParameterError(
            f"herald pattern {name} came at {int(seen.sum())} phases only; take more rounds, or leave it out"
        )
    x, share = phases[seen], won[seen] / rounds[seen]
    waves = np.stack([np.cos(2 * np.pi * x), np.sin(2 * np.pi * x), np.ones_like(x)], axis=1)
    guess, *_ = np.linalg.lstsq(waves, share, rcond=None)
    fit = fit_binomial(
        lambda parameters: won_fraction(x, parameters), NAMES, [guess.tolist()], won[seen], rounds[seen]
    )
    contrast, error = fit.derived(lambda p: float(2 * np.hypot(p[0], p[1])))
    if contrast < max(SMALLEST_CONTRAST, 4 * error):
        raise ParameterError(
            f"the fringe of herald pattern {name} has a contrast of {contrast:.2f} ± {error:.2f}: it tells "
            "no phase; take more rounds, or look for what destroys the entanglement"
        )
    return fit


def _turns_near(fit: CountFit) -> Callable[[Array], float]:
    """The phase of the maximum as a function of the parameters, without a jump at the fit."""
    middle = np.arctan2(fit["sine"], fit["cosine"])

    def turns(parameters: Array) -> float:
        offset = np.arctan2(parameters[1], parameters[0]) - middle
        return float((middle + (offset + np.pi) % (2 * np.pi) - np.pi) / (2 * np.pi))

    return turns
