"""Attacks on every message, kills at every event, and what a resumed session must refuse."""

import dataclasses

import pytest

from campaigns import session_attacks
from diqkd_postproc.protocol.errors import RemoteProtocolError
from diqkd_postproc.session import computation
from diqkd_postproc.session.events import Event, Need, Persist, Work
from diqkd_postproc.session.framing import encode_frame
from diqkd_postproc.session.messages import MessageType, Receipt, Syndrome
from tests.support.joined_parties import (
    MemoryLedger,
    assert_no_key,
    assert_same_key,
    converse,
    small_parameters,
    two_parties,
)


def change_settings(data: bytes) -> bytes:
    """One of Alice's settings changed, in a stream of whole frames."""
    frames = session_attacks.frames_of(data)
    for number, frame in enumerate(frames):
        if frame[5] == MessageType.BASIS_REVELATION:
            frames[number] = session_attacks.resealed(frame[:40] + bytes([frame[40] ^ 0x10]) + frame[41:])
    return b"".join(frames)


@pytest.mark.parametrize(
    ("family", "every"), [("accidents", 61), ("bits", 29), ("lengths", 11), ("messages", 17)]
)
def test_attacks_are_rejected_or_harmless(family: str, every: int) -> None:
    """A slice of `campaigns/session_attacks.py`, which runs them all."""
    report = session_attacks.campaign([family], every)
    assert report["failures"] == []
    endings = report["endings"][family]
    assert endings["no key; started again: same key"] > 10
    assert endings["same key; started again: same key"] > 0


def test_the_campaign_would_see_what_it_looks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the checks of the tags, and without the ledger's binding, the same attacks are failures."""
    monkeypatch.setattr(computation, "verify", lambda *_: True)
    report = session_attacks.campaign(["bits"], 37)
    failures = "\n".join(report["failures"])
    assert "worked on secrets after a message was changed" in failures
    monkeypatch.undo()

    def last_binding(ledger: MemoryLedger, name: str, session_id: str, message_digest: bytes) -> bytes:
        ledger.bindings[name] = message_digest
        return ledger.segments[name]

    monkeypatch.setattr(MemoryLedger, "consume", last_binding)
    alice, bob = two_parties()
    bob.stop_before = lambda event: event == Need(work=Work.DECODE)
    trial = session_attacks.Trial((alice, bob))
    trial.converse(session_attacks.honest)
    bob.stop_before = None
    bob.record = dataclasses.replace(bob.record, outcome=1 - bob.record.outcome)
    alice.journal.clear()
    alice.ledger.bindings.clear()
    bob.journal.clear()
    bob.ledger.bindings.clear()
    alice.record = dataclasses.replace(alice.record, outcome=1 - alice.record.outcome)
    trial.again()
    trial.judge()
    assert "two messages under one pad" in trial.problems


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
        assert step > 18


def test_a_resumed_session_sends_the_same_bytes() -> None:
    alice, bob = two_parties()
    alice.stop_before = lambda event: event == Need(work=Work.CHECK_DECISION)
    first = converse(alice, bob)
    alice.stop_before = None
    alice.start()
    bob.start()
    second = converse(alice, bob)
    for role in ("alice", "bob"):
        before, after = (
            session_attacks.frames_of(b"".join(data for sender, data in sent if sender == role))[1:]
            for sent in (first, second)
        )
        receipt = [encode_frame(alice.engine.session_id, Receipt())] if role == "alice" else []
        assert after == before + receipt
    assert alice.engine.resumed and bob.engine.resumed


def test_a_peer_that_changes_its_mind_is_refused() -> None:
    alice, bob = two_parties()
    bob.stop_before = lambda event: isinstance(event, Persist) and isinstance(event.message, Syndrome)
    converse(alice, bob)
    bob.stop_before = None
    alice.start()
    bob.start()

    def change(role: str, data: bytes) -> bytes:
        return change_settings(data) if role == "alice" else data

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
