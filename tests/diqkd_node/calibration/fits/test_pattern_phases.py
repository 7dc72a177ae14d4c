"""Fringes with known phases."""

import numpy as np
import pytest

from diqkd_node.calibration.fits.pattern_phases import fit_pattern_phases
from diqkd_postproc.protocol.errors import ParameterError

PHASES = np.arange(8) / 8
TRUTH = np.array([0.2127, 0.7042, 0.999, 0.0004])  # two of them at the turn's end
NAMES = ["0011", "0101", "1010", "1100"]


def counts(rng: np.random.Generator, rounds: int, contrast: float = 0.93) -> tuple[np.ndarray, np.ndarray]:
    waves = np.cos(2 * np.pi * (PHASES - TRUTH[:, None]))
    shots = rng.poisson(rounds, waves.shape)
    return rng.binomial(shots, 0.5 + contrast / 2 * waves), shots


def test_planted_phases_are_found_within_their_errors() -> None:
    """30 runs of 4 fringes: the squared pulls sum to a chi-squared of 120 degrees of freedom, which is
    outside [60, 205] with probability below 1e-6. The seed is fixed."""
    rng = np.random.default_rng(3)
    total = 0.0
    for _ in range(30):
        finding = fit_pattern_phases(PHASES, *counts(rng, 40), NAMES)
        for name, truth in zip(NAMES, TRUTH, strict=True):
            phase = finding.quantities[f"phase_{name}"]
            assert 0 <= phase.value < 1 and phase.unit == "turns"
            deviation = (phase.value - truth + 0.5) % 1 - 0.5
            assert abs(deviation) < 0.05
            total += (deviation / phase.standard_error) ** 2
        assert finding.goodness_of_fit.p_value > 1e-5
        assert all(0 <= turns < 1 for turns in finding.settings["analysis.pattern_phase_turns"])
    assert 60 < total < 205


def test_a_fringe_that_is_none_is_noticed() -> None:
    won, rounds = counts(np.random.default_rng(5), 400)
    won[1] = rounds[1] // 2
    with pytest.raises(ParameterError, match="fringe of herald pattern 0101 has a contrast of"):
        fit_pattern_phases(PHASES, won, rounds, NAMES)
    won, rounds = counts(np.random.default_rng(5), 400)
    won[2, ::2] = rounds[2, ::2] // 3
    assert fit_pattern_phases(PHASES, won, rounds, NAMES).goodness_of_fit.p_value < 0.01


def test_a_pattern_that_never_came_is_named() -> None:
    won, rounds = counts(np.random.default_rng(5), 400)
    won[3], rounds[3] = 0, 0
    with pytest.raises(ParameterError, match="herald pattern 1100 came at 0 phases"):
        fit_pattern_phases(PHASES, won, rounds, NAMES)
