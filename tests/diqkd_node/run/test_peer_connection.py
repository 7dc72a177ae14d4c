"""Two ends of a peer connection in one process, over loopback on a free port."""

import socket
import threading

import pytest

from diqkd.demo.ports import reserved_ports
from diqkd_node.run.agreement import MAX_ROUNDS
from diqkd_node.run.peer_connection import MAX_MESSAGE_BYTES, PeerAbsentError, PeerConnection
from diqkd_postproc.protocol.errors import RemoteProtocolError


@pytest.fixture
def raw_pair():
    """(connection, socket of the peer)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        connection = PeerConnection.accept(listener, 60.0)
    yield connection, peer
    connection.close()
    peer.close()


@pytest.fixture
def connections():
    """(Alice's end, Bob's end)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        accepted: list[PeerConnection] = []
        thread = threading.Thread(target=lambda: accepted.append(PeerConnection.accept(listener, 60.0)))
        thread.start()
        alice = PeerConnection.connect("127.0.0.1", port, 60.0)
        thread.join()
    yield alice, accepted[0]
    alice.close()
    accepted[0].close()


def test_messages_arrive_in_order(connections) -> None:
    alice, bob = connections
    for number in range(100):
        alice.send("stop", round=number, reason="test")
    assert [bob.receive(60.0)["round"] for _ in range(100)] == list(range(100))
    assert bob.poll() is None


def test_large_message(connections) -> None:
    alice, bob = connections
    columns = dict.fromkeys(("sent", "received", "end_token", "lost", "herald_pattern"), "01" * MAX_ROUNDS)
    alice.send("columns", first=0, **columns)
    assert len(bob.receive(60.0)["herald_pattern"]) == 2 * MAX_ROUNDS


def test_own_mistakes_are_refused(connections) -> None:
    alice, _ = connections
    with pytest.raises(ValueError, match="fields"):
        alice.send("stop", round="1", reason="wrong type")
    with pytest.raises(ValueError, match="limit"):
        alice.send("error", message="x" * MAX_MESSAGE_BYTES)


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n",
        b"[]\n",
        b'{"kind": "unheard of"}\n',
        b'{"kind": "stop", "round": 1}\n',
        b'{"kind": "stop", "round": true, "reason": ""}\n',
        b'{"kind": "stop", "round": -1, "reason": ""}\n',
        b'{"kind": "stop", "round": 1, "reason": "", "outcome": 1}\n',
        b"[" * 100_000 + b"\n",
        b"\xff\n",
    ],
)
def test_bad_message_is_an_error_on_both_sides(raw_pair, line: bytes) -> None:
    connection, peer = raw_pair
    peer.sendall(line)
    with pytest.raises(RemoteProtocolError):
        connection.receive(60.0)
    assert b'"kind": "error"' in peer.recv(1 << 16)


def test_endless_line_is_cut_off(raw_pair) -> None:
    connection, peer = raw_pair
    threading.Thread(target=_flood, args=(peer,), daemon=True).start()
    with pytest.raises(RemoteProtocolError, match="exceeds"):
        connection.receive(60.0)


def _flood(peer: socket.socket) -> None:
    try:
        for _ in range(64):
            peer.sendall(b"x" * 65536)
    except OSError:
        pass


def test_error_reaches_the_peer(connections) -> None:
    alice, bob = connections
    error = alice.fail("parameters differ")
    assert isinstance(error, RemoteProtocolError)
    with pytest.raises(RemoteProtocolError, match="parameters differ"):
        bob.receive(60.0)


def test_departure(connections) -> None:
    alice, bob = connections
    alice.send("leaving", reason="termination requested")
    alice.close()
    with pytest.raises(PeerAbsentError, match="termination requested"):
        bob.receive(60.0)
    with pytest.raises(PeerAbsentError, match="termination requested"):
        bob.receive(60.0)


def test_lost_connection(connections) -> None:
    alice, bob = connections
    alice.close()
    with pytest.raises(PeerAbsentError, match="resume"):
        bob.receive(60.0)


def test_nobody_listens() -> None:
    with (
        reserved_ports(1) as port,
        pytest.raises(PeerAbsentError, match=f"127.0.0.1:{port}.*Bob"),
    ):
        PeerConnection.connect("127.0.0.1", port, 0.1)


def test_nobody_connects() -> None:
    with pytest.raises(PeerAbsentError, match="Alice"):
        PeerConnection.listen("127.0.0.1", 0, 0.1)


def test_address_in_use() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(PeerAbsentError, match="free port"),
    ):
        PeerConnection.listen("127.0.0.1", listener.getsockname()[1], 0.1)
