"""TCP connection between the nodes' PCs: small messages, each in a frame with a sequence number and a MAC.

It coordinates the acquisition. Of a key run it carries no outcome and no setting of a round that has not been
played; a characterisation shares them (`outcome_sharing`). Bob listens, Alice connects; both prove first that
they hold the same key (`admission`), or both have none and the connection is open. A reader thread receives,
so that nothing but `receive` ever waits. What was received and not read is bounded: a node that sends without
end waits until it is read. A peer that breaks a rule is told so before the connection closes, so that
both sides end with it; neither gets text from the other.
"""

from __future__ import annotations

import queue
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from diqkd_node.run.admission import POLL_INTERVAL_S, PeerAbsentError, admit_node, find_node, listener_at
from diqkd_node.run.frames import FrameOpener, FrameSealer
from diqkd_node.run.messages import MAX_MESSAGE_BYTES, MESSAGES, Fields, Message, decoded, encoded
from diqkd_node.run.reasons import Fault, Reason
from diqkd_postproc.protocol.errors import DiqkdError, RemoteProtocolError

__all__ = ["POLL_INTERVAL_S", "PeerAbsentError", "PeerConnection"]

MAX_WAITING = 32  # messages received and not read
SEND_TIMEOUT_S = 60  # for a node that does not read
# A PC that lost power, or a cable, is noticed within 100 s; by default it would take two hours.
KEEPALIVE = {"TCP_KEEPIDLE": 40, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}


def _never() -> bool:
    return False


def _unannounced(host: str, port: int) -> None:
    pass


class PeerConnection:
    """Connected socket; made by `listen`, `accept` or `connect`. Another purpose is a subclass with its own
    `messages`, among which are those of `messages.ENDS`.

    `key` of these three: `node_link` of this node's key store, None for an open connection.
    """

    purpose = b"rounds"
    messages: Mapping[str, Fields] = MESSAGES

    def __init__(self, connected: socket.socket, peer: str, keys: tuple[bytes, bytes]) -> None:
        self.peer = peer
        self._socket = connected
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform != "win32":
            self._socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", SEND_TIMEOUT_S, 0)
            )
        for option, value in KEEPALIVE.items():
            if hasattr(socket, option):
                self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        sending, receiving = keys
        self._sealer = FrameSealer(sending)
        self._opener = FrameOpener(receiving, MAX_MESSAGE_BYTES)
        self._received: queue.Queue[Message | Exception] = queue.Queue(MAX_WAITING)
        self._closed = threading.Event()
        self._end: Exception | None = None
        self._reader = threading.Thread(target=self._read, name="peer connection", daemon=True)
        self._reader.start()

    @classmethod
    def listen(
        cls,
        host: str,
        port: int,
        timeout_s: float,
        interrupted: Callable[[], bool] = _never,
        listening: Callable[[str, int], None] = _unannounced,
        *,
        key: bytes | None = None,
    ) -> PeerConnection:
        """Wait for the peer on an address of this PC; PeerAbsentError after `timeout_s`.

        :param port: 0 takes a free one
        :param listening: called with host and port once the peer can connect
        """
        with listener_at(host, port) as listener:
            listening(*listener.getsockname()[:2])
            return cls.accept(listener, timeout_s, interrupted, key=key)

    @classmethod
    def accept(
        cls,
        listener: socket.socket,
        timeout_s: float,
        interrupted: Callable[[], bool] = _never,
        *,
        key: bytes | None = None,
    ) -> PeerConnection:
        """Wait for the peer on a listening socket; PeerAbsentError after `timeout_s`."""
        return cls(*admit_node(listener, key, cls.purpose, timeout_s, interrupted))

    @classmethod
    def connect(
        cls,
        host: str,
        port: int,
        timeout_s: float,
        interrupted: Callable[[], bool] = _never,
        *,
        key: bytes | None = None,
    ) -> PeerConnection:
        """Connect to the listening peer, trying until `timeout_s` has passed; then PeerAbsentError."""
        return cls(*find_node(host, port, key, cls.purpose, timeout_s, interrupted))

    def send(self, kind: str, **fields: Any) -> None:
        """Send one message; PeerAbsentError if the connection is gone."""
        frame = self._sealer.seal(encoded(self.messages, kind, fields))
        try:
            self._socket.sendall(frame)
        except OSError:
            raise self._explain_end() from None

    @property
    def waiting(self) -> bool:
        """Whether something has come that was not read yet."""
        return self._end is not None or not self._received.empty()

    def poll(self) -> Message | None:
        """Next message if one is there. An error or a departure of the peer is raised."""
        return self.receive(0.0)

    def receive(self, timeout_s: float) -> Message | None:
        """Next message, or None after `timeout_s`.

        Raises RemoteProtocolError for an error on either side, PeerAbsentError if the peer has left.
        """
        if self._end is not None:
            raise self._end
        try:
            item = self._received.get(block=timeout_s > 0, timeout=timeout_s if timeout_s > 0 else None)
        except queue.Empty:
            return None
        if isinstance(item, Exception):
            self._end = item
            if isinstance(item, RemoteProtocolError):
                self._send_error(Fault.PROTOCOL)
            raise item
        if item["kind"] == "error":
            self._end = RemoteProtocolError(f"the other node stopped the run: {Fault(item['fault'])}")
            raise self._end
        if item["kind"] == "leaving":
            self._end = PeerAbsentError(
                f"the other node left the run ({Reason(item['reason'])}); start both nodes again with the "
                "same run directories, and it goes on where it stopped"
            )
            raise self._end
        return item

    def fail(
        self, message: str, kind: type[DiqkdError] = RemoteProtocolError, fault: Fault = Fault.PROTOCOL
    ) -> DiqkdError:
        """Tell the peer which fault there is; returns the error to raise here, with the whole `message`."""
        self._send_error(fault)
        return kind(message)

    def close(self) -> None:
        """Close the connection; harmless when repeated."""
        self._closed.set()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()
        self._reader.join(timeout=1.0)

    def _send_error(self, fault: Fault) -> None:
        try:
            self.send("error", fault=fault)
        except DiqkdError:
            pass

    def _explain_end(self) -> Exception:
        """Why sending failed: what the peer said last, if it said anything."""
        try:
            for _ in range(MAX_WAITING + 1):
                if self.receive(POLL_INTERVAL_S) is None:
                    break
        except DiqkdError as error:
            return error
        return PeerAbsentError(f"the connection to {self.peer} is lost; start both nodes again to resume")

    def _read(self) -> None:
        end: Exception = PeerAbsentError(
            f"the connection to {self.peer} ended; start both nodes again to resume the run"
        )
        try:
            while data := self._socket.recv(1 << 16):
                for body in self._opener.feed(data):
                    if not self._put(decoded(self.messages, body)):
                        return
        except RemoteProtocolError as error:
            end = error
        except OSError:
            pass
        self._put(end)

    def _put(self, item: Message | Exception) -> bool:
        """Queue an item as soon as there is room; False if the connection was closed meanwhile."""
        while not self._closed.is_set():
            try:
                self._received.put(item, timeout=POLL_INTERVAL_S)
            except queue.Full:
                continue
            return True
        return False
