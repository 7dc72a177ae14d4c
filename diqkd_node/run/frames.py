"""Frames of the nodes' connection: length | sequence number | body | MAC over all before.

Each direction counts from 0 under a key of its own (`connection_keys`). A frame that was altered, repeated,
moved, left out or sent back fails, and nothing that follows is read: the connection has ended.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterator

from diqkd_node.run.connection_keys import MAC_BYTES, mac
from diqkd_postproc.protocol.errors import RemoteProtocolError

_HEADER = struct.Struct(">IQ")
FRAME_BYTES = _HEADER.size + MAC_BYTES  # around a body


class FrameSealer:
    """Makes the frames of one direction."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._sequence = 0

    def seal(self, body: bytes) -> bytes:
        """The next frame."""
        content = _HEADER.pack(len(body), self._sequence) + body
        self._sequence += 1
        return content + mac(self._key, content)


class FrameOpener:
    """Takes the bytes of one direction apart.

    :param max_body: a longer one is refused before it is received
    """

    def __init__(self, key: bytes, max_body: int) -> None:
        self._key = key
        self._max_body = max_body
        self._sequence = 0
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Bodies of the frames that are complete now; RemoteProtocolError at one that is not the next."""
        self._buffer += data
        while (body := self._next()) is not None:
            yield body

    def _next(self) -> bytes | None:
        if len(self._buffer) < _HEADER.size:
            return None
        length, sequence = _HEADER.unpack_from(self._buffer)
        if length > self._max_body:
            raise RemoteProtocolError(f"a message exceeds {self._max_body} bytes")
        if sequence != self._sequence:
            raise RemoteProtocolError("a message was repeated, moved or left out on its way")
        end = _HEADER.size + length
        if len(self._buffer) < end + MAC_BYTES:
            return None
        content, tag = bytes(self._buffer[:end]), bytes(self._buffer[end : end + MAC_BYTES])
        if not hmac.compare_digest(tag, mac(self._key, content)):
            raise RemoteProtocolError("a message is not the other node's, or was altered on its way")
        del self._buffer[: end + MAC_BYTES]
        self._sequence += 1
        return content[_HEADER.size :]
