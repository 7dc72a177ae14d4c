"""Optical link between the ions: attempts until a herald, and the joint state that each herald leaves.

The state of a pattern is a Bell state with populations leaked into |00> and |11> and a reduced coherence
(SI Fig. S3). Other kinds of link stand in for a better laboratory or for an adversary:

- ``measured``: the published link; ``ideal``: pure Bell states and no leak;
- ``lossy``: the published link with its coherence and mismatches scaled to a given visibility;
- ``local``: devices that ignore the ions and answer from a shared list (S = 2 exactly, never more).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim_devices.physics import constants

LINK_KINDS = ("measured", "ideal", "lossy", "local")


@dataclass(frozen=True)
class LinkModel:
    """Which link the laboratory has. `visibility` belongs to ``lossy``: 1 is the published link, 0 no
    correlation. `distinguishability` of the photons' modes and the station's `dark_rate` (counts/s of all
    detectors) count in `heralding`.
    """

    kind: str = "measured"
    visibility: float = 1.0
    success_probability: float = constants.ATTEMPT_SUCCESS
    distinguishability: float = 0.0
    dark_rate: float = constants.STATION_DARK_RATE

    def __post_init__(self) -> None:
        if self.kind not in LINK_KINDS:
            raise ValueError(f"link kind {self.kind!r} is none of {', '.join(LINK_KINDS)}")
        if not 0.0 <= self.visibility <= 1.0:
            raise ValueError(f"visibility {self.visibility} is outside 0..1")
        if not 0.0 < self.success_probability <= 1.0:
            raise ValueError(f"success probability {self.success_probability} is outside (0, 1]")
        if not 0.0 <= self.distinguishability <= 1.0:
            raise ValueError(f"distinguishability {self.distinguishability} is outside 0..1")
        if not 0.0 <= self.dark_rate < 1e7:
            raise ValueError(f"dark rate {self.dark_rate} is outside [0, 1e7) counts/s")

    def state(self, pattern: int) -> NDArray[np.complex128]:
        """(2, 2, 2, 2) density operator rho[a, b, a', b'] after a herald with `pattern`."""
        return joint_state(pattern, self.kind, self.visibility)


def joint_state(
    pattern: int,
    kind: str = "measured",
    visibility: float = 1.0,
    populations: tuple[float, float, float, float] = constants.LINK_POPULATIONS,
    coherence: float = constants.LINK_COHERENCE,
) -> NDArray[np.complex128]:
    """Density operator rho[a, b, a', b'] of the two Zeeman qubits, Alice's first."""
    if kind == "ideal":
        populations, coherence = (0.0, 0.5, 0.5, 0.0), 0.5
    else:
        coherence *= constants.COHERENCE_BY_PATTERN[pattern]
    mixed = (1 - visibility) / 4
    weights = np.array(populations) / sum(populations) * visibility + mixed
    rho = np.diag(weights).astype(np.complex128)
    rho[1, 2] = visibility * coherence * np.exp(-1j * constants.BELL_PHASES[pattern])
    rho[2, 1] = rho[1, 2].conjugate()
    return rho.reshape(2, 2, 2, 2)


def fully_entangled_fraction(rho: NDArray[np.complex128]) -> float:
    """Overlap with the closest maximally entangled state of the family (|01> + e^(i phi) |10>)/sqrt2."""
    return float((rho[0, 1, 0, 1] + rho[1, 0, 1, 0]).real / 2 + abs(rho[0, 1, 1, 0]))


def attempts_until_herald(
    rng: np.random.Generator, success_probability: float, count: int
) -> NDArray[np.int64]:
    """(count,) int64, number of the attempt that heralds, from 1."""
    return rng.geometric(success_probability, count)


def coupling(
    displacement_um: float,
    focus_radius_um: float = constants.FOCUS_RADIUS_UM,
    floor: float = constants.COUPLING_FLOOR,
) -> float:
    """Photon collection relative to an ion in focus (SI Fig. S5)."""
    return max(math.exp(-((displacement_um / focus_radius_um) ** 2)), floor)
