"""Public TCP connection between the two nodes' PCs: small JSON messages, one a line.

Everything here is public and unauthenticated; it coordinates the acquisition. Of a key run it carries no
outcome and no setting; a characterisation shares them (`outcome_sharing`). Bob listens, Alice connects. A
reader thread receives, so that nothing but `receive` ever waits. Messages are bounded in size and checked
against MESSAGES; a peer that breaks a rule is sent the error before the connection closes, so that both sides
end with it.
"""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from diqkd_postproc.protocol.errors import DiqkdError, RemoteProtocolError

MAX_MESSAGE_BYTES = 1 << 18
MAX_TEXT = 1000
POLL_INTERVAL_S = 0.2
CONNECT_INTERVAL_S = 0.25
# A PC that lost power, or a cable, is noticed within 100 s; by default it would take two hours.
KEEPALIVE = {"TCP_KEEPIDLE": 40, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}

# Names and types of the fields of every message.
MESSAGES: dict[str, dict[str, type]] = {
    "hello": {
        "version": int,
        "role": str,
        "parameters": str,
        "run_id": str,
        "proposed_run_id": str,
        "rounds": int,
        "columns": int,
        "timings": dict,
        "timings_digest": str,
    },
    "run": {"run_id": str},
    "batch_ready": {"first": int, "num_rounds": int},
    "batch_begun": {"first": int, "num_rounds": int},
    "stop": {"round": int, "reason": str},
    "batch_done": {"rounds": int, "reason": str},
    "columns": {
        "first": int,
        "sent": str,
        "received": str,
        "end_token": str,
        "lost": str,
        "herald_pattern": str,
    },
    "finish": {"rounds": int},
    # Of runs that make no key only, see `outcome_sharing`.
    "shared_rounds": {
        "first": int,
        "settings": str,
        "outcomes": str,
        "lost": str,
        "timestamps": str,
        "patterns": str,
    },
    "leaving": {"reason": str},
    "error": {"message": str},
}

Message = dict[str, Any]


class PeerAbsentError(DiqkdError):
    """The other node is not there, or has left."""


