"""Two ends of a classical link in one process, over loopback on a free port."""

import socket
import threading

import pytest

from diqkd_node.run.peer_connection import MAX_MESSAGE_BYTES, ClassicalLink, PeerAbsentError
from diqkd_postproc.protocol.errors import RemoteProtocolError


@pytest.fixture
def raw_pair():
    """(link, socket of the peer)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        link = ClassicalLink.accept(listener, 5.0)
    yield link, peer
    link.close()
    peer.close()


@pytest.fixture
def links():
    """(Alice's end, Bob's end)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        accepted: list[ClassicalLink] = []
        thread = threading.Thread(target=lambda: accepted.append(ClassicalLink.accept(listener, 5.0)))
        thread.start()
        alice = ClassicalLink.connect("127.0.0.1", port, 5.0)
        thread.join()
    yield alice, accepted[0]
    alice.close()
    accepted[0].close()


def test_messages_arrive_in_order(links) -> None:
    alice, bob = links
    for number in range(100):
        alice.send("stop", round=number, reason="test")
    assert [bob.receive(5.0)["round"] for _ in range(100)] == list(range(100))
    assert bob.poll() is None


def test_large_message(links) -> None:
    alice, bob = links
    alice.send("missing", first=0, round_types="01" * 20000, patterns="03" * 20000)
    assert len(bob.receive(5.0)["patterns"]) == 40000


def test_own_mistakes_are_refused(links) -> None:
    alice, _ = links
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
    link, peer = raw_pair
    peer.sendall(line)
    with pytest.raises(RemoteProtocolError):
        link.receive(5.0)
    assert b'"kind": "error"' in peer.recv(1 << 16)


def test_endless_line_is_cut_off(raw_pair) -> None:
    link, peer = raw_pair
    threading.Thread(target=_flood, args=(peer,), daemon=True).start()
    with pytest.raises(RemoteProtocolError, match="exceeds"):
        link.receive(10.0)


def _flood(peer: socket.socket) -> None:
    try:
        for _ in range(64):
            peer.sendall(b"x" * 65536)
    except OSError:
        pass


def test_error_reaches_the_peer(links) -> None:
    alice, bob = links
    error = alice.fail("parameters differ")
    assert isinstance(error, RemoteProtocolError)
    with pytest.raises(RemoteProtocolError, match="parameters differ"):
        bob.receive(5.0)


def test_departure(links) -> None:
    alice, bob = links
    alice.send("leaving", reason="termination requested")
    alice.close()
    with pytest.raises(PeerAbsentError, match="termination requested"):
        bob.receive(5.0)
    with pytest.raises(PeerAbsentError, match="termination requested"):
        bob.receive(5.0)


def test_lost_connection(links) -> None:
    alice, bob = links
    alice.close()
    with pytest.raises(PeerAbsentError, match="resume"):
        bob.receive(5.0)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(PeerAbsentError, match=f"127.0.0.1:{port}.*Bob"):
        ClassicalLink.connect("127.0.0.1", port, 0.1)


def test_nobody_connects() -> None:
    with pytest.raises(PeerAbsentError, match="Alice"):
        ClassicalLink.listen("127.0.0.1", 0, 0.1)


def test_address_in_use() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(PeerAbsentError, match="free port"),
    ):
        ClassicalLink.listen("127.0.0.1", listener.getsockname()[1], 0.1)
