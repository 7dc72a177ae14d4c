"""Frames and proofs of the nodes' connection, without a socket: whatever is changed on the way ends it."""

import pytest

from diqkd_node.run.connection_keys import (
    CONNECTING,
    HELLO_BYTES,
    LISTENING,
    MAC_BYTES,
    NONCE_BYTES,
    Opening,
    StrangerError,
)
from diqkd_node.run.frames import FRAME_BYTES, FrameOpener, FrameSealer
from diqkd_postproc.protocol.errors import RemoteProtocolError

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
MAX_BODY = 1000
BODIES = [b"one", b"", b"three" * 50]


def opened(key: bytes | None = KEY, peer_key: bytes | None = KEY, purposes=(b"rounds", b"rounds")):
    """The two ends after both have checked the other's proof."""
    alice = Opening(key, purposes[0], CONNECTING)
    bob = Opening(peer_key, purposes[1], LISTENING)
    bob.take(alice.hello)
    alice.take(bob.hello)
    alice.check(bob.proof())
    bob.check(alice.proof())
    return alice, bob


def frames(bodies=BODIES) -> tuple[list[bytes], FrameOpener]:
    alice, bob = opened()
    sealer = FrameSealer(alice.keys[0])
    return [sealer.seal(body) for body in bodies], FrameOpener(bob.keys[1], MAX_BODY)


def test_what_is_sent_arrives_in_any_pieces() -> None:
    sent, opener = frames()
    stream = b"".join(sent)
    received = []
    for index in range(len(stream)):
        received += opener.feed(stream[index : index + 1])
    assert received == BODIES


@pytest.mark.parametrize("field", ["length", "sequence number", "body", "MAC"])
def test_a_flipped_bit_of_any_field_ends_the_connection(field: str) -> None:
    start, end = {
        "length": (0, 4),
        "sequence number": (4, 12),
        "body": (12, 12 + len(BODIES[0])),
        "MAC": (12 + len(BODIES[0]), 12 + len(BODIES[0]) + MAC_BYTES),
    }[field]
    for bit in range(8 * start, 8 * end):
        sent, opener = frames()
        altered = bytearray(sent[0])
        altered[bit // 8] ^= 1 << bit % 8
        received = []
        with pytest.raises(RemoteProtocolError):
            # More follows, for a length that promises more.
            for part in (bytes(altered), *sent[1:], bytes(2 * MAX_BODY)):
                received += opener.feed(part)
        assert received == []


@pytest.mark.parametrize("order", [(0, 0), (1,), (0, 2), (1, 0), (0, 1, 0), (0, 1, 1)])
def test_a_frame_that_is_not_the_next_is_refused(order: tuple[int, ...]) -> None:
    """Repeated, left out, or moved; the control is the order in which they were sent."""
    sent, opener = frames()
    control = frames()
    assert [body for frame in control[0] for body in control[1].feed(frame)] == BODIES
    received = []
    with pytest.raises(RemoteProtocolError, match="repeated, moved or left out"):
        for index in order:
            received += opener.feed(sent[index])
    assert received == BODIES[: len(received)] and len(received) < len(order)


def test_a_frame_that_is_cut_short_gives_nothing() -> None:
    sent, opener = frames()
    assert list(opener.feed(sent[0][:-1])) == []
    with pytest.raises(RemoteProtocolError):
        list(opener.feed(sent[1]))


def test_a_frame_that_is_sent_back_is_refused() -> None:
    alice, bob = opened()
    frame = FrameSealer(alice.keys[0]).seal(b"to bob")
    assert list(FrameOpener(bob.keys[1], MAX_BODY).feed(frame)) == [b"to bob"]
    with pytest.raises(RemoteProtocolError, match="not the other node's"):
        list(FrameOpener(alice.keys[1], MAX_BODY).feed(frame))


def test_a_frame_of_an_earlier_connection_is_refused() -> None:
    (first, *_), _ = frames()
    _, opener = frames()
    with pytest.raises(RemoteProtocolError, match="not the other node's"):
        list(opener.feed(first))


def test_an_endless_body_is_refused_by_its_length() -> None:
    alice, bob = opened()
    frame = FrameSealer(alice.keys[0]).seal(bytes(MAX_BODY + 1))
    with pytest.raises(RemoteProtocolError, match="exceeds 1000 bytes"):
        list(FrameOpener(bob.keys[1], MAX_BODY).feed(frame[: FRAME_BYTES - MAC_BYTES]))


@pytest.mark.parametrize("key", [None, KEY])
def test_nodes_with_the_same_key_have_the_same_keys_of_each_direction(key: bytes | None) -> None:
    alice, bob = opened(key, key)
    assert alice.keys == bob.keys[::-1]
    again, _ = opened(key, key)
    assert len({*alice.keys, *again.keys}) == 4


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ((KEY, OTHER_KEY), "does not hold the initial key"),
        ((KEY, None), "the other has none"),
        ((None, KEY), "the other has none"),
    ],
)
def test_nodes_with_different_keys_are_strangers(keys, message: str) -> None:
    with pytest.raises(StrangerError, match=message):
        opened(*keys)


def test_a_proof_for_another_purpose_proves_nothing() -> None:
    with pytest.raises(StrangerError):
        opened(purposes=(b"rounds", b"pauses"))


def test_a_proof_of_an_earlier_connection_proves_nothing() -> None:
    """A recorded greeting and proof of Alice's, played to Bob again; the control is its first use."""
    alice, bob = Opening(KEY, b"rounds", CONNECTING), Opening(KEY, b"rounds", LISTENING)
    bob.take(alice.hello)
    alice.take(bob.hello)
    recorded = alice.proof()
    bob.check(recorded)
    later = Opening(KEY, b"rounds", LISTENING)
    later.take(alice.hello)
    with pytest.raises(StrangerError):
        later.check(recorded)


def test_a_proof_that_is_sent_back_proves_nothing() -> None:
    """Two listening ends, each given the other's hello and proof."""
    first, second = (Opening(KEY, b"rounds", LISTENING) for _ in range(2))
    first.take(second.hello)
    second.take(first.hello)
    with pytest.raises(StrangerError):
        first.check(second.proof())
    with pytest.raises(StrangerError):
        first.check(first.proof())


@pytest.mark.parametrize(
    "hello",
    [
        b"",
        bytes(HELLO_BYTES),
        b"GET / HTTP/1.1\r\n" + bytes(HELLO_BYTES - 16),
        b"diqkd nodes 0 auth" + bytes(NONCE_BYTES),
    ],
)
def test_something_else_is_a_stranger(hello: bytes) -> None:
    with pytest.raises(StrangerError):
        Opening(KEY, b"rounds", LISTENING).take(hello)


def test_every_bit_of_hello_and_proof_counts() -> None:
    for bit in range(8 * (HELLO_BYTES + MAC_BYTES)):
        alice, bob = Opening(KEY, b"rounds", CONNECTING), Opening(KEY, b"rounds", LISTENING)
        bob.take(alice.hello)
        answer = bytearray(bob.hello + bob.proof())
        answer[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StrangerError):
            alice.take(bytes(answer[:HELLO_BYTES]))
            alice.check(bytes(answer[HELLO_BYTES:]))


def test_a_key_of_another_length_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="128 bits"):
        Opening(bytes(16), b"rounds", LISTENING)
