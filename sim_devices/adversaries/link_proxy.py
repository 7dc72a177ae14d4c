"""TCP relay between the nodes' PCs: forwards, records, and alters or cuts at a chosen byte."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from typing import Literal

POLL_S = 0.05

Action = Literal["drop", "stall", "half_close", "corrupt"]


@dataclass(frozen=True)
class LinkFault:
    """`action` once `after_bytes` have come from `sender` over all connections: close both sides; forward
    nothing more in this direction; end this direction only; flip the lowest bit of that byte."""

    action: Action
    sender: str
    after_bytes: int


@dataclass
class LinkProxy:
    """Relays connections from its own port to `target` (host, port) until closed."""

    target: tuple[str, int]
    fault: LinkFault | None = None
    recorded: dict[str, bytearray] = field(default_factory=lambda: {"alice": bytearray(), "bob": bytearray()})
    happened: bool = False

    def __post_init__(self) -> None:
        self._listener = socket.create_server((self.target[0], 0))
        self._listener.settimeout(POLL_S)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        # Bob first: Alice, once connected, would take the end of the connection for his departure.
        while not self._closed.is_set():
            try:
                bob = socket.create_connection(self.target, 5.0)
            except OSError:
                self._closed.wait(POLL_S)
                continue
            bob.settimeout(None)
            with self._lock:
                self._sockets.append(bob)
            alice = self._accept()
            if alice is None:
                return
            with self._lock:
                self._sockets.append(alice)
            for source, sink, sender in ((alice, bob, "alice"), (bob, alice, "bob")):
                arguments = (source, sink, sender)
                threading.Thread(target=self._forward, args=arguments, daemon=True).start()

    def _accept(self) -> socket.socket | None:
        while not self._closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return None
            connection.settimeout(None)
            return connection
        return None

    def _forward(self, source: socket.socket, sink: socket.socket, sender: str) -> None:
        try:
            while data := source.recv(1 << 16):
                before = len(self.recorded[sender])
                self.recorded[sender] += data
                fault = self.fault
                if fault and not self.happened and fault.sender == sender:
                    place = fault.after_bytes - before
                    if place < len(data):
                        place = max(place, 0)
                        self.happened = True
                        if fault.action == "corrupt":
                            data = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
                        else:
                            sink.sendall(data[:place])
                            self._interfere(fault.action, source, sink)
                            return
                sink.sendall(data)
        except OSError:
            pass
        _shut(source, sink)

    def _interfere(self, action: Action, source: socket.socket, sink: socket.socket) -> None:
        if action == "drop":
            _shut(source, sink)
        elif action == "half_close":
            sink.shutdown(socket.SHUT_WR)
        else:
            while source.recv(1 << 16):
                pass
            _shut(source, sink)  # as keepalive would

    def close(self) -> None:
        """End all connections and stop listening."""
        self._closed.set()
        self._listener.close()
        with self._lock:
            _shut(*self._sockets)
        self._thread.join(5.0)


def _shut(*sockets: socket.socket) -> None:
    for item in sockets:
        with contextlib.suppress(OSError):
            item.shutdown(socket.SHUT_RDWR)
        item.close()
