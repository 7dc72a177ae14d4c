"""Alterations of the apparatus by an adversary before the run, and the states that her measurements leave.

Round by round one of three things happens. *Untouched*: the link as it is. *Listed*: both devices give the
bit that her list has for the round, whatever the settings, so S = 2 and she knows both outcomes.
*Measured*: her station measures the photons in the basis in which key rounds measure the ions, which leaves
a product state that she knows; key rounds agree as before, but with the analysis pulses of the test rounds
no product state gives more than S = sqrt 2."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sim_devices.apparatus.line_tampering import LineTampering

UNTOUCHED, LISTED, MEASURED = range(3)


@dataclass(frozen=True)
class Tampering:
    """Shares of the rounds that are listed and measured, chosen at random; and the role of the node of
    which one electrode does not move, or ''; and what is done to the lines between the nodes."""

    local_fraction: float = 0.0
    measured_fraction: float = 0.0
    stuck_electrode: str = ""
    lines: LineTampering = field(default_factory=LineTampering)

    def __post_init__(self) -> None:
        for name in ("local_fraction", "measured_fraction"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be in [0, 1]")
        if self.local_fraction + self.measured_fraction > 1.0:
            raise ValueError("local_fraction and measured_fraction add up to more than 1")
        if self.stuck_electrode not in ("", "alice", "bob"):
            raise ValueError(f"stuck_electrode is {self.stuck_electrode!r}; roles are alice and bob")

    def treatment(self, rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
        """(count,) uint8: UNTOUCHED, LISTED or MEASURED, one a round."""
        drawn = rng.random(count)
        listed = drawn < self.local_fraction
        measured = ~listed & (drawn < self.local_fraction + self.measured_fraction)
        return (LISTED * listed + MEASURED * measured).astype(np.uint8)


def product_states() -> NDArray[np.complex128]:
    """(2, 2, 2, 2, 2): the states |01> and |10> that the adversary's two results leave, as rho[a, b, a',
    b']."""
    states = np.zeros((2, 2, 2, 2, 2), dtype=np.complex128)
    states[0, 0, 1, 0, 1] = states[1, 1, 0, 1, 0] = 1.0
    return states
