"""Coherence of a 674 nm transition from Ramsey fringes, and how far the light is from resonance.

Two pi/2 pulses, the second with a phase phi, a time t after the first: bright fraction = middle + contrast
exp(-(t/T)^2) exp(-t/2 tau) cos(2 pi (phi - d t) + phi_0), with the 1/e time T of the Gaussian contrast (SI
Table S3), the lifetime tau of D5/2 and the detuning d = resonance - light. All waits are fitted at once, so
that contrast and phase share what they have in common.
"""

import numpy as np
from numpy.typing import NDArray

from diqkd_node.calibration.fits.count_fit import fit_binomial
from diqkd_node.calibration.fits.figure_description import curve
from diqkd_node.calibration.result import Finding, GoodnessOfFit, Quantity

Array = NDArray[np.float64]
NAMES = ("coherence_time", "detuning", "cosine", "sine", "middle")
D_LIFETIME = 0.39  # s, of 4D5/2
NUM_DETUNINGS = 4000


def contrast(waits: Array, coherence_time: float) -> Array:
    """(n,) contrast relative to that of no wait, at `waits` (s)."""
    left: Array = np.exp(-((waits / coherence_time) ** 2) - waits / (2 * D_LIFETIME))
    return left


def bright_fraction(waits: Array, phases: Array, fringe: Array) -> Array:
    """(n,) model; `fringe` holds `NAMES`, the detuning in units of 1/longest wait."""
    coherence_time, detuning, cosine, sine, middle = fringe
    turn = 2 * np.pi * (phases - detuning * waits / waits.max())
    wave: Array = middle + contrast(waits, coherence_time) * (cosine * np.cos(turn) + sine * np.sin(turn))
    return wave


def fit_ramsey_coherence(
    waits: Array, phases: Array, bright: Array, shots: Array, light: float, setting: str | None = None
) -> Finding:
    """Coherence time and resonance from `bright` of `shots` after `waits` (s, from the middle of one pulse to
    that of the other), the second pulse at `phases` (turns); arrays (n,).

    :param light: frequency of the pulses, Hz
    :param setting: field of the configuration that takes the resonance
    """
    seen = np.asarray(bright) / np.asarray(shots)
    starts = _starts(waits, phases, seen)
    fit = fit_binomial(lambda fringe: bright_fraction(waits, phases, fringe), NAMES, starts, bright, shots)
    longest = float(waits.max())
    coherence_time = Quantity(abs(fit["coherence_time"]), fit.standard_error("coherence_time"), "s")
    resonance = Quantity(light + fit["detuning"] / longest, fit.standard_error("detuning") / longest, "Hz")
    amplitude = fit.derived(lambda fringe: float(2 * np.hypot(fringe[2], fringe[3])))
    series = _fringe_contrasts(waits, phases, bright, shots)
    fine = np.linspace(0, longest, 300)
    return Finding(
        quantities={
            "coherence_time": coherence_time,
            "frequency": resonance,
            "contrast": Quantity(*amplitude, ""),
        },
        goodness_of_fit=GoodnessOfFit.of(fit),
        settings={} if setting is None else {setting: resonance.rounded},
        figure={
            "x_label": "wait / ms",
            "y_label": "fringe contrast",
            "y_range": [-0.04, 1.1],
            "series": [series],
            "curves": [curve("", 1e3 * fine, amplitude[0] * contrast(fine, coherence_time.value))],
            "marks": [{"x": 1e3 * coherence_time.value, "label": "1/e of the Gaussian"}],
        },
    )


def _starts(waits: Array, phases: Array, seen: Array) -> list[tuple[float, ...]]:
    """First guesses: fringes of many detunings and coherence times, fitted by linear regression."""
    longest = float(waits.max())
    shortest = float(np.diff(np.unique(waits)).min())
    reach = min(0.4 * longest / shortest, NUM_DETUNINGS / 8)
    guesses = []
    for coherence_time in longest * np.array([0.2, 0.4, 0.8, 2.0]):
        left = contrast(waits, coherence_time)
        for detuning in np.linspace(-reach, reach, int(8 * reach) + 1):
            turn = 2 * np.pi * (phases - detuning * waits / longest)
            # With phases in equal steps the columns are orthogonal: projections instead of a regression.
            wave = left * np.exp(1j * turn)
            amplitude = 2 * np.vdot(wave, seen - seen.mean()) / np.vdot(wave, wave).real
            power = abs(amplitude) ** 2 * float(left @ left)
            guesses.append((-power, coherence_time, detuning, amplitude.real, -amplitude.imag, seen.mean()))
    guesses.sort()
    return [tuple(float(value) for value in guess[1:]) for guess in guesses[:6]]


def _fringe_contrasts(waits: Array, phases: Array, bright: Array, shots: Array) -> dict[str, object]:
    """Contrast of each wait's fringe alone with 95 % intervals, for the figure."""
    x, y, low, high = [], [], [], []
    seen = np.asarray(bright) / np.asarray(shots)
    for wait in np.unique(waits):
        here = waits == wait
        wave = np.exp(2j * np.pi * phases[here])
        total = np.vdot(seen[here], wave)
        amplitude = 4 * abs(total) / here.sum()
        # The part of each point's error that is along the fringe; a bright or dark count is never certain.
        along = (wave * total.conjugate()).real / max(abs(total), 1e-12)
        trials = np.asarray(shots)[here]
        level = (seen[here] * trials + 1) / (trials + 2)
        error = 4 / here.sum() * np.sqrt((along**2 * level * (1 - level) / trials).sum())
        x.append(1e3 * float(wait))
        y.append(float(amplitude))
        low.append(float(amplitude - 1.96 * error))
        high.append(float(amplitude + 1.96 * error))
    return {"label": "", "x": x, "y": y, "low": low, "high": high}
