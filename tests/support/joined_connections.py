"""Two connected ends of the nodes' connection in one process, and messages that no node would send."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from diqkd_node.run.peer_connection import PeerConnection


def joined(
    kind: type[PeerConnection] = PeerConnection, key: bytes | None = None
) -> tuple[PeerConnection, PeerConnection]:
    """Alice's end and Bob's, over loopback on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        bob = pool.submit(kind.accept, listener, 60.0, key=key)
        alice = kind.connect(*listener.getsockname()[:2], 60.0, key=key)
        return alice, bob.result()


def send_text(connection: PeerConnection, text: bytes) -> None:
    """Send any bytes as the body of the next frame, as whoever holds the key can."""
    connection._socket.sendall(connection._sealer.seal(text))


def send_unchecked(connection: PeerConnection, kind: str, **fields: Any) -> None:
    """Send a message whose fields nobody has checked."""
    send_text(connection, json.dumps({"kind": kind, **fields}).encode())