class PeerConnection:
    """Connected socket; made by `listen` or `connect`. Another purpose is a subclass with its own
    `messages`, among which `leaving` and `error` keep their meaning.
    """

    messages = MESSAGES

    def __init__(self, connected: socket.socket, peer: str) -> None:
        self.peer = peer
        self._socket = connected
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            if hasattr(socket, option):
                self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self._received: queue.SimpleQueue[Message | Exception] = queue.SimpleQueue()
        self._end: Exception | None = None
        self._reader = threading.Thread(target=self._read, name="peer connection", daemon=True)
        self._reader.start()

    @classmethod
    def listen(
        cls,
        host: str,
        port: int,
        timeout_s: float,
        interrupted: Callable[[], bool] = lambda: False,
        listening: Callable[[str, int], None] = lambda host, port: None,
    ) -> PeerConnection:
        """Wait for the peer on an address of this PC; PeerAbsentError after `timeout_s`.

        :param port: 0 takes a free one
        :param listening: called with host and port once the peer can connect
        """
        try:
            listener = socket.create_server((host, port))
        except OSError as error:
            raise PeerAbsentError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose an address of this PC "
                "and a free port"
            ) from None
        with listener:
            listening(*listener.getsockname()[:2])
            return cls.accept(listener, timeout_s, interrupted)

    @classmethod
    def accept(
        cls, listener: socket.socket, timeout_s: float, interrupted: Callable[[], bool] = lambda: False
    ) -> PeerConnection:
        """Wait for the peer on a listening socket; PeerAbsentError after `timeout_s`."""
        host, port = listener.getsockname()[:2]
        listener.settimeout(POLL_INTERVAL_S)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not interrupted():
            try:
                connected, address = listener.accept()
            except TimeoutError:
                continue
            return cls(connected, f"{address[0]}:{address[1]}")
        raise PeerAbsentError(
            f"nobody connected to {host}:{port} within {timeout_s:g} s; start Alice's node, and check that "
            "it is given this address and that the firewall lets it through"
        )

    @classmethod
    def connect(
        cls, host: str, port: int, timeout_s: float, interrupted: Callable[[], bool] = lambda: False
    ) -> PeerConnection:
        """Connect to the listening peer, trying until `timeout_s` has passed; then PeerAbsentError."""
        deadline = time.monotonic() + timeout_s
        reason = "no attempt was made"
        while not interrupted():
            try:
                connected = socket.create_connection((host, port), timeout=max(POLL_INTERVAL_S, 1.0))
                return cls(connected, f"{host}:{port}")
            except OSError as error:
                reason = error.strerror or str(error)
            if time.monotonic() + CONNECT_INTERVAL_S > deadline:
                break
            time.sleep(CONNECT_INTERVAL_S)
        raise PeerAbsentError(
            f"no answer from {host}:{port} within {timeout_s:g} s ({reason}); start Bob's node there, or "
            "correct the peer's address"
        )

    def send(self, kind: str, **fields: Any) -> None:
        """Send one message; PeerAbsentError if the connection is gone."""
        if {name: type(value) for name, value in fields.items()} != self.messages[kind]:
            raise ValueError(f"message {kind!r} takes the fields {', '.join(self.messages[kind])}")
        line = json.dumps({"kind": kind, **fields}).encode() + b"\n"
        if len(line) > MAX_MESSAGE_BYTES:
            raise ValueError(
                f"message {kind!r} has {len(line)} bytes, above the limit of {MAX_MESSAGE_BYTES}"
            )
        try:
            self._socket.sendall(line)
        except OSError:
            raise self._explain_end() from None

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
                self._send_error(str(item))
            raise item
        if item["kind"] == "error":
            self._end = RemoteProtocolError(f"the other node stopped the run: {item['message']}")
            raise self._end
        if item["kind"] == "leaving":
            self._end = PeerAbsentError(
                f"the other node left the run ({item['reason']}); start both nodes again with the same run "
                "directories, and it goes on where it stopped"
            )
            raise self._end
        return item

    def fail(self, message: str, kind: type[DiqkdError] = RemoteProtocolError) -> DiqkdError:
        """Send the peer what is wrong; returns the error to raise here."""
        self._send_error(message)
        return kind(message)

    def close(self) -> None:
        """Close the connection; harmless when repeated."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()
        self._reader.join(timeout=1.0)

    def _send_error(self, message: str) -> None:
        try:
            self.send("error", message=message[:MAX_TEXT])
        except DiqkdError:
            pass

    def _explain_end(self) -> Exception:
        """Why sending failed: what the peer said last, if it said anything."""
        try:
            while self.receive(POLL_INTERVAL_S) is not None:
                pass
        except DiqkdError as error:
            return error
        return PeerAbsentError(f"the connection to {self.peer} is lost; start both nodes again to resume")

    def _read(self) -> None:
        buffer = b""
        try:
            while True:
                data = self._socket.recv(1 << 16)
                if not data:
                    break
                buffer += data
                *lines, buffer = buffer.split(b"\n")
                if len(buffer) > MAX_MESSAGE_BYTES or any(len(line) > MAX_MESSAGE_BYTES for line in lines):
                    raise RemoteProtocolError(f"a message exceeds {MAX_MESSAGE_BYTES} bytes")
                for line in lines:
                    self._received.put(_checked(line, self.messages))
        except RemoteProtocolError as error:
            self._received.put(error)
            return
        except OSError:
            pass
        self._received.put(
            PeerAbsentError(f"the connection to {self.peer} ended; start both nodes again to resume the run")
        )


def _checked(line: bytes, messages: dict[str, dict[str, type]]) -> Message:
    """The message of one line; RemoteProtocolError if it is none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("a line is not JSON") from None
    if not isinstance(message, dict) or message.get("kind") not in messages:
        raise RemoteProtocolError("a message of unknown kind came from the other node")
    fields = messages[message["kind"]]
    if {name: type(value) for name, value in message.items() if name != "kind"} != fields:
        raise RemoteProtocolError(f"a {message['kind']!r} message has wrong fields")
    if any(type(value) is int and not 0 <= value < 1 << 63 for value in message.values()):
        raise RemoteProtocolError(f"a {message['kind']!r} message has a number out of range")
    return message
