"""Heralds of two photon sources, against the whole state of two ions and two photons."""

import math
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from diqkd_postproc.protocol.roles import HERALD_PATTERNS
from sim_devices.physics import constants
from sim_devices.physics.expected_statistics import (
    alice_effects,
    bob_effects,
    chsh_and_qber,
    pattern_probabilities,
)
from sim_devices.physics.heralding import GATE, PUBLISHED, Heralding, heralding
from sim_devices.physics.link import joint_state
from sim_devices.physics.photon_source import PUBLISHED_SOURCE


def heralded(angles: tuple[float, float], overlap: float) -> NDArray[np.complex128]:
    """State of both ions after one click of each polarisation in different arms of the beam splitter.

    Each photon (0: along the field's pi, 1: sigma) belongs to the other level of its ion. Amplitudes of two
    photons at a 50:50 beam splitter; without overlap, which photon clicked where could be known.
    """
    amplitude = np.zeros((2, 2, 2, 2), dtype=complex)  # ion A, ion B, photon A, photon B
    for ion_a, ion_b in product((0, 1), repeat=2):
        amplitude[ion_a, ion_b, ion_a, ion_b] = 0.5
    for photon, angle in enumerate(angles):
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        amplitude = np.moveaxis(np.tensordot(turn, amplitude, axes=(1, 2 + photon)), 0, 2 + photon)
    straight, crossed = 0.5 * amplitude[:, :, 0, 1], -0.5 * amplitude[:, :, 1, 0]

    def outer(one: NDArray[np.complex128], other: NDArray[np.complex128]) -> NDArray[np.complex128]:
        return np.einsum("ab,cd->abcd", one, other.conj())

    rho = outer(straight, straight) + outer(crossed, crossed)
    rho += overlap * (outer(straight, crossed) + outer(crossed, straight))
    return rho / np.einsum("abab->", rho)


@pytest.mark.parametrize(
    ("angles", "overlap"),
    [((0.0, 0.0), 1.0), ((0.17, 0.0), 1.0), ((0.0, -0.3), 1.0), ((0.2, 0.1), 1.0), ((0.0, 0.0), 0.4)],
)
def test_states_are_those_of_the_whole_optical_state(angles: tuple[float, float], overlap: float) -> None:
    perfect = heralded((0.0, 0.0), 1.0)[np.newaxis]
    changed = Heralding(coherence=overlap, angles=angles).states(perfect)[0]
    np.testing.assert_allclose(changed, heralded(angles, overlap), atol=1e-12)


def test_overlap_of_photons_of_a_lifetime() -> None:
    """Against the integral of their amplitudes."""
    apart, lifetime = 5e-9, constants.PHOTON_LIFETIME
    times = np.linspace(0.0, 60 * lifetime, 600_001)
    early = np.exp(-times / (2 * lifetime))
    late = np.where(times >= apart, np.exp(-(times - apart) / (2 * lifetime)), 0.0)
    overlap = np.trapezoid(early * late, times) ** 2 / np.trapezoid(early**2, times) ** 2
    source = PUBLISHED_SOURCE._replace(time_ns=PUBLISHED_SOURCE.time_ns + 5.0)
    assert heralding(PUBLISHED_SOURCE, source).coherence == pytest.approx(overlap, rel=1e-4)


def test_published_sources_change_nothing() -> None:
    assert heralding(PUBLISHED_SOURCE, PUBLISHED_SOURCE) == PUBLISHED
    states = np.array([joint_state(pattern) for pattern in HERALD_PATTERNS])
    assert PUBLISHED.states(states) is states
    attempts = np.array([1, 6250, 1 << 30])
    assert PUBLISHED.attempts(attempts) is attempts


def test_rate_is_the_product_of_both_sources() -> None:
    half = PUBLISHED_SOURCE._replace(brightness=0.5)
    assert heralding(half, PUBLISHED_SOURCE).success == pytest.approx(0.5, rel=1e-3)
    assert heralding(half, half).success == pytest.approx(0.25, rel=1e-3)


def test_dark_counts_herald_by_enumeration_of_the_gates() -> None:
    """All sets of detectors that a photon, or none, and dark counts can make, at 10 000 times the rate."""
    dark_rate = 1e4 * constants.STATION_DARK_RATE
    dark = dark_rate * GATE / 4
    photon = constants.PHOTON_PROBABILITY
    accidental = 0.0
    for at in (None, 0, 1, 2, 3):  # where the one photon clicks
        chance = (1 - photon) ** 2 if at is None else 2 * photon * (1 - photon) / 4
        for counts in product((0, 1), repeat=4):
            clicks = sum(1 << bit for bit in range(4) if counts[bit] or bit == at)
            if clicks in HERALD_PATTERNS:
                weight = math.prod(dark if count else 1 - dark for count in counts)
                accidental += chance * weight
    result = heralding(PUBLISHED_SOURCE, PUBLISHED_SOURCE, dark_rate=dark_rate)
    assert result.background == pytest.approx(accidental / (accidental + photon**2 / 2), rel=0.05)


def scores(changed: Heralding) -> tuple[float, float]:
    """S and Q of the published chain with other heralds."""
    tables = [
        pattern_probabilities(
            changed.states(joint_state(pattern)[np.newaxis])[0], alice_effects(), bob_effects(pattern)
        )
        for pattern in HERALD_PATTERNS
    ]
    return chsh_and_qber(np.mean(tables, axis=0))


@pytest.mark.parametrize(
    ("changed", "score", "error_rate"),
    [
        # S = sqrt 2 (ZZ + coherence) for the angles of Bob's pulses, with ZZ and XX of the published link.
        (Heralding(coherence=0.9), lambda zz, xx: math.sqrt(2) * (zz + 0.9 * xx), lambda zz: (1 - zz) / 2),
        (
            Heralding(background=0.05),
            lambda zz, xx: 0.95 * math.sqrt(2) * (zz + xx),
            lambda zz: (1 - 0.95 * zz) / 2,
        ),
        # A rotation by 10 degrees turns the qubit by 20; Bob's phases are not calibrated to it.
        (
            Heralding(angles=(math.radians(10), 0.0)),
            None,
            lambda zz: (1 - math.cos(math.radians(20)) * zz) / 2,
        ),
    ],
)
def test_perturbations_move_scores_as_predicted(changed, score, error_rate) -> None:
    published_score, published_errors = scores(PUBLISHED)
    zz = 1 - 2 * published_errors
    xx = published_score / math.sqrt(2) - zz
    found_score, found_errors = scores(changed)
    assert found_errors == pytest.approx(error_rate(zz), abs=5e-4)
    if score is not None:
        assert found_score == pytest.approx(score(zz, xx), abs=0.01)
    else:
        assert found_score < published_score - 0.05
