"""Heralds of two photon sources: how often they come, and what state they leave.

The published link (`link`) stands for two published sources; other sources change it as follows.

* Rate: two photons, one of each node, herald in half of the cases. A photon and a dark count, or two dark
  counts, in a gate of `GATE` look the same, and leave two ions that know nothing of each other.
* Coherence: at the beam splitter the photons have to be indistinguishable. Photons of a lifetime tau that
  come apart by t overlap by exp(-|t|/tau) (both of them: the square of exp(-|t|/2 tau)); what else tells
  them apart, a mismatch of modes, is `LinkModel.distinguishability`.
* Polarisation: ion and photon share a maximally entangled state, so a rotation of the photon's polarisation
  is a rotation of the ion by the same matrix, transposed.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim_devices.physics import constants
from sim_devices.physics.photon_source import PhotonSource

GATE = 40e-9  # s, of a detector
MAX_ATTEMPTS = 1 << 40  # until a herald: twelve days
_NUM_DETECTORS = 4
_PATTERNS_OF_ONE = 2  # heralding partners of a detector that has clicked


@dataclass(frozen=True)
class Heralding:
    """The published link with other sources.

    :ivar success: probability of a herald an attempt, relative to the published link's
    :ivar background: share of the heralds in which a dark count stands for a photon, beyond the published one
    :ivar coherence: of the heralded state, relative to the published one
    :ivar angles: rotation (rad) of each node's photons
    """

    success: float = 1.0
    background: float = 0.0
    coherence: float = 1.0
    angles: tuple[float, float] = (0.0, 0.0)

    def attempts(self, published: NDArray[np.int64]) -> NDArray[np.int64]:
        """Attempts until each herald out of those of the published link."""
        if self.success == 1.0:
            return published
        return np.maximum(1, np.minimum(published / max(self.success, 1e-30), MAX_ATTEMPTS).round()).astype(
            np.int64
        )

    def states(self, joint: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """(n, 2, 2, 2, 2) joint states out of those of the published link."""
        if not self.background and self.coherence == 1.0 and not any(self.angles):
            return joint
        after = joint.copy()
        after[:, 0, 1, 1, 0] *= self.coherence
        after[:, 1, 0, 0, 1] *= self.coherence
        first, second = (_rotation(angle) for angle in self.angles)
        after = np.einsum("ij,kl,njlqs,pq,rs->nikpr", first, second, after, first, second)
        unknown = np.eye(4).reshape(2, 2, 2, 2) / 4
        mixed: NDArray[np.complex128] = (1 - self.background) * after + self.background * unknown
        return mixed


PUBLISHED = Heralding()


def _rotation(angle: float) -> NDArray[np.float64]:
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, sine], [-sine, cosine]])


def heralding(
    alice: PhotonSource,
    bob: PhotonSource,
    *,
    distinguishability: float = 0.0,
    dark_rate: float = constants.STATION_DARK_RATE,
    lifetime: float = constants.PHOTON_LIFETIME,
) -> Heralding:
    """What two sources make of the link.

    :param distinguishability: part of the photons' modes, beside their times, in which they differ
    :param dark_rate: counts/s of all four detectors together
    :param lifetime: s, of the excited level
    """
    pairs, accidental = _rates(alice.brightness, bob.brightness, dark_rate)
    published_pairs, published_accidental = _rates(1.0, 1.0, constants.STATION_DARK_RATE)
    success = pairs + accidental
    published = published_pairs + published_accidental
    share = accidental / success if success else 0.0
    published_share = published_accidental / published
    apart = 1e-9 * abs(alice.time_ns - bob.time_ns)
    return Heralding(
        success / published,
        max(0.0, (share - published_share) / (1 - published_share)),
        (1 - distinguishability) * math.exp(-apart / lifetime),
        (alice.polarisation, bob.polarisation),
    )


def _rates(alice: float, bob: float, dark_rate: float) -> tuple[float, float]:
    """Heralds an attempt from two photons, and from dark counts."""
    photons = [constants.PHOTON_PROBABILITY * brightness for brightness in (alice, bob)]
    dark = dark_rate * GATE / _NUM_DETECTORS  # counts of a detector in its gate
    one_photon = sum(photons) * _PATTERNS_OF_ONE * dark
    no_photon = _NUM_DETECTORS * _PATTERNS_OF_ONE / 2 * dark**2
    return photons[0] * photons[1] / 2, one_photon + no_photon
