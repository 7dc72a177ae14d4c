"""Round that a node is playing: its entry of the tape, its pulses, its round type."""

from collections.abc import Callable
from typing import Any, Protocol

from sim_devices.apparatus import wire
from sim_devices.apparatus.alice_results import Effect
from sim_devices.apparatus.client import LaboratoryClient


class Outcomes(Protocol):
    """Source of a round's outcome, see `outcomes`."""

    def connect(self, client: LaboratoryClient, uniform: Callable[[], float]) -> None: ...

    def measure(self, current: "HeraldedRound", effect: Effect) -> bool: ...

    def skip(self, current: "HeraldedRound") -> None: ...

    def enter_epoch(self, epoch: int) -> None: ...


class HeraldedRound:
    """An entry of the tape is taken at the handshake; the round is open from its herald to the next one.

    :ivar entry: `wire.ALICE_ENTRY` or `wire.BOB_ENTRY` as a tuple; None between rounds
    :ivar attempts_left: attempts up to the herald
    :ivar pulses: 674 nm pulses since the herald: (start, duration, frequency in Hz, phase in turns,
        amplitude, phase reference), times in mu after the herald
    :ivar strobe_mu: rising edge of the round-type strobe, mu after the herald; -1 if none
    """

    __slots__ = (
        "attempts_left",
        "entry",
        "herald_mu",
        "measured",
        "open",
        "outcomes",
        "pulses",
        "round_type",
        "strobe_mu",
    )

    def __init__(self, outcomes: Outcomes) -> None:
        self.outcomes = outcomes
        self.entry: tuple[Any, ...] | None = None
        self.attempts_left = 0
        self.open = self.measured = False
        self.herald_mu = 0
        self.pulses: list[tuple[Any, ...]] = []
        self.round_type = wire.NO_ROUND_TYPE
        self.strobe_mu = -1

    def begin(self, herald_mu: int) -> None:
        """The herald of the entry at hand."""
        entry: Any = self.entry
        self.open = True
        self.measured = False
        self.herald_mu = herald_mu
        self.pulses.clear()
        self.round_type = entry[wire.ROUND_TYPE]
        self.strobe_mu = entry[wire.STROBE_MU]

    def close(self) -> None:
        """End the round for this node, read out or not. Without an open round this does nothing."""
        if not self.open:
            return
        if not self.measured:
            self.outcomes.skip(self)
        self.open = False
        self.entry = None
