"""Pulses make measurements: checked against closed forms of two-level physics."""

import math

import numpy as np
import pytest

from sim_devices.physics import constants
from sim_devices.physics.ion import Ion, Pulse, driven_transition, pulse_unitary

MAP, QUBIT, SHELVE = (entry[0] for entry in constants.TRANSITIONS)
X = np.array([[0, 1], [1, 0]])
Y = np.array([[0, -1j], [1j, 0]])
Z = np.diag([1, -1])
IDEAL = Ion(coherence_time=1e9, pulse_error=0.0)


@pytest.fixture(autouse=True)
def _stable_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "D_LIFETIME", 1e12)


def pi_pulse(frequency: float, fraction: float = 1.0, phase: float = 0.0) -> Pulse:
    return Pulse(0.0, constants.PI_TIME * fraction, frequency, phase, constants.PI_AMPLITUDE, 0.0)


def test_without_pulses_both_zeeman_states_are_bright() -> None:
    np.testing.assert_allclose(IDEAL.bright_effect((), 1e-5), np.eye(2), atol=1e-12)


def test_mapping_makes_the_computational_basis() -> None:
    np.testing.assert_allclose(IDEAL.bright_effect((pi_pulse(MAP),), 1e-5), np.diag([1, 0]), atol=1e-12)


def test_shelving_hides_what_a_bad_mapping_pulse_left() -> None:
    bad_mapping = pi_pulse(MAP, 0.9)
    without = IDEAL.bright_effect((bad_mapping,), 1e-5)[1, 1].real
    with_shelving = IDEAL.bright_effect((bad_mapping, pi_pulse(SHELVE)), 1e-5)[1, 1].real
    assert without == pytest.approx(math.sin(0.05 * math.pi) ** 2)
    assert with_shelving == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("angle", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("phase", [0.0, 0.1, 0.5, 0.83])
def test_analysis_pulse_measures_the_rotated_axis(angle: float, phase: float) -> None:
    """Rxy(t, f)^+ Z Rxy(t, f) = cos t Z + sin t (cos f Y - sin f X), R = exp(-i t/2 (cos f X + sin f Y)).

    The mapping pulse at phase 0 carries m=+1/2 to -i D: in the Zeeman qubit's frame X -> Y, Y -> -X.
    """
    theta, azimuth = math.pi * angle, 2 * math.pi * phase
    half = theta / 2
    rotation = math.cos(half) * np.eye(2) - 1j * math.sin(half) * (
        math.cos(azimuth) * X + math.sin(azimuth) * Y
    )
    mapping = np.diag([1, -1j])
    bright = mapping.conj().T @ rotation.conj().T @ np.diag([1, 0]) @ rotation @ mapping
    effect = IDEAL.bright_effect((pi_pulse(MAP), pi_pulse(QUBIT, angle, phase)), 1e-5)
    np.testing.assert_allclose(effect, bright, atol=1e-12)


def test_detuned_pulse_follows_rabi() -> None:
    detuning = 60e3
    pulse = Pulse(0.0, 7e-6, QUBIT + detuning, 0.0, constants.PI_AMPLITUDE, 0.0)
    rotation, _, _ = pulse_unitary(pulse) or (np.eye(2), 0, 0)
    rabi, offset = math.pi / constants.PI_TIME, 2 * math.pi * detuning
    total = math.hypot(rabi, offset)
    assert abs(rotation[1, 0]) ** 2 == pytest.approx((rabi / total) ** 2 * math.sin(total * 7e-6 / 2) ** 2)
    np.testing.assert_allclose(rotation @ rotation.conj().T, np.eye(2), atol=1e-12)


def test_tracked_phase_of_two_detuned_pulses_is_that_of_one_long_pulse() -> None:
    detuning = 35e3
    whole = pulse_unitary(Pulse(1e-6, 6e-6, QUBIT + detuning, 0.2, 0.5, 0.0))
    first = pulse_unitary(Pulse(1e-6, 2e-6, QUBIT + detuning, 0.2, 0.5, 0.0))
    second = pulse_unitary(Pulse(3e-6, 4e-6, QUBIT + detuning, 0.2, 0.5, 0.0))
    assert whole and first and second
    np.testing.assert_allclose(second[0] @ first[0], whole[0], atol=1e-12)


def test_pulse_far_from_every_resonance_does_nothing() -> None:
    assert driven_transition(101e6) is None
    far = Pulse(0.0, 5e-6, 101e6, 0.0, 1.0, 0.0)
    np.testing.assert_allclose(IDEAL.bright_effect((far,), 1e-5), np.eye(2), atol=1e-12)


def test_ramsey_contrast_is_gaussian_with_the_coherence_time() -> None:
    """Two pi/2 pulses half a turn apart undo each other; after the 1/e time the contrast is 1/e."""
    ion = Ion(coherence_time=4.2e-3, pulse_error=0.0)
    wait = 4.2e-3
    pulses = (
        Pulse(0.0, constants.PI_TIME / 2, QUBIT, 0.0, 0.5, 0.0),
        Pulse(wait, constants.PI_TIME / 2, QUBIT, 0.5, 0.5, 0.0),
    )
    bright = ion.bright_effect(pulses, wait + 1e-5)[0, 0].real
    assert 2 * bright - 1 == pytest.approx(math.exp(-1), abs=2e-3)


def test_effects_are_effects() -> None:
    ion = Ion(coherence_time=1e-3)
    rng = np.random.default_rng(3)
    for _ in range(20):
        pulses = tuple(
            Pulse(
                1e-5 * n, 8e-6 * rng.random(), float(rng.choice([MAP, QUBIT, SHELVE])), rng.random(), 0.5, 0.0
            )
            for n in range(4)
        )
        effect = ion.bright_effect(pulses, 1e-4)
        np.testing.assert_allclose(effect, effect.conj().T, atol=1e-12)
        eigenvalues = np.linalg.eigvalsh(effect)
        assert eigenvalues.min() > -1e-12 and eigenvalues.max() < 1 + 1e-12
