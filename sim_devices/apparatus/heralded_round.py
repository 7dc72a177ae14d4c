"""Round that a node is playing: its entry of the tape, its pulses, its round type."""

from collections.abc import Callable
from typing import Any, Protocol

from sim_devices.apparatus import wire
from sim_devices.apparatus.effects import Effect


class Outcomes(Protocol):
    """Source of a round's outcome, see `outcomes`."""

    def measure(self, current: "HeraldedRound", effect: Effect) -> bool: ...

    def skip(self, current: "HeraldedRound") -> None: ...

    def enter_epoch(self, epoch: int) -> None: ...


class HeraldedRound:
    """An entry of the tape is taken at the handshake; the round is open from its herald to the next one.

    :ivar entry: `wire.ENTRY` as a tuple; None between rounds
    :ivar attempts_left: attempts up to the herald
    :ivar agreed: both nodes are at this entry, each with an ion
    :ivar searched: attempts for this entry have begun
    :ivar pulses: 674 nm pulses since the herald: (start, duration, frequency in Hz, phase in turns,
        amplitude, phase reference), times in mu after the herald
    :ivar round_type: T as Bob has announced it, whatever a receiver makes of it; `wire.NO_ROUND_TYPE` before
    :ivar type_known: whether this node's kernel has sent, or taken, a round type
    :ivar effect_number: of what this node has measured, or `wire.MAX_REGISTERED`
    :ivar partner_effect: the same of the partner, once an edge has brought it
    :ivar on_close: called with the entry when the round is over at this node
    """

    __slots__ = (
        "agreed",
        "attempts_left",
        "effect_number",
        "entry",
        "herald_mu",
        "measured",
        "on_close",
        "open",
        "outcomes",
        "partner_effect",
        "pulses",
        "round_type",
        "searched",
        "type_known",
    )

    def __init__(self, outcomes: Outcomes) -> None:
        self.outcomes = outcomes
        self.entry: tuple[Any, ...] | None = None
        self.attempts_left = 0
        self.agreed = self.searched = self.open = self.measured = self.type_known = False
        self.herald_mu = 0
        self.pulses: list[tuple[Any, ...]] = []
        self.round_type = wire.NO_ROUND_TYPE
        self.effect_number = self.partner_effect = wire.MAX_REGISTERED
        self.on_close: Callable[[tuple[Any, ...]], None] = lambda entry: None

    def begin(self, herald_mu: int) -> None:
        """The herald of the entry at hand."""
        self.open = True
        self.measured = self.type_known = False
        self.herald_mu = herald_mu
        self.pulses.clear()
        self.round_type = wire.NO_ROUND_TYPE
        self.effect_number = self.partner_effect = wire.MAX_REGISTERED

    def close(self) -> None:
        """End the round for this node, read out or not. Without an open round this does nothing."""
        if not self.open:
            return
        if not self.measured:
            self.outcomes.skip(self)
        entry: Any = self.entry
        self.open = False
        self.entry = None
        self.on_close(entry)
