"""The public messages of steps 4 to 11 (SI section S4) and their payloads.

Every message is a frozen value that validates itself, and has one encoding only: a payload that decodes
encodes to the same bytes again, so that what was authenticated is what was read. Bit strings travel packed,
first bit in the highest place of the first byte, behind their length; the bits that fill the last byte
are 0. Integers are unsigned and big-endian.

Nothing here is secret: the settings, the syndrome and the tags are what the protocol makes public.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import ClassVar, Self, get_args

from diqkd_postproc.protocol.errors import LocalProtocolError, RemoteProtocolError
from diqkd_postproc.protocol.parameters import MAX_INCREMENTS, ProtocolParameters
from diqkd_postproc.protocol.roles import ROLES, Role

TAG_BYTES = 8
DIGEST_BYTES = 32
MAX_NAME_BYTES = 128


class MessageType(enum.IntEnum):
    """Type byte of a frame; the numbers of the protocol messages are their order."""

    HELLO = 1
    ROUND_TYPES_TAG = 2
    BASIS_REVELATION = 3
    SYNDROME = 4
    OUTCOME_HASH = 5
    REQUEST_2 = 6
    INCREMENT_2 = 7
    REQUEST_3 = 8
    INCREMENT_3 = 9
    REQUEST_4 = 10
    INCREMENT_4 = 11
    REQUEST_5 = 12
    INCREMENT_5 = 13
    REQUEST_6 = 14
    INCREMENT_6 = 15
    REQUEST_7 = 16
    INCREMENT_7 = 17
    REQUEST_8 = 18
    INCREMENT_8 = 19
    RECONCILED = 20
    CONFIRMATION = 21
    DECISION = 22
    RECEIPT = 23
    ABORT = 24


def request_of(number: int) -> MessageType:
    """Type of the message that asks for increment `number`, 2 to J: each is a type of its own, sent once."""
    return MessageType[f"REQUEST_{number}"]


def increment_of(number: int) -> MessageType:
    """Type of the message that brings increment `number`."""
    return MessageType[f"INCREMENT_{number}"]


JOURNALLED = tuple(kind for kind in MessageType if MessageType.HELLO < kind < MessageType.RECEIPT)
"""What both sides keep: the protocol messages, in their order."""


class Verdict(enum.IntEnum):
    """What Bob decided, and why: `ACCEPTED` is F = 1, everything else is F = 0."""

    ACCEPTED = 0
    VALIDATION_FAILED = 1
    TOO_MANY_LOSSES = 2
    CONFIRMATION_TAG_WRONG = 3


class AbortReason(enum.IntEnum):
    """Why a party left without a decision. A hint for the operator: it is not authenticated."""

    PROTOCOL_ERROR = 1
    INTERRUPTED = 2
    STORAGE = 3
    INSUFFICIENT_KEY = 4
    INTERNAL = 5
    TAG_WRONG = 6


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise LocalProtocolError(problem)


def packed_bytes(num_bits: int) -> int:
    """Bytes that hold `num_bits` packed bits."""
    return (num_bits + 7) // 8


_HELLO = struct.Struct(f">B{DIGEST_BYTES}sQIB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """First message of both parties: who speaks, about which run, parameters and initial key, and how far on.

    `key_id` is the public random name of the initial key, not derived from it. `epoch` counts the changes of
    the key store up to the session's begin. `held` names the protocol messages in the speaker's journal: a
    restored old copy has forgotten some that the other side remembers.
    """

    type: ClassVar[MessageType] = MessageType.HELLO
    role: Role
    parameters_digest: bytes
    key_id: str
    run_id: str
    epoch: int
    held: frozenset[MessageType]

    def __post_init__(self) -> None:
        _require(self.role in ROLES, f"role {self.role!r} is neither 'alice' nor 'bob'")
        _require(len(self.parameters_digest) == DIGEST_BYTES, "parameters_digest must have 32 bytes")
        _require(0 <= self.epoch < 2**64, "epoch is not in [0, 2^64)")
        _require(self.held <= set(JOURNALLED), "held names a message that no journal keeps")
        for field, name in (("key_id", self.key_id), ("run_id", self.run_id)):
            _require(
                len(name.encode()) <= MAX_NAME_BYTES and name.isprintable(),
                f"{field} must be printable and at most {MAX_NAME_BYTES} bytes long",
            )

    def payload(self) -> bytes:
        """Encoded fields."""
        key_id, held = self.key_id.encode(), sum(1 << JOURNALLED.index(kind) for kind in self.held)
        role = ROLES.index(self.role)
        head = _HELLO.pack(role, self.parameters_digest, self.epoch, held, len(key_id))
        return head + key_id + self.run_id.encode()

    @classmethod
    def from_payload(cls, payload: bytes) -> Hello:
        """Decoded fields; raises LocalProtocolError or ValueError if they are not valid."""
        role, digest, epoch, held, length = _HELLO.unpack_from(payload)
        end_of_key_id = _HELLO.size + length
        _require(role < len(ROLES), f"role {role} is neither Alice nor Bob")
        _require(held < 1 << len(JOURNALLED), "held names an unknown message")
        _require(end_of_key_id <= len(payload), "key_id is cut off")
        return cls(
            role=ROLES[role],
            parameters_digest=digest,
            key_id=payload[_HELLO.size : end_of_key_id].decode(),
            run_id=payload[end_of_key_id:].decode(),
            epoch=epoch,
            held=frozenset(kind for index, kind in enumerate(JOURNALLED) if held >> index & 1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BitString:
    """A packed bit string with its length; base of the two long messages."""

    num_bits: int
    packed: bytes

    def __post_init__(self) -> None:
        _require(0 < self.num_bits < 2**32, f"num_bits={self.num_bits} is not in [1, 2^32)")
        _require(len(self.packed) == packed_bytes(self.num_bits), "packed does not have num_bits bits")
        unused = -self.num_bits % 8
        _require(self.packed[-1] & ((1 << unused) - 1) == 0, "the bits that fill the last byte must be 0")

    def payload(self) -> bytes:
        """Encoded fields."""
        return struct.pack(">I", self.num_bits) + self.packed


@dataclass(frozen=True, slots=True, kw_only=True)
class BasisRevelation(BitString):
    """Step 4: Alice's effective settings X."""

    type: ClassVar[MessageType] = MessageType.BASIS_REVELATION

    @classmethod
    def from_payload(cls, payload: bytes) -> BasisRevelation:
        """Decoded fields."""
        return cls(num_bits=int.from_bytes(payload[:4], "big"), packed=payload[4:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Syndrome(BitString):
    """Step 5: the syndrome M of Alice's outcomes, and which code it is of.

    Parameters determine the code, but through a construction that another version may do differently.
    """

    type: ClassVar[MessageType] = MessageType.SYNDROME
    code_digest: bytes

    def __post_init__(self) -> None:
        BitString.__post_init__(self)
        _require(len(self.code_digest) == DIGEST_BYTES, "code_digest must have 32 bytes")

    def payload(self) -> bytes:
        """Encoded fields."""
        return self.code_digest + BitString.payload(self)

    @classmethod
    def from_payload(cls, payload: bytes) -> Syndrome:
        """Decoded fields."""
        digest, bits = payload[:DIGEST_BYTES], payload[DIGEST_BYTES:]
        return cls(num_bits=int.from_bytes(bits[:4], "big"), packed=bits[4:], code_digest=digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyndromeRequest:
    """Bob's decoder has failed with the syndrome up to now and needs increment `number`.

    It carries no tag: forged, it can spend syndrome or end in an abort, never make a key too long (G_A covers
    how many increments were sent).
    """

    number: int

    def __post_init__(self) -> None:
        _require(2 <= self.number <= MAX_INCREMENTS, f"there is no increment {self.number}")

    @property
    def type(self) -> MessageType:
        # Without a docstring: documented, it would be what `type` refers to on the API pages.
        return request_of(self.number)

    def payload(self) -> bytes:
        """Encoded fields."""
        return b""

    @classmethod
    def from_payload(cls, payload: bytes, number: int) -> SyndromeRequest:
        """Decoded fields."""
        return cls(number=number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Increment(BitString):
    """Syndrome bits m_{j-1} to m_j of increment `number`, j."""

    number: int

    @property
    def type(self) -> MessageType:
        # See `SyndromeRequest.type`.
        return increment_of(self.number)

    @classmethod
    def from_payload(cls, payload: bytes, number: int) -> Increment:
        """Decoded fields."""
        return cls(num_bits=int.from_bytes(payload[:4], "big"), packed=payload[4:], number=number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """Bob needs no more syndrome, or gets no more: the list of increments is closed."""

    type: ClassVar[MessageType] = MessageType.RECONCILED

    def payload(self) -> bytes:
        """Encoded fields."""
        return b""

    @classmethod
    def from_payload(cls, payload: bytes) -> Reconciled:
        """Decoded fields."""
        return cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A one-time padded hash of 64 bits; base of the messages that are nothing else."""

    tag: bytes

    def __post_init__(self) -> None:
        _require(len(self.tag) == TAG_BYTES, "a tag has 8 bytes")

    def payload(self) -> bytes:
        """Encoded fields."""
        return self.tag

    @classmethod
    def from_payload(cls, payload: bytes) -> Self:
        """Decoded fields."""
        return cls(tag=payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTypesTag(Tag):
    """Step 10: G_B, Bob's tag of the round types he announced during the run."""

    type: ClassVar[MessageType] = MessageType.ROUND_TYPES_TAG


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeHash(Tag):
    """Step 7: G_EC, the encrypted hash of Alice's outcomes."""

    type: ClassVar[MessageType] = MessageType.OUTCOME_HASH


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation(Tag):
    """Step 10: G_A, Alice's tag of everything she sent and of C = 1; with C = 0 she sends none."""

    type: ClassVar[MessageType] = MessageType.CONFIRMATION


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Step 11: F with its tag G_F, and for F = 0 the reason.

    The count of lost rounds is sent where it is the reason of an abort: then no key comes of the outcomes and
    nothing about them has to stay secret. It is sent with a key of variable length too, k and l, which the
    length pays for. Otherwise both are 0.
    """

    type: ClassVar[MessageType] = MessageType.DECISION
    verdict: Verdict
    num_losses: int = 0
    key_bits: int = 0
    tag: bytes

    def __post_init__(self) -> None:
        _require(len(self.tag) == TAG_BYTES, "a tag has 8 bytes")
        _require(0 <= self.num_losses < 2**32, "num_losses is not in [0, 2^32)")
        _require(0 <= self.key_bits < 2**32, "key_bits is not in [0, 2^32)")
        _require(self.accepted or self.key_bits == 0, "there is a key length without a key")
        _require(
            self.verdict is Verdict.TOO_MANY_LOSSES or self.key_bits > 0 or self.num_losses == 0,
            "the number of losses is sent only where it is the reason of an abort, or with a variable length",
        )

    @property
    def accepted(self) -> bool:
        """F."""
        return self.verdict is Verdict.ACCEPTED

    def payload(self) -> bytes:
        """Encoded fields."""
        return struct.pack(">BII", self.verdict, self.num_losses, self.key_bits) + self.tag

    @classmethod
    def from_payload(cls, payload: bytes) -> Decision:
        """Decoded fields."""
        verdict, num_losses, key_bits = struct.unpack(">BII", payload[:9])
        return cls(verdict=Verdict(verdict), num_losses=num_losses, key_bits=key_bits, tag=payload[9:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Alice has her key. Only spares Bob the waiting: nothing depends on it, so it carries no tag."""

    type: ClassVar[MessageType] = MessageType.RECEIPT

    def payload(self) -> bytes:
        """Encoded fields."""
        return b""

    @classmethod
    def from_payload(cls, payload: bytes) -> Receipt:
        """Decoded fields."""
        return cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """The sender leaves without a decision; a later session may resume where this one ended."""

    type: ClassVar[MessageType] = MessageType.ABORT
    reason: AbortReason

    def payload(self) -> bytes:
        """Encoded fields."""
        return bytes([self.reason])

    @classmethod
    def from_payload(cls, payload: bytes) -> Abort:
        """Decoded fields."""
        return cls(reason=AbortReason(payload[0]))


Message = (
    Hello
    | BasisRevelation
    | Syndrome
    | OutcomeHash
    | SyndromeRequest
    | Increment
    | Reconciled
    | RoundTypesTag
    | Confirmation
    | Decision
    | Receipt
    | Abort
)

_NUMBERED = (SyndromeRequest, Increment)
_READERS: dict[MessageType, Callable[[bytes], Message]] = {
    c.type: c.from_payload for c in get_args(Message) if c not in _NUMBERED
}
for _number in range(2, MAX_INCREMENTS + 1):
    _READERS[request_of(_number)] = partial(SyndromeRequest.from_payload, number=_number)
    _READERS[increment_of(_number)] = partial(Increment.from_payload, number=_number)


def increment_bits(parameters: ProtocolParameters) -> dict[int, int]:
    """Syndrome bits of every increment after the first: {2: m_2 - m_1, ...}."""
    totals = parameters.syndrome_totals
    return {number: b - a for number, (a, b) in enumerate(pairwise(totals), start=2)}


def payload_limits(parameters: ProtocolParameters) -> dict[MessageType, tuple[int, int]]:
    """Least and greatest payload length of every message type under these parameters, bytes."""
    settings = 4 + packed_bytes(parameters.num_rounds)
    syndrome = DIGEST_BYTES + 4 + packed_bytes(parameters.syndrome_bits)
    limits: dict[MessageType, tuple[int, int]] = {}
    for number, bits in increment_bits(parameters).items():
        limits[request_of(number)] = (0, 0)
        limits[increment_of(number)] = (4 + packed_bytes(bits),) * 2
    if limits:
        limits[MessageType.RECONCILED] = (0, 0)
    return limits | {
        MessageType.HELLO: (_HELLO.size, _HELLO.size + 2 * MAX_NAME_BYTES),
        MessageType.BASIS_REVELATION: (settings, settings),
        MessageType.SYNDROME: (syndrome, syndrome),
        MessageType.OUTCOME_HASH: (TAG_BYTES, TAG_BYTES),
        MessageType.ROUND_TYPES_TAG: (TAG_BYTES, TAG_BYTES),
        MessageType.CONFIRMATION: (TAG_BYTES, TAG_BYTES),
        MessageType.DECISION: (9 + TAG_BYTES, 9 + TAG_BYTES),
        MessageType.RECEIPT: (0, 0),
        MessageType.ABORT: (1, 1),
    }


def decode_payload(kind: MessageType, payload: bytes, parameters: ProtocolParameters) -> Message:
    """The message in a payload whose length is within `payload_limits`.

    Raises RemoteProtocolError if a field is not valid or does not fit the parameters.
    """
    try:
        message = _READERS[kind](payload)
    except (LocalProtocolError, ValueError) as error:
        raise RemoteProtocolError(f"invalid {kind.name} message from the peer: {error}") from None
    expected = {
        MessageType.BASIS_REVELATION: parameters.num_rounds,
        MessageType.SYNDROME: parameters.syndrome_bits,
        **{increment_of(number): bits for number, bits in increment_bits(parameters).items()},
    }
    if isinstance(message, BitString) and message.num_bits != expected[kind]:
        raise RemoteProtocolError(
            f"{kind.name} of the peer has {message.num_bits} bits, the parameters say {expected[kind]}"
        )
    if isinstance(message, Decision):
        announces = message.accepted and parameters.length == "variable"
        if announces != (message.key_bits > 0) or message.key_bits > parameters.key_bits:
            raise RemoteProtocolError(
                f"DECISION of the peer names a key of {message.key_bits} bits, the parameters say "
                f"{parameters.length} length, at most {parameters.key_bits}"
            )
    return message
