"""A syndrome in parts: requests, one closing tag over all that was sent, kills and forgeries."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from campaigns.session_attacks import resealed
from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.protocol.errors import RemoteProtocolError
from diqkd_postproc.session import SessionResult
from diqkd_postproc.session.events import Event, Persist
from diqkd_postproc.session.framing import encode_frame
from diqkd_postproc.session.messages import (
    Increment,
    MessageType,
    Reconciled,
    SyndromeRequest,
    Verdict,
    increment_of,
    request_of,
)
from tests.support.joined_parties import (
    VARIABLE,
    Party,
    assert_no_key,
    assert_same_key,
    converse,
    correlated_records,
    small_parameters,
    two_parties,
)
from tests.support.sessions_over_tcp import both, make_stores

TOTALS = (308, 332, 372, 440, 600)
IN_PARTS = VARIABLE | {
    "syndrome_bits": TOTALS[0],
    "increments": TOTALS[1:],
    "constant_bits": 600,
    "design_qber": 0.015,
}


def parties(**changes: object) -> tuple[Party, Party]:
    return two_parties(small_parameters(**IN_PARTS | changes))


def expected_length(alice: Party, sent: int) -> int:
    losses, tests = alice.engine.num_losses, int(alice.record.round_type.sum())
    return 600 + (512 * tests - 3072 * losses) // 1024 - sent


def test_two_minutes_of_the_published_link_make_a_key() -> None:
    """n = 14 000 at S = 2.677, Q = 1.44 %, soundness error 1e-10: a plan, a run and its key."""
    link = DesignPoint(
        14_000, Fraction(82, 256), 2.677, 0.0144, proof="renyi", extractor="toeplitz", length="variable"
    )
    parameters = link.parameters()
    alice, bob = two_parties(parameters, chsh_score=2.677, qber=0.0144)
    converse(alice, bob)
    assert_same_key(alice, bob)
    sent = parameters.syndrome_totals[alice.engine.increments_held - 1]
    tests = int(alice.record.round_type.sum())
    assert parameters.length_rule is not None
    bits = parameters.length_rule.key_bits(bob.engine.num_losses, tests, 0, sent)
    assert alice.ledger.key.size == bits > 100


def test_bob_requests_until_he_decodes_and_the_length_pays_for_all_that_was_sent() -> None:
    alice, bob = parties()
    converse(alice, bob)
    assert_same_key(alice, bob)
    held = alice.engine.increments_held
    assert 1 < held < 5 and bob.engine.increments_held == held
    assert alice.ledger.key.size == expected_length(alice, TOTALS[held - 1]) > 0
    kinds = [entry.message.type for entry in bob.journal]
    between = kinds[kinds.index(MessageType.OUTCOME_HASH) + 1 : kinds.index(MessageType.CONFIRMATION)]
    pairs = [kind for number in range(2, held + 1) for kind in (request_of(number), increment_of(number))]
    assert between == [*pairs, MessageType.RECONCILED]
    assert alice.engine.transcript_digest == bob.engine.transcript_digest


def test_a_quiet_link_needs_the_first_part_only() -> None:
    alice, bob = two_parties(small_parameters(**IN_PARTS), qber=0.0, chsh_score=2.82)
    converse(alice, bob)
    assert_same_key(alice, bob)
    assert alice.engine.increments_held == 1


def test_after_the_last_part_the_session_ends_without_a_key() -> None:
    alice, bob = two_parties(small_parameters(**IN_PARTS), qber=0.2)
    converse(alice, bob)
    assert_no_key(alice, bob)
    assert alice.engine.increments_held == 5 and alice.engine.verdict is Verdict.VALIDATION_FAILED


def test_over_tcp_with_real_stores(folder: Path) -> None:
    parameters = small_parameters(**IN_PARTS)
    stores = make_stores(folder, parameters)
    alice, bob = both(correlated_records(parameters), stores)
    assert isinstance(alice, SessionResult) and isinstance(bob, SessionResult)
    assert alice.key_bits == bob.key_bits > 0 and alice.transcript == bob.transcript
    assert stores[0].has_same_key(stores[1])


def test_a_forged_request_spends_syndrome_or_aborts() -> None:
    """Eve asks for the next part once Bob has decoded: Alice has sent more than Bob knows of."""
    alice, bob = parties()
    held: list[int] = []

    def change(sender: str, data: bytes) -> bytes:
        reconciled = encode_frame(alice.engine.session_id, Reconciled())
        if sender == "bob" and reconciled in data:
            held.append(bob.engine.increments_held)
            forged = SyndromeRequest(number=held[0] + 1)
            return encode_frame(alice.engine.session_id, forged) + data
        if sender == "alice" and held:  # what Alice answers is kept from Bob
            extra = [e.frame for e in alice.journal if e.message.type is increment_of(held[0] + 1)]
            return data.replace(extra[0], b"") if extra else data
        return data

    converse(alice, bob, change)
    assert_no_key(alice, bob)
    assert bob.engine.verdict is Verdict.CONFIRMATION_TAG_WRONG
    assert alice.engine.increments_held == held[0] + 1


def test_a_forged_end_makes_no_key() -> None:
    alice, bob = parties()

    def change(sender: str, data: bytes) -> bytes:
        request = encode_frame(alice.engine.session_id, SyndromeRequest(number=2))
        return data.replace(request, encode_frame(alice.engine.session_id, Reconciled()))

    converse(alice, bob, change)
    assert_no_key(alice, bob)


def test_an_increment_that_nobody_asked_for_is_refused() -> None:
    alice, bob = two_parties(small_parameters(**IN_PARTS), qber=0.0, chsh_score=2.82)
    unasked = Increment(num_bits=TOTALS[1] - TOTALS[0], packed=bytes(3), number=2)

    def change(sender: str, data: bytes) -> bytes:
        if sender == "alice" and data[5] != MessageType.HELLO:
            return encode_frame(alice.engine.session_id, unasked) + data
        return data

    converse(alice, bob, change)
    assert isinstance(bob.error, RemoteProtocolError) and "INCREMENT_2 of the peer came while" in str(
        bob.error
    )
    assert_no_key(alice, bob)


@pytest.mark.parametrize(("number", "qber"), [(2, 0.015), (3, 0.03)])
def test_a_bit_of_an_increment_is_under_the_closing_tag(number: int, qber: float) -> None:
    alice, bob = two_parties(small_parameters(**IN_PARTS), qber=qber)

    def change(sender: str, data: bytes) -> bytes:
        for entry in alice.journal:
            if entry.message.type is increment_of(number) and entry.frame in data:
                changed = bytearray(entry.frame)
                changed[-10] ^= 16
                return data.replace(entry.frame, resealed(bytes(changed)))
        return data

    converse(alice, bob, change)
    assert alice.engine.increments_held >= number
    assert_no_key(alice, bob)


def test_killed_before_every_event_both_go_on_to_the_same_key() -> None:
    alice, bob = parties()
    converse(alice, bob)
    key, held = alice.ledger.key, alice.engine.increments_held
    num_events = 2 * (len(alice.journal) + 8)
    for killed in (0, 1):
        for event_number in range(num_events):
            pair = parties()
            seen: list[Event] = []

            def stop(event: Event, seen: list[Event] = seen, last: int = event_number) -> bool:
                seen.append(event)
                return len(seen) == last + 1

            pair[killed].stop_before = stop
            converse(*pair)
            pair[killed].stop_before = None
            for party in pair:
                party.start()
            converse(*pair)
            assert_same_key(*pair)
            assert np.array_equal(pair[0].ledger.key, key) and pair[0].engine.increments_held == held
            sent = [entry for entry in pair[0].journal if isinstance(entry, Persist) and entry.outgoing]
            assert len({entry.message.type for entry in sent}) == len(sent)
