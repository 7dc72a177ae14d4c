"""Messages between the two KMEs: ids and ranges of key bits, never the bits.

    frame = length (4 bytes, big-endian, of what follows) | kind (1) | tag (8) | JSON

*Hello* states which keys a node holds and which blocks of pads it can still use. It and *Failure* carry no
tag (zeros): they only ever make a node do less. A *Request* has the peer set pieces aside, or to give
them up; its *Answer* says which groups were. Both are tagged with one-time pads.

A group is all or none: the pieces of one client's request.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diqkd_postproc.key_store import Piece
from diqkd_postproc.protocol.errors import RemoteProtocolError
from diqkd_postproc.protocol.roles import Role

VERSION = 1
MAX_FRAME_BYTES = 1 << 20
LENGTH_BYTES = 4
TAG_BYTES = 8
HELLO, REQUEST, ANSWER, FAILURE = b"H", b"Q", b"A", b"F"
NO_TAG = bytes(TAG_BYTES)

Text = Annotated[str, Field(min_length=1, max_length=256)]
Number = Annotated[int, Field(ge=0, lt=1 << 40)]
Outcome = Literal["done", "taken", "forbidden"]
"""taken: some of the bits are not free at the peer. forbidden: its configuration does not allow it."""
MAX_KEYS = 4096
MAX_BLOCKS = 4096
_Model = TypeVar("_Model", bound=BaseModel)


class _Message(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class Hello(_Message):
    """Who I am, which keys I hold (session, bits), which pads I can still use: the blocks for exchanges that
    you start, and how many blocks for those that I start."""

    version: int
    kme: Text
    role: Role
    keys: Annotated[list[tuple[Text, Number]], Field(max_length=MAX_KEYS)]
    pads: Annotated[list[Text], Field(max_length=MAX_BLOCKS)]
    own_blocks: Number


class Range(_Message):
    """A piece of a generated key."""

    label: Text
    session: Text
    first: Number
    bits: Annotated[int, Field(gt=0, le=1 << 20)]

    @classmethod
    def of(cls, piece: Piece) -> Range:
        return cls(label=piece.label, session=piece.session_id, first=piece.first_bit, bits=piece.num_bits)

    def piece(self, purpose: str) -> Piece:
        """The piece, reserved for `purpose`."""
        return Piece(
            session_id=self.session,
            first_bit=self.first,
            num_bits=self.bits,
            label=self.label,
            purpose=purpose,
        )


class Group(_Message):
    """Pieces to be set aside (`keys` for SAEs, `pads` for tags) or given up (`cancel`), all or none."""

    kind: Literal["keys", "pads", "cancel"]
    ranges: Annotated[list[Range], Field(min_length=1, max_length=4096)]


class Request(_Message):
    """block, exchange: the pads that tag this and its answer."""

    block: Text
    exchange: Number
    groups: Annotated[list[Group], Field(max_length=4096)]


class Answer(_Message):
    """outcomes: of every group of the request; what is done is durable."""

    block: Text
    exchange: Number
    outcomes: Annotated[list[Outcome], Field(max_length=4096)]


class Failure(_Message):
    """The request was not processed."""

    block: Text
    exchange: Number
    reason: Text


def encoded(message: BaseModel) -> bytes:
    """JSON of a message."""
    return message.model_dump_json().encode()


def decoded(model: type[_Model], data: bytes) -> _Model:
    """Parse; RemoteProtocolError where it does not fit."""
    try:
        return model.model_validate_json(data)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_context=False, include_input=False)[0]
        raise RemoteProtocolError(
            f"the other KME sent a malformed {model.__name__}: {first['msg']}"
        ) from None


def frame(kind: bytes, tag: bytes, body: bytes) -> bytes:
    """The bytes of a frame; the body has to fit."""
    size = len(kind) + len(tag) + len(body)
    if size > MAX_FRAME_BYTES:
        raise RemoteProtocolError(f"a message of {size} bytes exceeds {MAX_FRAME_BYTES}")
    return size.to_bytes(LENGTH_BYTES, "big") + kind + tag + body


def tagged_content(kind: bytes, sender: str, receiver: str, body: bytes) -> bytes:
    """What a tag covers: version, kind, both KMEs and the body, unambiguously."""
    fields = (f"diqkd delivery {VERSION}".encode(), kind, sender.encode(), receiver.encode(), body)
    return b"".join(len(item).to_bytes(8, "big") + item for item in fields)
