"""Admission of the other node: whoever connects proves who it is before anything else of it is read.

Many may call at the same time. A caller has a few seconds for the few bytes of its proof; one that sends
something else or is silent is hung up on, the oldest also when too many call, and the listener goes on.
"""

from __future__ import annotations

import logging
import selectors
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from diqkd_node.run.connection_keys import (
    CONNECTING,
    HELLO_BYTES,
    LISTENING,
    MAC_BYTES,
    Opening,
    StrangerError,
)
from diqkd_postproc.protocol.errors import DiqkdError

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.2
CONNECT_INTERVAL_S = 0.25
PROOF_TIMEOUT_S = 5.0
MAX_CALLERS = 64
BACKLOG = 128


class PeerAbsentError(DiqkdError):
    """The other node is not there, or has left."""


class Admitted(NamedTuple):
    """Connected socket of the other node, its address, and the MAC keys of this end (sending, receiving)."""

    connected: socket.socket
    peer: str
    keys: tuple[bytes, bytes]


class _Caller:
    """A connection that has proven nothing yet."""

    def __init__(self, connected: socket.socket, peer: str, opening: Opening) -> None:
        self.connected = connected
        self.peer = peer
        self.opening = opening
        self.deadline = time.monotonic() + PROOF_TIMEOUT_S
        self._hello = b""
        self._proof = b""

    def advance(self) -> bool:
        """Read what has come, no byte more than is due; True once it has proven to be the other node.

        StrangerError or OSError if it is to be hung up on.
        """
        if len(self._hello) < HELLO_BYTES:
            self._hello += self._receive(HELLO_BYTES - len(self._hello))
            if len(self._hello) == HELLO_BYTES:
                self.opening.take(self._hello)
                answer = self.opening.hello + self.opening.proof()
                if self.connected.send(answer) != len(answer):
                    raise StrangerError("who is there does not read")
            return False
        self._proof += self._receive(MAC_BYTES - len(self._proof))
        if len(self._proof) < MAC_BYTES:
            return False
        self.opening.check(self._proof)
        return True

    def _receive(self, count: int) -> bytes:
        data = self.connected.recv(count)
        if not data:
            raise StrangerError("who was there hung up")
        return data


def listener_at(host: str, port: int) -> socket.socket:
    """Socket that listens at an address of this PC; PeerAbsentError if it cannot."""
    try:
        return socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        raise PeerAbsentError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose an address of this PC and a free port"
        ) from None


def admit_node(
    listener: socket.socket,
    key: bytes | None,
    purpose: bytes,
    timeout_s: float,
    interrupted: Callable[[], bool],
) -> Admitted:
    """Wait for the other node on a listening socket; PeerAbsentError after `timeout_s`."""
    host, port = listener.getsockname()[:2]
    listener.setblocking(False)
    deadline = time.monotonic() + timeout_s
    reception = _Reception(listener, lambda: Opening(key, purpose, LISTENING))
    next_look = 0.0
    try:
        while (now := time.monotonic()) < deadline:
            if now >= next_look:  # not for every caller, of whom there may be many
                if interrupted():
                    break
                next_look = now + POLL_INTERVAL_S
            caller = reception.receive(POLL_INTERVAL_S)
            if caller is not None:
                return Admitted(caller.connected, caller.peer, caller.opening.keys)
    finally:
        reception.close()
    strangers = f"; {reception.num_strangers} strangers were hung up on" if reception.num_strangers else ""
    raise PeerAbsentError(
        f"nobody connected to {host}:{port} within {timeout_s:g} s; start Alice's node, and check that it is "
        f"given this address and that the firewall lets it through{strangers}"
    )


