"""Events of the engine, and the driver's answers.

*Work* is to be computed; *effects* are to be made durable; both are answered before the engine goes on.
*Notices* need no answer. None of them carries a secret.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal, get_args

from diqkd_postproc.protocol.errors import LocalProtocolError
from diqkd_postproc.session.messages import Message, MessageType, Verdict

Pad = Literal["pad_ec", "pad_a", "pad_b", "pad_f"]


class Signal(enum.Enum):
    """Answers of `next_event` when there is no event."""

    NEED_DATA = "more bytes from the peer are needed"
    NEED_ANSWER = "the last event has not been answered"


class Work(enum.Enum):
    """A computation that the driver does, with the message or answer that it gives."""

    SETTINGS = "pack the settings: BasisRevelation"
    SYNDROME = "compute the syndrome: Syndrome"
    OUTCOME_HASH = "hash the outcomes: OutcomeHash"
    DECODE = "reconstruct the outcomes of the peer: Done"
    REQUEST = "ask for an increment: SyndromeRequest"
    INCREMENT = "more of the syndrome: Increment"
    RECONCILED = "close the list of increments: Reconciled"
    ATTEMPT = "try to reconstruct the outcomes of the peer: Passed or Failed"
    VALIDATE = "compare the hashes: Passed or Failed"
    COUNT_LOSSES = "compare the losses with the limit: Passed or Failed"
    ROUND_TYPES_TAG = "tag the round types: RoundTypesTag"
    CHECK_ROUND_TYPES = "check the tag of the round types: Passed or Failed"
    CONFIRMATION = "tag what was sent: Confirmation"
    CHECK_CONFIRMATION = "check the tag of the confirmation: Passed or Failed"
    EXTRACT = "apply the extractor: Done"
    DECISION = "tag the decision: Decision"
    CHECK_DECISION = "check the tag of the decision: Passed or Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Work for the driver: `engine.answer(...)`, or `engine.send(message)` where it makes a message."""

    work: Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Persist:
    """Effect: write the frame to the journal, durably, then `engine.acknowledge`.

    Sent frames leave, and received ones take effect, only after that: neither a pad nor a verification
    can be tried twice with different messages.
    """

    outgoing: bool
    message: Message
    frame: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumeKey:
    """Effect: mark a one-time pad as spent on the message it is about to protect, then acknowledge."""

    segment: Pad

    def __post_init__(self) -> None:
        if self.segment not in get_args(Pad):
            raise LocalProtocolError(f"no one-time pad is called {self.segment!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivateKey:
    """Effect: put the extracted key into the key store, then acknowledge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAgreed:
    """Notice: both sides are of one run, have the same parameters, and remember the same past."""

    resumed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StartExtraction:
    """Notice: the outcomes are final on this side; the extractor may start in the background."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Notice: the key is active on this side."""

    peer_confirmed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Aborted:
    """Notice: the protocol ended without a key.

    wrong_tag: the message of the peer that did not verify here; None where Bob's verdict is the reason.
    """

    verdict: Verdict
    num_losses: int
    wrong_tag: MessageType | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Answer: the work is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """Answer: the check passed. With a variable length, counting the losses gives k and l."""

    num_losses: int = 0
    key_bits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Answer: the check failed. `num_losses` is given where the losses are the reason."""

    num_losses: int = 0


Event = Need | Persist | ConsumeKey | ActivateKey | PeerAgreed | StartExtraction | Finished | Aborted
Effect = Persist | ConsumeKey | ActivateKey
Answer = Done | Passed | Failed
