"""A node's ion as a source of photons: what one attempt gives the station.

An attempt pumps the ion into S1/2 m=-1/2 (422 nm sigma light), excites it to P1/2 m=+1/2 (a picosecond pulse)
and lets it decay: to m=+1/2 by a pi photon in a third of the cases, else to m=-1/2 by a sigma photon, which
perpendicular to the field are collected alike and polarised at right angles (SI S2 A). One decay in eighteen
goes to D3/2 and gives no photon at 422 nm; 1092 nm light brings the ion back. An ion that is not pumped is
not excited: what is wrong with the light of an attempt shows in the rate of heralds, not in their states.
The populations before a pulse are those of a long row of equal attempts.
"""

import math
from typing import NamedTuple

from sim_devices.physics import constants
from sim_devices.physics.node_parameters import Nature

TO_PLUS = 1 / 3  # of the decays to S1/2, to m=+1/2: squares of the Clebsch-Gordan coefficients
TO_D = 0.0545  # of all decays of 5P1/2, to 4D3/2 (Likforman et al., Phys. Rev. A 93, 052507 (2016))


class AttemptLight(NamedTuple):
    """Light of an attempt (ns): how long the ion is pumped and repumped before the pulse, and when the pulse
    comes after the attempt's start; None where there is none."""

    pumping_ns: int
    repumping_ns: int
    pulse_ns: int | None


PUBLISHED_LIGHT = AttemptLight(496, 600, 664)  # of the default configuration, in its cycles of 8 ns


class PhotonSource(NamedTuple):
    """One node's photons.

    :ivar brightness: probability of a photon at the station, relative to the published node's
    :ivar time_ns: when the first one reaches it, after the attempt's start
    :ivar polarisation: rotation (rad) of the linear polarisations on the way
    """

    brightness: float
    time_ns: float
    polarisation: float


def photon_source(nature: Nature, light: AttemptLight) -> PhotonSource:
    """The source that a node is with the light of its attempts."""
    published = constants.PHOTON_PROBABILITY * _excited(Nature(), PUBLISHED_LIGHT)
    brightness = nature.photon_probability * _excited(nature, light) / published
    time_ns = 1e9 * nature.photon_delay + (light.pulse_ns or 0)
    return PhotonSource(brightness, time_ns, nature.polarisation_angle)


def _excited(nature: Nature, light: AttemptLight) -> float:
    """Probability that a pulse excites the ion, in a long row of attempts."""
    if light.pulse_ns is None:
        return 0.0
    excitation = math.sin(nature.pulse_area * math.pi / 2) ** 2
    unpumped = _away(
        excitation * TO_PLUS, _survival(light.pumping_ns, nature.pumping_time), nature.pumping_error
    )
    in_d = _away(
        excitation * (1 - unpumped) * TO_D, _survival(light.repumping_ns, nature.repumping_time), 0.0
    )
    return excitation * (1 - unpumped) * (1 - in_d)


def _away(loss: float, survival: float, error: float) -> float:
    """Population outside a level before the pulse: an attempt takes `loss` of what is in it away, then light
    brings back all but `survival`, but for `error`."""
    returned = 1 - survival
    if not returned and not loss:
        return 0.0
    return (error * returned + survival * loss) / (returned + survival * loss)


def _survival(duration_ns: int, time_constant: float) -> float:
    """Population that light of this duration leaves where it was."""
    return math.exp(-1e-9 * duration_ns / time_constant) if time_constant else float(duration_ns == 0)


PUBLISHED_SOURCE = photon_source(Nature(), PUBLISHED_LIGHT)
