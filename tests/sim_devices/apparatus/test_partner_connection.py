"""Frames between the two apparatuses: order, waking, full memory, and the end of one of them."""

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim_devices.apparatus.partner_connection import AWAY, NUM_SLOTS, TOKEN, Frame, PartnerConnection

Pair = tuple[PartnerConnection, PartnerConnection]


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    alice, bob = PartnerConnection(listens=False), PartnerConnection(listens=True)
    meet(alice, bob)
    assert not list(tmp_path.iterdir())  # nothing is left behind, however the processes end
    yield alice, bob
    alice.close()
    bob.close()


def meet(alice: PartnerConnection, bob: PartnerConnection) -> None:
    assert alice.meet(1.0, lambda: bob.port)
    assert bob.meet(1.0, lambda: 0)


def next_frame(end: PartnerConnection) -> Frame | None:
    while end.connected:
        frame = end.receive()
        if frame is not None:
            return frame
    return None


def test_frames_come_whole_and_in_order_round_after_round(pair: Pair) -> None:
    alice, bob = pair
    for index in range(3 * NUM_SLOTS):
        alice.hold(index, -index << 40, TOKEN, 1, 255)
        bob.send(index, 1 << 62, AWAY)
        assert bob.look() == (index, -index << 40, TOKEN, 1, 255)
        assert alice.receive() == (index, 1 << 62, AWAY, 0, 0)
    assert alice.look() is None and bob.look() is None


def test_an_end_that_sleeps_is_woken(pair: Pair) -> None:
    alice, bob = pair
    num_frames = 2_000

    def answer() -> None:
        for _ in range(num_frames):
            frame = next_frame(bob)
            assert frame is not None
            bob.send(*frame)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    for index in range(num_frames):
        alice.send(index, 0, TOKEN)
        assert next_frame(alice) == (index, 0, TOKEN, 0, 0)
    thread.join(10.0)
    assert not thread.is_alive()


def test_what_was_sent_before_the_end_still_comes(pair: Pair) -> None:
    alice, bob = pair
    alice.send(7, 0, TOKEN)
    alice.close()
    assert next_frame(bob) == (7, 0, TOKEN, 0, 0)
    assert next_frame(bob) is None
    assert not bob.connected


def test_a_partner_that_reads_nothing_loses_the_connection_and_can_come_back(pair: Pair) -> None:
    alice, bob = pair
    for index in range(NUM_SLOTS + 1):
        assert alice.connected
        alice.send(index, 0, AWAY)
    assert not alice.connected
    for index in range(NUM_SLOTS):
        assert next_frame(bob) == (index, 0, AWAY, 0, 0)
    assert next_frame(bob) is None
    meet(alice, bob)
    alice.send(1, 2, TOKEN)
    assert next_frame(bob) == (1, 2, TOKEN, 0, 0)


def test_a_connection_whose_other_end_has_gone_is_passed_over(pair: Pair) -> None:
    alice, bob = pair
    alice.drop()
    assert next_frame(bob) is None
    assert alice.meet(1.0, lambda: bob.port)
    alice.drop()
    assert not bob.meet(1.0, lambda: 0)
    meet(alice, bob)