class _Reception:
    """A listening socket and those who call there."""

    def __init__(self, listener: socket.socket, new_opening: Callable[[], Opening]) -> None:
        self._listener = listener
        self._new_opening = new_opening
        self._callers: dict[socket.socket, _Caller] = {}  # the oldest first
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self.num_strangers = 0

    def receive(self, timeout_s: float) -> _Caller | None:
        """Serve those who call for at most `timeout_s`; the other node, if it was among them."""
        for selected, _ in self._selector.select(timeout_s):
            if selected.fileobj is self._listener:
                self._take()
                continue
            caller = self._callers.get(selected.fileobj)  # type: ignore[arg-type]
            if caller is None:
                continue  # hung up on meanwhile
            try:
                if caller.advance():
                    self._forget(caller)
                    return caller
            except BlockingIOError:
                continue
            except (StrangerError, OSError) as error:
                self._hang_up(caller, str(error))
        now = time.monotonic()
        for caller in [item for item in self._callers.values() if item.deadline <= now]:
            self._hang_up(caller, f"no proof within {PROOF_TIMEOUT_S:g} s")
        return None

    def close(self) -> None:
        """Hang up on all who still wait."""
        for caller in list(self._callers.values()):
            self._forget(caller)
            caller.connected.close()
        self._selector.close()

    def _take(self) -> None:
        try:
            connected, address = self._listener.accept()
        except OSError:  # it has left already, or this process has too many files open
            if self._callers:
                self._hang_up(next(iter(self._callers.values())), "too many call")
            return
        connected.setblocking(False)
        if len(self._callers) >= MAX_CALLERS:
            self._hang_up(next(iter(self._callers.values())), "too many call")
        self._callers[connected] = _Caller(connected, f"{address[0]}:{address[1]}", self._new_opening())
        self._selector.register(connected, selectors.EVENT_READ)

    def _forget(self, caller: _Caller) -> None:
        del self._callers[caller.connected]
        self._selector.unregister(caller.connected)

    def _hang_up(self, caller: _Caller, why: str) -> None:
        self._forget(caller)
        caller.connected.close()
        self.num_strangers += 1
        if self.num_strangers & (self.num_strangers - 1) == 0:  # a flood fills no log
            logger.warning("hung up on %s: %s (stranger %d)", caller.peer, why, self.num_strangers)


def find_node(
    host: str,
    port: int,
    key: bytes | None,
    purpose: bytes,
    timeout_s: float,
    interrupted: Callable[[], bool],
) -> Admitted:
    """Connect to the listening node, trying until `timeout_s` has passed; then PeerAbsentError."""
    deadline = time.monotonic() + timeout_s
    reason, stranger = "no attempt was made", ""
    while not interrupted():
        try:
            return _call(host, port, Opening(key, purpose, CONNECTING))
        except OSError as error:
            reason = error.strerror or str(error)
        except StrangerError as error:
            stranger = str(error)  # says more than that nobody listens there any more
        if time.monotonic() + CONNECT_INTERVAL_S > deadline:
            break
        time.sleep(CONNECT_INTERVAL_S)
    raise PeerAbsentError(
        f"no answer from {host}:{port} within {timeout_s:g} s ({stranger or reason}); start Bob's node "
        "there, or correct the peer's address"
    )


def _call(host: str, port: int, opening: Opening) -> Admitted:
    connected = socket.create_connection((host, port), timeout=1.0)
    try:
        deadline = time.monotonic() + PROOF_TIMEOUT_S
        connected.sendall(opening.hello)
        opening.take(_received(connected, HELLO_BYTES, deadline))
        opening.check(_received(connected, MAC_BYTES, deadline))
        connected.sendall(opening.proof())
    except BaseException:
        connected.close()
        raise
    return Admitted(connected, f"{host}:{port}", opening.keys)


def _received(connected: socket.socket, count: int, deadline: float) -> bytes:
    data = b""
    while len(data) < count:
        connected.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            part = connected.recv(count - len(data))
        except TimeoutError:
            raise StrangerError("who listens there is silent") from None
        if not part:
            raise StrangerError(
                "who listens there hung up: it is another program, has another initial key, or one of the "
                "nodes has no key store for the run"
            )
        data += part
    return data
