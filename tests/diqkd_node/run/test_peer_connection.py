"""Two ends of a peer connection in one process, over loopback on a free port."""

import socket
import sys
import threading
import time
from contextlib import suppress

import pytest

from diqkd.demo.ports import reserved_ports
from diqkd_node.run import peer_connection
from diqkd_node.run.agreement import MAX_ROUNDS
from diqkd_node.run.messages import MAX_MESSAGE_BYTES, MAX_NAME
from diqkd_node.run.peer_connection import MAX_WAITING, PeerAbsentError, PeerConnection
from diqkd_node.run.reasons import Fault, Reason
from diqkd_postproc.machine import peak_memory_mib
from diqkd_postproc.protocol.errors import RemoteProtocolError
from tests.support.joined_connections import joined, send_text, send_unchecked

KEY = bytes(range(32))


@pytest.fixture(params=[None, KEY], ids=["open", "authenticated"])
def connections(request):
    """(Alice's end, Bob's end)."""
    alice, bob = joined(key=request.param)
    yield alice, bob
    alice.close()
    bob.close()


def test_messages_arrive_in_order(connections) -> None:
    alice, bob = connections
    for number in range(100):
        alice.send("stop", round=number, reason=Reason.AGREED)
    assert [bob.receive(60.0)["round"] for _ in range(100)] == list(range(100))
    assert bob.poll() is None


def test_large_message(connections) -> None:
    alice, bob = connections
    columns = dict.fromkeys(("sent", "received", "end_token", "lost", "herald_pattern"), "01" * MAX_ROUNDS)
    alice.send("columns", first=0, **columns)
    assert len(bob.receive(60.0)["herald_pattern"]) == 2 * MAX_ROUNDS


def test_own_mistakes_are_refused(connections) -> None:
    alice, _ = connections
    for fields in (
        {"round": "1", "reason": Reason.AGREED},
        {"round": 1, "reason": "of one's own"},
        {"round": 1},
    ):
        with pytest.raises(ValueError, match="fields"):
            alice.send("stop", **fields)
    with pytest.raises(ValueError, match="limit"):
        alice.send("run", run_id="0" * MAX_MESSAGE_BYTES)


STOP = {"kind": "stop", "round": 1, "reason": "agreed"}


@pytest.mark.parametrize(
    "text",
    [
        b"not json",
        b"[]",
        b"3",
        b'{"kind": "unheard of"}',
        b'{"kind": ["stop"]}',
        b'{"kind": "stop", "round": 1}',
        b'{"kind": "stop", "round": true, "reason": "agreed"}',
        b'{"kind": "stop", "round": 1.0, "reason": "agreed"}',
        b'{"kind": "stop", "round": -1, "reason": "agreed"}',
        b'{"kind": "stop", "round": 9223372036854775808, "reason": "agreed"}',
        b'{"kind": "stop", "round": 1, "reason": "agreed", "outcome": 1}',
        b'{"kind": "stop", "round": 1, "reason": "unheard of"}',
        b'{"kind": "stop", "round": 1, "reason": null}',
        b'{"kind": "stop", "round": 1, "reason": ["agreed"]}',
        b'{"kind": "batch_done", "rounds": 1, "reason": "\\ud800"}',
        b'{"kind": "leaving", "reason": "\\u001b[2J"}',
        b'{"kind": "error", "fault": "\\u001b[2J"}',
        b'{"kind": "error", "message": "any text"}',
        b'{"kind": "run", "run_id": "\\ud800"}',
        b'{"kind": "run", "run_id": "ABC"}',
        b'{"kind": "run", "run_id": "\\u0663"}',
        b"[" * 100_000,
        b"9" * 100_000,
        b"\xff",
        b"",
    ],
)
def test_bad_message_is_an_error_on_both_sides(connections, text: bytes) -> None:
    alice, bob = connections
    send_text(alice, text)
    with pytest.raises(RemoteProtocolError) as caught:
        bob.receive(60.0)
    assert str(caught.value).isascii() and str(caught.value).isprintable()
    with pytest.raises(RemoteProtocolError, match="makes no sense there"):
        alice.receive(60.0)


def test_a_good_message_is_none(connections) -> None:
    """The control of those above: sent the same way."""
    alice, bob = connections
    send_unchecked(alice, **STOP)
    assert bob.receive(60.0) == STOP


