"""Attacks on every message, kills at every event, and what a resumed session must refuse."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from joined_parties import assert_no_key, assert_same_key, converse, small_parameters, two_parties

from diqkd_postproc.errors import RemoteProtocolError
from diqkd_postproc.session.events import Event, Need, Work
from diqkd_postproc.session.framing import encode_frame
from diqkd_postproc.session.messages import Receipt


def change_settings(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[40] ^= 0x10
    return bytes(changed)


def flips(length: int, rng: np.random.Generator) -> list[int]:
    """All bits of a short message, a sample of a long one with all of its header."""
    places = 8 * length
    if places <= 400:
        return list(range(places))
    return [*range(26 * 8), *sorted(rng.choice(np.arange(26 * 8, places), 60, replace=False).tolist())]


@pytest.mark.parametrize("number", range(7))
def test_every_flipped_bit_is_rejected_or_harmless(number: int) -> None:
    rng = np.random.default_rng(number)
    length = len(converse(*two_parties())[number][1])
    for place in flips(length, rng):
        count = -1

        def flip(_: str, data: bytes, place: int = place) -> bytes:
            nonlocal count
            count += 1
            if count != number:
                return data
            changed = bytearray(data)
            changed[place // 8] ^= 1 << place % 8
            return bytes(changed)

        alice, bob = two_parties()
        converse(alice, bob, flip)
        if alice.ledger.key is not None:
            assert_same_key(alice, bob)
            assert number == 6, f"bit {place} of transmission {number} was not noticed"
        elif number < 5:
            assert_no_key(bob)
        for party in (alice, bob):
            assert len(party.ledger.bindings) <= 4


@pytest.mark.parametrize("number", range(7))
def test_truncation_duplication_and_loss_give_no_half_accepted_session(number: int) -> None:
    length = len(converse(*two_parties())[number][1])
    attacks: list[Callable[[bytes], bytes]] = [
        lambda data: b"",
        lambda data: data + data,
        *(lambda data, cut=cut: data[:cut] for cut in (1, 4, 25, 26, length // 2, length - 1)),
    ]
    for attack in attacks:
        count = -1

        def change(_: str, data: bytes, attack: Callable[[bytes], bytes] = attack) -> bytes:
            nonlocal count
            count += 1
            return attack(data) if count == number else data

        alice, bob = two_parties()
        converse(alice, bob, change)
        for party in (alice, bob):
            if party.running:
                party.engine.receive_data(b"")
                while party.turn():
                    pass
        if alice.ledger.key is not None:
            assert_same_key(alice, bob)
        elif number < 5:
            assert_no_key(bob)


def test_killed_at_every_event_it_goes_on_to_the_same_key() -> None:
    for victim in (0, 1):
        step = 0
        while True:
            count = -1

            def now(event: Event, step: int = step) -> bool:
                nonlocal count
                count += 1
                return count == step

            parties = two_parties()
            parties[victim].stop_before = now
            converse(*parties)
            if not parties[victim].killed:
                break
            parties[victim].stop_before = None
            for party in parties:
                party.start()
            converse(*parties)
            assert [party.error for party in parties] == [None, None]
            assert_same_key(*parties)
            assert parties[0].engine.transcript_digest == parties[1].engine.transcript_digest
            step += 1
        assert step > 20


def test_a_resumed_session_sends_the_same_bytes() -> None:
    alice, bob = two_parties()
    alice.stop_before = lambda event: event == Need(work=Work.CHECK_DECISION)
    first = converse(alice, bob)
    alice.stop_before = None
    alice.start()
    bob.start()
    second = converse(alice, bob)
    for role in ("alice", "bob"):
        before = b"".join(data for sender, data in first if sender == role)
        after = b"".join(data for sender, data in second if sender == role)
        receipt = encode_frame(alice.engine.session_id, Receipt()) if role == "alice" else b""
        assert after == before + receipt
    assert alice.engine.resumed and bob.engine.resumed


def test_a_peer_that_changes_its_mind_is_refused() -> None:
    alice, bob = two_parties()
    bob.stop_before = lambda event: event == Need(work=Work.DECODE)
    converse(alice, bob)
    bob.stop_before = None
    alice.start()
    bob.start()

    def change(role: str, data: bytes) -> bytes:
        return change_settings(data) if role == "alice" and len(data) > 400 else data

    converse(alice, bob, change)
    assert isinstance(bob.error, RemoteProtocolError) and "interrupted session" in str(bob.error)
    assert_no_key(alice, bob)


def test_another_record_under_the_same_pads_is_refused() -> None:
    alice, bob = two_parties()
    alice.stop_before = lambda event: event == Need(work=Work.EXTRACT)
    converse(alice, bob)
    outcome = alice.record.outcome.copy()
    outcome[0] ^= 1
    alice.record = dataclasses.replace(alice.record, outcome=outcome)
    alice.stop_before = None
    alice.start()
    bob.start()
    converse(alice, bob)
    assert alice.error is not None and "pad_ec" in str(alice.error)
    assert_no_key(alice)


def test_an_abort_is_final() -> None:
    alice, bob = two_parties(small_parameters(omega_threshold=0.9))
    converse(alice, bob)
    before = alice.over, bob.over
    alice.start()
    bob.start()
    converse(alice, bob)
    assert (alice.over, bob.over) == before
    assert_no_key(alice, bob)
