"""Strangers where Bob listens, and where Alice connects: the other node still gets through."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from diqkd_node.run import admission
from diqkd_node.run.connection_keys import HELLO_BYTES, MAC_BYTES
from diqkd_node.run.peer_connection import PeerAbsentError, PeerConnection
from diqkd_node.run.reasons import Reason

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))


@pytest.fixture
def bob():
    """(address, future of his connection) of a Bob who listens."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, ThreadPoolExecutor(1) as pool:
        yield listener.getsockname()[:2], pool.submit(PeerConnection.accept, listener, 30.0, key=KEY)


def alice_gets_through(bob, key: bytes = KEY) -> None:
    address, future = bob
    alice = PeerConnection.connect(*address, 20.0, key=key)
    connection = future.result(20.0)
    alice.send("stop", round=3, reason=Reason.AGREED)
    assert connection.receive(10.0) == {"kind": "stop", "round": 3, "reason": "agreed"}
    for one in (alice, connection):
        one.close()


def is_hung_up_on(stranger: socket.socket, timeout_s: float = 10.0) -> bool:
    """Whether the connection ends; what comes before is read."""
    stranger.settimeout(timeout_s)
    try:
        while stranger.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_alice_alone_gets_through(bob) -> None:
    alice_gets_through(bob)


@pytest.mark.parametrize(
    "garbage", [b"\x00" * 1000, b"GET / HTTP/1.1\r\n\r\n" + b"x" * 100, b'{"kind": "hello"}\n' * 100]
)
def test_garbage_is_hung_up_on(bob, garbage: bytes) -> None:
    stranger = socket.create_connection(bob[0])
    stranger.sendall(garbage)
    assert is_hung_up_on(stranger)
    alice_gets_through(bob)


def test_the_silent_are_hung_up_on_after_a_deadline(bob, monkeypatch) -> None:
    monkeypatch.setattr(admission, "PROOF_TIMEOUT_S", 0.3)
    silent = socket.create_connection(bob[0])
    slow = socket.create_connection(bob[0])
    slow.sendall(b"d")
    assert is_hung_up_on(silent) and is_hung_up_on(slow)
    alice_gets_through(bob)


def test_the_silent_do_not_delay_the_other_node(bob, monkeypatch) -> None:
    monkeypatch.setattr(admission, "PROOF_TIMEOUT_S", 1e6)
    silent = [socket.create_connection(bob[0]) for _ in range(10)]
    alice_gets_through(bob)
    for stranger in silent:
        stranger.close()


def test_a_thousand_strangers(bob) -> None:
    """While they come, and with as many open connections as this process may have."""
    strangers, stop = [], threading.Event()

    def flood() -> None:
        for number in range(1000):
            if stop.is_set():
                break
            stranger = socket.create_connection(bob[0])
            stranger.sendall(bytes(number % (HELLO_BYTES + MAC_BYTES)))
            strangers.append(stranger)
            if len(strangers) > 200:
                strangers.pop(0).close()

    with ThreadPoolExecutor(1) as pool:
        flooded = pool.submit(flood)
        flooded.result(60.0)
        alice_gets_through(bob)
    for stranger in strangers:
        stranger.close()


def test_the_other_node_gets_through_while_strangers_come(bob) -> None:
    done = threading.Event()

    def flood() -> None:
        while not done.is_set():
            try:
                with socket.create_connection(bob[0], timeout=1.0) as stranger:
                    stranger.sendall(b"d")
                    time.sleep(0.001)
            except OSError:
                return

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(flood)
        try:
            time.sleep(0.2)
            alice_gets_through(bob)
        finally:
            done.set()


def test_a_replayed_greeting_is_hung_up_on(bob) -> None:
    """What Alice sent to Bob in an earlier connection, byte for byte, twice."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(2) as pool:
        earlier = pool.submit(PeerConnection.accept, listener, 10.0, key=KEY)
        with socket.create_server(("127.0.0.1", 0)) as relay:
            alice = pool.submit(PeerConnection.connect, *relay.getsockname()[:2], 10.0, key=KEY)
            from_alice, _ = relay.accept()
            to_bob = socket.create_connection(listener.getsockname())
            recorded = received(from_alice, HELLO_BYTES)
            to_bob.sendall(recorded)
            from_alice.sendall(received(to_bob, HELLO_BYTES + MAC_BYTES))
            proof = received(from_alice, MAC_BYTES)
            to_bob.sendall(proof)
        for connection in (alice.result(10.0), earlier.result(10.0)):  # the control: that was accepted
            connection.close()
    for _ in range(2):
        stranger = socket.create_connection(bob[0])
        stranger.sendall(recorded)
        assert len(received(stranger, HELLO_BYTES + MAC_BYTES)) == HELLO_BYTES + MAC_BYTES
        stranger.sendall(proof)
        assert is_hung_up_on(stranger)
    alice_gets_through(bob)


def received(connected: socket.socket, count: int) -> bytes:
    data = b""
    connected.settimeout(10.0)
    while len(data) < count and (part := connected.recv(count - len(data))):
        data += part
    return data


@pytest.mark.parametrize("key", [OTHER_KEY, None])
def test_a_node_without_the_key_is_a_stranger(bob, key: bytes | None) -> None:
    with pytest.raises(PeerAbsentError, match=r"initial key|one of the nodes has"):
        PeerConnection.connect(*bob[0], 0.5, key=key)
    alice_gets_through(bob)


def test_an_open_connection_takes_whoever_calls() -> None:
    """The control: without a key store there is nothing to prove."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        bob = pool.submit(PeerConnection.accept, listener, 10.0)
        anybody = PeerConnection.connect(*listener.getsockname()[:2], 10.0)
        for connection in (anybody, bob.result(10.0)):
            connection.close()


@pytest.mark.parametrize("answer", [b"", b"garbage" * 100, bytes(HELLO_BYTES)])
def test_an_impostor_in_bobs_place_learns_nothing_and_is_left(answer: bytes, monkeypatch) -> None:
    monkeypatch.setattr(admission, "PROOF_TIMEOUT_S", 0.3)
    sent = []
    with socket.create_server(("127.0.0.1", 0)) as impostor:

        def serve() -> None:
            impostor.settimeout(5.0)
            connected, _ = impostor.accept()
            connected.sendall(answer)
            connected.settimeout(2.0)
            try:
                while data := connected.recv(1 << 16):
                    sent.append(data)
            except OSError:
                pass
            impostor.close()

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(PeerAbsentError, match="no answer"):
            PeerConnection.connect(*impostor.getsockname()[:2], 1.0, key=KEY)
        thread.join()
    assert len(b"".join(sent)) <= HELLO_BYTES


def test_the_wait_ends_when_it_is_interrupted_and_when_nobody_comes() -> None:
    asked = iter([False, False, True])
    with pytest.raises(PeerAbsentError):
        PeerConnection.listen("127.0.0.1", 0, 60.0, lambda: next(asked), key=KEY)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stranger = socket.create_connection(listener.getsockname())
        stranger.sendall(bytes(HELLO_BYTES))
        with pytest.raises(PeerAbsentError, match="1 strangers were hung up on"):
            PeerConnection.accept(listener, 0.5, key=KEY)
