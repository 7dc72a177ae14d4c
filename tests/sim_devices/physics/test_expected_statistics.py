"""The chain of link, pulses and readout gives the published figures (SI Table S4, Fig. S3)."""

import math

import numpy as np
import pytest

from diqkd_postproc.protocol.roles import HERALD_PATTERNS
from sim_devices.physics import constants
from sim_devices.physics.expected_statistics import chain_probabilities, chsh_and_qber
from sim_devices.physics.fluorescence import PhotonCounter, discrimination
from sim_devices.physics.link import LinkModel, attempts_until_herald, coupling, fully_entangled_fraction

# P(A, B | X, Y): [x][y] -> rows A, columns B.
PUBLISHED = {
    (0, 0): [[0.415, 0.0688], [0.0961, 0.420]],
    (1, 0): [[0.3928, 0.0916], [0.0851, 0.431]],
    (0, 1): [[0.439, 0.0805], [0.0735, 0.4068]],
    (1, 1): [[0.0820, 0.437], [0.3970, 0.0841]],
    (0, 2): [[0.5017, 0.00339], [0.0110, 0.4839]],
}


def test_whole_chain_gives_the_published_score_and_error_rate() -> None:
    score, qber = chsh_and_qber(chain_probabilities())
    assert score == pytest.approx(2.677, abs=1e-3)
    assert qber == pytest.approx(0.0144, abs=1e-5)


def test_twenty_probabilities_are_near_the_published_table() -> None:
    table = chain_probabilities()
    np.testing.assert_allclose(table.sum(axis=(2, 3)), 1.0, atol=1e-12)
    for (x, y), published in PUBLISHED.items():
        np.testing.assert_allclose(table[x, y], published, atol=0.03)
    np.testing.assert_allclose(table[0, 2], PUBLISHED[0, 2], atol=1e-3)


def test_ideal_link_comes_close_to_tsirelson() -> None:
    score, qber = chsh_and_qber(chain_probabilities(kind="ideal"))
    assert 2.80 < score < 2 * math.sqrt(2)
    assert qber < 5e-3


@pytest.mark.parametrize("pattern", HERALD_PATTERNS)
def test_states_are_states_of_published_fidelity(pattern: int) -> None:
    rho = LinkModel().state(pattern)
    matrix = rho.reshape(4, 4)
    assert np.trace(matrix).real == pytest.approx(1.0)
    assert np.linalg.eigvalsh(matrix).min() > 0
    np.testing.assert_allclose(matrix, matrix.conj().T)
    assert fully_entangled_fraction(rho) == pytest.approx(0.96, abs=0.007)


def test_visibility_scales_the_score() -> None:
    whole, _ = chsh_and_qber(chain_probabilities())
    half, qber = chsh_and_qber(chain_probabilities(kind="lossy", visibility=0.5))
    assert half == pytest.approx(whole / 2, rel=2e-3)
    assert qber == pytest.approx(0.25 + 0.0144 / 2, abs=2e-3)


def test_coupling_falls_as_published() -> None:
    """SI Fig. S5: below 1e-4 at 30 us after the step of a 30 us low-pass, full in the focus."""
    assert coupling(0.0) == 1.0
    assert coupling(3.0 * (1 - math.exp(-1))) < 1.1e-4
    assert coupling(3.0) == constants.COUPLING_FLOOR


def test_attempts_have_the_published_mean() -> None:
    """False alarm: 6 standard errors, 2e-9."""
    attempts = attempts_until_herald(np.random.default_rng(5), 1.6e-4, 40_000)
    mean = 1 / 1.6e-4
    assert abs(attempts.mean() - mean) < 6 * mean / math.sqrt(len(attempts))
    assert attempts.min() >= 1


def test_discrimination_matches_sampled_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decay made frequent, so that it shows. False alarm: 6 standard errors, 2e-9."""
    monkeypatch.setattr(constants, "D_LIFETIME", 2e-2)
    counter = PhotonCounter(np.random.default_rng(8))
    num = 40_000
    bright, dark = discrimination()
    threshold, window = constants.READOUT_THRESHOLD, constants.READOUT_WINDOW
    misread = sum(counter.dark(window) >= threshold for _ in range(num)) / num
    assert abs(misread - dark) < 6 * math.sqrt(dark * (1 - dark) / num)
    assert sum(counter.bright(window) >= threshold for _ in range(num)) == num
    assert bright > 1 - 1e-9
