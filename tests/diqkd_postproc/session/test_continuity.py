"""Restored old copies of key store and journal, on one side: noticed before a pad is used."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from campaigns.session_attacks import resealed
from diqkd_postproc.protocol.roles import Role
from diqkd_postproc.session.continuity import (
    OldCopyError,
    Past,
    possible_pasts,
    require_one_past,
)
from diqkd_postproc.session.events import Event, Persist
from diqkd_postproc.session.messages import Decision, MessageType, Verdict
from tests.support.joined_parties import MemoryLedger, Party, assert_same_key, converse, two_parties

A, B, EC, F = "pad_a", "pad_b", "pad_ec", "pad_f"
PASTS: dict[str, list[set[tuple[str, ...]]]] = {
    # What can have been consumed when 0, 1, ... messages are in the journal; "key" once it is active.
    "alice": [
        {()},
        {(), (B,)},
        {(B,)},
        {(B,), (B, EC)},
        {(B, EC), (A, B, EC)},
        {(A, B, EC)},
        {(A, B, EC), (A, B, EC, F), (A, B, EC, F, "key")},
    ],
    "bob": [
        {(), (B,)},
        {(B,)},
        {(B,)},
        {(B,)},
        {(B,), (A, B), (A, B, EC), (A, B, F), (A, B, EC, F)},
        {(A, B, EC, F), (A, B, EC, F, "key")},
    ],
}


def named(pasts: frozenset[Past]) -> set[tuple[str, ...]]:
    return {(*sorted(past.consumed), *["key"] * past.key_is_active) for past in pasts}


def honest_journals() -> dict[Role, list[Persist]]:
    parties = two_parties()
    converse(*parties)
    return {party.role: party.journal for party in parties}


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_every_journal_says_which_pads_can_have_been_consumed(role: Role) -> None:
    journal = honest_journals()[role]
    found = [named(possible_pasts(role, journal[:length])) for length in range(len(journal) + 1)]
    if role == "bob":  # X, M and G_EC arrive one by one and consume nothing
        assert found.pop(4) == {(B,)}
    assert found == PASTS[role]


def with_verdict(journal: list[Persist], verdict: Verdict) -> list[Persist]:
    message = Decision(verdict=verdict, tag=bytes(8))
    return [*journal[:-1], Persist(outgoing=journal[-1].outgoing, message=message, frame=b"")]


def test_a_refusal_says_which_checks_came_before_it() -> None:
    journals = honest_journals()
    bob = {
        verdict: named(possible_pasts("bob", with_verdict(journals["bob"], verdict))) for verdict in Verdict
    }
    assert bob == {
        Verdict.ACCEPTED: {(A, B, EC, F), (A, B, EC, F, "key")},
        Verdict.VALIDATION_FAILED: {(A, B, EC, F)},
        Verdict.TOO_MANY_LOSSES: {(A, B, EC, F)},
        Verdict.CONFIRMATION_TAG_WRONG: {(A, B, F), (A, B, EC, F)},
    }
    for verdict in list(Verdict)[1:]:
        alice = named(possible_pasts("alice", with_verdict(journals["alice"], verdict)))
        assert alice == {(A, B, EC), (A, B, EC, F)}


def test_messages_in_an_impossible_order_or_direction_fit_no_past() -> None:
    for role, journal in honest_journals().items():
        assert not possible_pasts(role, journal[1:])
        assert not possible_pasts(role, [*journal, journal[-1]])
        assert not possible_pasts("bob" if role == "alice" else "alice", journal)


@dataclass
class Snapshot:
    """What a party had on its disk at some moment."""

    ledger: MemoryLedger
    journal: list[Persist]

    def restore(self, party: Party, ledger: bool = True, journal: bool = True) -> None:
        if ledger:
            party.ledger = copy.deepcopy(self.ledger)
        if journal:
            party.journal[:] = self.journal


def session_with_snapshots(victim: int) -> tuple[tuple[Party, Party], list[Snapshot]]:
    parties = two_parties()
    snapshots: list[Snapshot] = []

    def keep(event: Event) -> bool:
        party = parties[victim]
        snapshots.append(Snapshot(copy.deepcopy(party.ledger), list(party.journal)))
        return False

    parties[victim].stop_before = keep
    converse(*parties)
    assert_same_key(*parties)
    return parties, snapshots


def start_again(parties: tuple[Party, Party]) -> list[bool]:
    """Which of the two sees an old copy."""
    for party in parties:
        party.stop_before = None
        party.start()
    converse(*parties)
    return [isinstance(party.error, OldCopyError) for party in parties]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_whole_old_copy_is_refused_by_both_sides_as_soon_as_the_peer_knows_more(victim: int) -> None:
    parties, snapshots = session_with_snapshots(victim)
    complete = len(parties[victim].journal)
    refused = 0
    for snapshot in snapshots:
        snapshot.restore(parties[victim])
        before = dict(parties[victim].ledger.bindings)
        sent_later = [
            entry for entry in parties[1 - victim].journal[len(snapshot.journal) :] if not entry.outgoing
        ]
        found = start_again(parties)
        if sent_later:
            assert found == [True, True]
            assert parties[victim].ledger.bindings == before, "a pad was used"
            texts = [str(party.error) for party in parties]
            assert (
                "this side has forgotten" in texts[victim] and "the peer has forgotten" in texts[1 - victim]
            )
            refused += 1
        else:
            assert found == [False, False]
            assert_same_key(*parties)
    assert 0 < refused < len(snapshots) and complete == 6


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("old", ["key store", "journal"])
def test_an_old_copy_of_one_of_the_two_files_is_refused_or_changes_nothing(victim: int, old: str) -> None:
    refused = 0
    parties, snapshots = session_with_snapshots(victim)
    newest = snapshots[-1]
    sent = {entry.message.type: entry.frame for entry in newest.journal}
    for snapshot in snapshots:
        newest.restore(parties[victim])
        snapshot.restore(parties[victim], ledger=old == "key store", journal=old == "journal")
        found = start_again(parties)
        refused += found[victim]
        if not found[victim]:
            assert_same_key(*parties)
        for entry in parties[victim].journal:
            assert entry.frame == sent[entry.message.type]
    assert refused >= len(snapshots) // 2


def test_the_message_counts_what_does_not_fit() -> None:
    journal = honest_journals()["alice"]
    past = Past(frozenset({"pad_b"}), key_is_active=False)
    with pytest.raises(OldCopyError, match=r"keys .*6 messages are in the journal, 1 pads"):
        require_one_past("alice", journal, past, Path("journal"), Path("keys"))
    with pytest.raises(OldCopyError, match="there is a key"):
        require_one_past("alice", [], Past(frozenset(), key_is_active=True), Path("journal"), Path("keys"))
    require_one_past("alice", journal, Past(frozenset(), key_is_active=True), Path("journal"), Path("keys"))


def test_epochs_that_differ_in_the_two_views_make_no_key() -> None:
    """The epoch of a Hello cannot be changed on its way: every tag covers it."""
    alice, bob = two_parties()

    def change(role: str, data: bytes) -> bytes:
        place = 26 + 1 + 32 + 7
        if role == "alice" and data[5] == MessageType.HELLO:
            return resealed(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        return data

    converse(alice, bob, change)
    assert alice.over is not None and alice.ledger.key is None and bob.ledger.key is None
    assert alice.engine.epochs == {"alice": 0, "bob": 0} and bob.engine.epochs == {"alice": 1, "bob": 0}
    assert np.array_equal(sorted(alice.ledger.bindings), ["pad_b"])
