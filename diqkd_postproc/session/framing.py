"""Frames on the byte stream: magic, version, type, session id, length, payload, checksum.

| bytes | field |
| --- | --- |
| 4 | `DIQK` |
| 1 | protocol version |
| 1 | message type |
| 16 | session id (zeros in a Hello, which comes before the session is agreed) |
| 4 | payload length, within bounds that the parameters give for the type |
| ... | payload |
| 8 | checksum: the first bytes of the SHA-256 of all before |

The checksum is against accidents: a damaged file costs another try, where a wrong tag would end the session
for good. Against adversaries only the tags count.

The version names what two sides have to have in common: the wire, and also the syndrome code, the hash and
the extractors as they are computed here. Whoever changes one of them raises it.

A header is judged as soon as it is there, so a peer cannot make this side wait for, or store, more bytes
than the parameters allow.
"""

from __future__ import annotations

import hashlib
import struct

from diqkd_postproc.protocol.errors import ParameterError, RemoteProtocolError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.session.messages import Message, MessageType, decode_payload, payload_limits

MAGIC = b"DIQK"
PROTOCOL_VERSION = 5
SESSION_ID_BYTES = 16
NO_SESSION = bytes(SESSION_ID_BYTES)

_HEADER = struct.Struct(">4sBB16sI")
HEADER_BYTES = _HEADER.size
CHECKSUM_BYTES = 8
FRAME_BYTES = HEADER_BYTES + CHECKSUM_BYTES
"""What a frame is longer than its payload."""


class VersionMismatchError(RemoteProtocolError):
    """The peer speaks another version of the protocol."""

    exit_code = ParameterError.exit_code


def checksum(content: bytes) -> bytes:
    """(8 bytes) what stands behind the header and payload of a frame."""
    return hashlib.sha256(content).digest()[:CHECKSUM_BYTES]


def encode_frame(session_id: bytes, message: Message) -> bytes:
    """The one encoding of `message` in the session."""
    payload = message.payload()
    identity = NO_SESSION if message.type is MessageType.HELLO else session_id
    content = _HEADER.pack(MAGIC, PROTOCOL_VERSION, message.type, identity, len(payload)) + payload
    return content + checksum(content)


class FrameReader:
    """Cuts a byte stream into messages. A frame stays, and is given again, until it is discarded."""

    def __init__(self, parameters: ProtocolParameters, session_id: bytes) -> None:
        self._parameters = parameters
        self._session_id = session_id
        self._limits = payload_limits(parameters)
        self._buffer = bytearray()
        self._num_received = 0
        self.capacity = sum(FRAME_BYTES + greatest for _, greatest in self._limits.values())
        """Bytes of a whole session, every message once: more than this no peer has to say."""

    def feed(self, data: bytes) -> None:
        """Append received bytes; raises RemoteProtocolError if the peer sent more than a session holds."""
        if self._num_received + len(data) > self.capacity:
            raise RemoteProtocolError(
                f"the peer sent more than the {self.capacity} bytes that a whole session takes"
            )
        self._num_received += len(data)
        self._buffer += data

    @property
    def has_rest(self) -> bool:
        """Whether bytes are left that no whole frame has used."""
        return bool(self._buffer)

    def _header(self) -> tuple[MessageType, int] | None:
        start = bytes(self._buffer[: len(MAGIC)])
        if not MAGIC.startswith(start):
            raise RemoteProtocolError("the peer does not speak this protocol (wrong magic bytes)")
        if len(self._buffer) < HEADER_BYTES:
            return None
        _, version, kind, session_id, length = _HEADER.unpack_from(self._buffer)
        if version != PROTOCOL_VERSION:
            raise VersionMismatchError(
                f"the peer speaks protocol version {version}, this side {PROTOCOL_VERSION}; "
                "install the same version of diqkd on both sides"
            )
        if kind not in self._limits:
            raise RemoteProtocolError(f"the peer sent a message of unknown type {kind}")
        kind = MessageType(kind)
        least, greatest = self._limits[kind]
        if not least <= length <= greatest:
            raise RemoteProtocolError(
                f"{kind.name} of the peer has {length} bytes, allowed are {least} to {greatest}"
            )
        if session_id != (NO_SESSION if kind is MessageType.HELLO else self._session_id):
            raise RemoteProtocolError(f"{kind.name} of the peer belongs to another session")
        return kind, length

    def peek(self) -> tuple[Message, bytes] | None:
        """The first message and its frame, or None until more bytes come.

        Raises RemoteProtocolError for a frame that is not allowed.
        """
        header = self._header()
        if header is None:
            return None
        kind, length = header
        if len(self._buffer) < FRAME_BYTES + length:
            return None
        frame = bytes(self._buffer[: FRAME_BYTES + length])
        content = frame[:-CHECKSUM_BYTES]
        if checksum(content) != frame[-CHECKSUM_BYTES:]:
            raise RemoteProtocolError(
                f"{kind.name} of the peer arrived damaged (its checksum is wrong); start both sides again, "
                "or carry the file again"
            )
        return decode_payload(kind, content[HEADER_BYTES:], self._parameters), frame

    def discard(self, frame: bytes) -> None:
        """Remove the frame that `peek` gave."""
        del self._buffer[: len(frame)]


def decode_frame(frame: bytes, parameters: ProtocolParameters, session_id: bytes) -> Message:
    """The message in one whole frame; raises RemoteProtocolError if it is not exactly one."""
    reader = FrameReader(parameters, session_id)
    reader.feed(frame)
    found = reader.peek()
    if found is None or len(found[1]) != len(frame):
        raise RemoteProtocolError("not one whole frame")
    return found[0]
