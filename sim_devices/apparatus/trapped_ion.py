"""State of a node's ion as far as the node's own process holds it."""

from collections.abc import Callable

from sim_devices.apparatus.local_ion import LocalIon


class TrappedIon:
    """Whether the ion is there, and whether it scatters 422 nm light. An entangled state is not held here.

    :ivar alone: the ion in a sequence that involves no other node
    :ivar bright: in S1/2, since the last light that projected it
    :ivar crowded: there is a second ion, which scatters as much
    :ivar lit_bright: whether it was bright under the last pulse of cooling light
    :ivar lit_bright_before: and under the pulse before
    """

    __slots__ = ("_uniform", "alone", "bright", "crowded", "lit_bright", "lit_bright_before", "lost")

    def __init__(self, alone: LocalIon, uniform: Callable[[], float]) -> None:
        self.alone = alone
        self._uniform = uniform
        self.bright = self.lit_bright = self.lit_bright_before = True
        self.lost = self.crowded = False

    def project(self) -> None:
        """Light that distinguishes S1/2 from D5/2, on an ion that this node alone has prepared."""
        self.bright = self._uniform() < self.alone.ground_population()

    def deshelve(self, survival: float) -> None:
        """1033 nm light on an ion in D5/2; survival: probability that it stays there."""
        self.bright = survival == 0.0 or self._uniform() >= survival