@pytest.mark.parametrize(
    "role",
    [
        "a" * (MAX_NAME + 1),
        "\x00",
        "a\nb",
        "\x1b[31m",
        "\ud800",
        "b\N{LATIN SMALL LETTER O WITH DIAERESIS}b",
        3,
    ],
)
def test_names_are_short_and_printable(connections, role: object) -> None:
    alice, bob = connections
    hello = {
        **{"version": 6, "parameters": "0", "run_id": "", "proposed_run_id": "", "rounds": 0, "columns": 0},
        **{"protocol": "ordered", "timings": {}, "timings_digest": ""},
    }
    send_unchecked(alice, "hello", role="alice", **hello)
    assert bob.receive(60.0)["role"] == "alice"
    send_unchecked(alice, "hello", role=role, **hello)
    with pytest.raises(RemoteProtocolError, match="wrong fields"):
        bob.receive(60.0)


@pytest.mark.parametrize(
    "timings", [{"\ud800": 1}, {"a": -1}, {"a": "b"}, {str(i): i for i in range(65)}, []]
)
def test_timings_are_a_bounded_number_of_numbers(connections, timings: object) -> None:
    alice, bob = connections
    hello = {
        **{"version": 6, "parameters": "0", "run_id": "", "proposed_run_id": "", "rounds": 0, "columns": 0},
        **{"role": "alice", "protocol": "ordered", "timings_digest": ""},
    }
    send_unchecked(alice, "hello", timings=timings, **hello)
    with pytest.raises(RemoteProtocolError, match="wrong fields"):
        bob.receive(60.0)


def test_bytes_that_are_no_frame_end_the_connection(connections) -> None:
    alice, bob = connections
    alice.send(**STOP)
    alice._socket.sendall(b"\x00" * 100)
    assert bob.receive(60.0)["kind"] == "stop"  # what came before them is not lost
    with pytest.raises(RemoteProtocolError):
        bob.receive(60.0)


def test_endless_message_is_cut_off(connections) -> None:
    alice, bob = connections
    send = threading.Thread(target=_send_endless, args=(alice,), daemon=True)
    send.start()
    with pytest.raises(RemoteProtocolError, match="exceeds"):
        bob.receive(60.0)


def _send_endless(connection: PeerConnection) -> None:
    with suppress(OSError):
        send_text(connection, b"x" * (1 << 24))


def test_a_flood_costs_bounded_memory(connections) -> None:
    """A node that sends without end while nobody reads is stopped by its own connection."""
    alice, bob = connections
    sent = [0]
    digits = "0" * (MAX_MESSAGE_BYTES // 2)

    def flood() -> None:
        try:
            while sent[0] < 2000:
                alice.send("run", run_id=digits)
                sent[0] += 1
        except PeerAbsentError:
            pass

    before = peak_memory_mib()
    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    while bob._received.qsize() < MAX_WAITING:
        time.sleep(0.01)
    last = -1
    while sent[0] != last:
        last = sent[0]
        time.sleep(1.0)
    # Besides what waits to be read: the buffers of both sockets.
    assert MAX_WAITING <= sent[0] < 2000
    assert bob._received.qsize() == MAX_WAITING
    assert peak_memory_mib() - before < 64
    assert [bob.receive(10.0)["kind"] for _ in range(last)] == ["run"] * last
    bob.close()
    thread.join(10.0)
    assert not thread.is_alive() and not bob._reader.is_alive()


@pytest.mark.skipif(sys.platform == "win32", reason="the option is POSIX")
def test_a_peer_that_does_not_read_does_not_hold_the_sender_for_ever(monkeypatch) -> None:
    monkeypatch.setattr(peer_connection, "SEND_TIMEOUT_S", 1)
    alice, bob = joined(key=KEY)
    digits = "0" * (MAX_MESSAGE_BYTES // 2)
    with pytest.raises(PeerAbsentError):
        while True:
            alice.send("run", run_id=digits)
    alice.close()
    bob.close()


def test_error_reaches_the_peer(connections) -> None:
    alice, bob = connections
    error = alice.fail("only for this terminal", fault=Fault.PARAMETERS)
    assert isinstance(error, RemoteProtocolError) and str(error) == "only for this terminal"
    with pytest.raises(RemoteProtocolError, match="different protocol parameters"):
        bob.receive(60.0)


def test_departure(connections) -> None:
    alice, bob = connections
    alice.send("leaving", reason=Reason.TERMINATED)
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
