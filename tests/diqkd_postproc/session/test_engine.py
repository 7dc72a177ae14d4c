"""Two parties joined in memory: the protocol's ends, illegal events, attacks and kills."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from diqkd_postproc.protocol.errors import (
    LocalProtocolError,
    ParameterError,
    RemoteProtocolError,
)
from diqkd_postproc.session.engine import PeerUnavailable, SessionEngine
from diqkd_postproc.session.events import (
    Aborted,
    ActivateKey,
    ConsumeKey,
    Done,
    Event,
    Finished,
    Need,
    Passed,
    Persist,
    Signal,
    Work,
)
from diqkd_postproc.session.framing import MAGIC, PROTOCOL_VERSION, encode_frame
from diqkd_postproc.session.messages import (
    JOURNALLED,
    Abort,
    AbortReason,
    Decision,
    MessageType,
    OutcomeHash,
    Receipt,
    RoundTypesTag,
    Verdict,
)
from diqkd_postproc.session.states import State
from tests.support.joined_parties import (
    MemoryLedger,
    Party,
    assert_no_key,
    assert_same_key,
    converse,
    correlated_records,
    small_parameters,
    two_parties,
)


def test_an_honest_session_ends_with_one_key_and_one_transcript() -> None:
    alice, bob = two_parties()
    converse(alice, bob)
    assert alice.over == bob.over == Finished(peer_confirmed=True)
    assert_same_key(alice, bob)
    assert alice.ledger.key is not None and alice.ledger.key.size == 40
    assert alice.engine.transcript_digest == bob.engine.transcript_digest
    sent = [kind for kind in JOURNALLED if not kind.name.startswith(("REQUEST", "INCREMENT", "RECONCILED"))]
    assert [entry.message.type for entry in alice.journal] == sent
    assert [entry.frame for entry in alice.journal] == [entry.frame for entry in bob.journal]
    assert bob.computation.num_losses == np.count_nonzero(
        (bob.record.setting != 2)
        & (alice.record.outcome ^ bob.record.outcome != alice.record.setting * (bob.record.setting == 1))
    )
    assert alice.computation.num_losses is None


def test_too_many_losses_abort_both_sides_with_the_count() -> None:
    alice, bob = two_parties(small_parameters(omega_threshold=0.9))
    converse(alice, bob)
    limit = alice.record.parameters.max_losses
    assert isinstance(bob.over, Aborted) and bob.over.num_losses > limit
    assert bob.over == alice.over
    assert bob.over.verdict is Verdict.TOO_MANY_LOSSES and bob.over.wrong_tag is None
    assert_no_key(alice, bob)
    assert alice.ledger.bindings.keys() == bob.ledger.bindings.keys() == {"pad_ec", "pad_a", "pad_b", "pad_f"}


def test_failed_decoding_aborts_both_sides() -> None:
    alice, bob = two_parties(qber=0.45)
    converse(alice, bob)
    assert alice.over == bob.over == Aborted(verdict=Verdict.VALIDATION_FAILED, num_losses=0, wrong_tag=None)
    assert_no_key(alice, bob)


def assert_alice_refused_the_round_types(alice: Party, bob: Party) -> None:
    assert isinstance(alice.over, Aborted) and alice.over.wrong_tag is MessageType.ROUND_TYPES_TAG
    assert isinstance(bob.error, PeerUnavailable) and "tag wrong" in str(bob.error)
    assert_no_key(alice, bob)
    assert [entry.message.type for entry in alice.journal] == [MessageType.ROUND_TYPES_TAG]
    assert alice.ledger.bindings.keys() == bob.ledger.bindings.keys() == {"pad_b"}


def test_alice_says_nothing_to_a_bob_with_another_initial_key() -> None:
    alice, bob = two_parties()
    bob.ledger = MemoryLedger(bob.record.parameters, seed=8)
    bob.start()
    converse(alice, bob)
    assert_alice_refused_the_round_types(alice, bob)


def test_a_changed_round_type_line_is_found() -> None:
    alice, bob = two_parties()
    record = alice.record
    round_type = record.round_type.copy()
    # A round of which Bob has told her another type than is in his record.
    flipped = int(np.flatnonzero(round_type == 0)[0])
    round_type[flipped] = 1
    alice.record = dataclasses.replace(record, round_type=round_type)
    alice.start()
    converse(alice, bob)
    assert_alice_refused_the_round_types(alice, bob)
    alice.start()
    bob.start()
    converse(alice, bob)
    assert_alice_refused_the_round_types(alice, bob)


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("protocol parameters", {"parameters": small_parameters(key_bits=41)}),
        ("run", {"run_id": "f" * 32}),
        ("initial key", {"key_id": "e" * 32}),
    ],
)
def test_sides_that_do_not_fit_both_say_so(what: str, other: dict[str, object]) -> None:
    parameters = small_parameters()
    alice = SessionEngine("alice", parameters, "d" * 32, "c" * 32)
    fields = {"parameters": parameters, "key_id": "d" * 32, "run_id": "c" * 32} | other
    bob = SessionEngine("bob", **fields)  # type: ignore[arg-type]
    hello = alice.data_to_send()
    alice.receive_data(bob.data_to_send())
    bob.receive_data(hello)
    for engine in (alice, bob):
        with pytest.raises(ParameterError, match=f"different {what}"):
            engine.next_event()
        assert engine.state is State.GREETING


def test_a_reflected_greeting_is_refused() -> None:
    engine = SessionEngine("alice", small_parameters(), "", "")
    engine.receive_data(engine.data_to_send())
    with pytest.raises(ParameterError, match="both sides run as alice"):
        engine.next_event()


def test_messages_of_another_session_are_refused() -> None:
    sent = converse(*two_parties())
    bob = two_parties()[1]
    bob.record = correlated_records(bob.record.parameters, run_id="a" * 32)[1]
    bob.start()
    greeting = SessionEngine("alice", bob.record.parameters, bob.ledger.key_id, "a" * 32).data_to_send()
    bob.engine.receive_data(greeting + next(data for role, data in sent[1:] if role == "alice"))
    while bob.turn():
        pass
    assert isinstance(bob.error, RemoteProtocolError) and "another session" in str(bob.error)


def asked_for(engine: SessionEngine, wanted: type[Event]) -> Event:
    while not isinstance(event := engine.next_event(), wanted):
        assert not isinstance(event, Signal | Need)
    return event


def greeted(role: str) -> SessionEngine:
    parameters = small_parameters()
    engine = SessionEngine(role, parameters, "", "")  # type: ignore[arg-type]
    other = "bob" if role == "alice" else "alice"
    engine.receive_data(SessionEngine(other, parameters, "", "").data_to_send())  # type: ignore[arg-type]
    engine.data_to_send()
    return engine


def revealing() -> SessionEngine:
    """Alice's engine when she has accepted G_B."""
    engine = greeted("alice")
    engine.receive_data(encode_frame(engine.session_id, RoundTypesTag(tag=bytes(8))))
    engine.acknowledge(asked_for(engine, Persist))  # type: ignore[arg-type]
    engine.acknowledge(asked_for(engine, ConsumeKey))  # type: ignore[arg-type]
    assert engine.next_event() == Need(work=Work.CHECK_ROUND_TYPES)
    engine.answer(Passed())
    return engine


def test_illegal_local_events_change_nothing() -> None:
    engine = revealing()
    receipt = Receipt()
    with pytest.raises(LocalProtocolError, match="nothing was requested"):
        engine.send(receipt)
    assert asked_for(engine, Need) == Need(work=Work.SETTINGS)
    illegal: list[Callable[[], None]] = [
        lambda: engine.send(receipt),
        lambda: engine.send(OutcomeHash(tag=bytes(8))),
        lambda: engine.answer(Done()),
        lambda: engine.answer(Passed()),
        lambda: engine.acknowledge(ActivateKey()),
        lambda: engine.acknowledge(ConsumeKey(segment="pad_ec")),
    ]
    for act in illegal:
        with pytest.raises(LocalProtocolError):
            act()
        assert engine.state is State.REVEALING
        assert engine.next_event() is Signal.NEED_ANSWER
        assert engine.data_to_send() == b""
    with pytest.raises(LocalProtocolError, match="no one-time pad"):
        ConsumeKey(segment="extractor_seed")  # type: ignore[arg-type]
    engine.receive_data(b"")
    with pytest.raises(LocalProtocolError, match="after the end"):
        engine.receive_data(b"x")


def test_no_byte_leaves_before_its_effect_is_acknowledged() -> None:
    alice, bob = two_parties()
    party_of = {"alice": alice, "bob": bob}
    seen = {"alice": 0, "bob": 0}

    def only_journalled(role: str, data: bytes) -> bytes:
        own = b"".join(entry.frame for entry in party_of[role].journal if entry.outgoing)
        seen[role] += 1
        if seen[role] > 1 and not data.endswith(encode_frame(party_of[role].engine.session_id, Receipt())):
            assert own.endswith(data) or data in own
        return data

    converse(alice, bob, only_journalled)
    assert_same_key(alice, bob)

    engine = revealing()
    asked_for(engine, Need)
    message = alice.journal[1].message
    engine.send(message)
    assert engine.data_to_send() == b""
    effect = engine.next_event()
    assert isinstance(effect, Persist) and engine.data_to_send() == b""
    with pytest.raises(LocalProtocolError, match="acknowledged first"):
        engine.send(message)
    with pytest.raises(LocalProtocolError, match="another effect"):
        engine.acknowledge(dataclasses.replace(effect, outgoing=False))
    engine.acknowledge(effect)
    assert engine.data_to_send() == effect.frame


def test_an_unexpected_message_is_refused_and_stays_refused() -> None:
    engine = greeted("alice")
    engine.receive_data(encode_frame(engine.session_id, OutcomeHash(tag=bytes(8))))
    asked = engine.next_event()
    assert not isinstance(asked, Signal)
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="OUTCOME_HASH of the peer came while"):
            engine.next_event()
        assert engine.state is State.AWAITING_ROUND_TYPES


def test_alice_takes_no_early_and_no_forged_acceptance() -> None:
    for kind in (MessageType.ROUND_TYPES_TAG, MessageType.DECISION):
        alice, bob = two_parties()
        forged = encode_frame(alice.engine.session_id, Decision(verdict=Verdict.ACCEPTED, tag=bytes(8)))

        def instead(role: str, data: bytes, kind: MessageType = kind, forged: bytes = forged) -> bytes:
            number = data.find(MAGIC + bytes([PROTOCOL_VERSION, kind])) if role == "bob" else -1
            return data if number < 0 else data[:number] + forged

        converse(alice, bob, instead)
        if kind is MessageType.DECISION:
            assert isinstance(alice.over, Aborted) and alice.over.wrong_tag is MessageType.DECISION
        else:
            assert isinstance(alice.error, RemoteProtocolError) and "came while" in str(alice.error)
        assert_no_key(alice)


def test_answers_that_contradict_the_checks_are_refused() -> None:
    alice, bob = two_parties()
    bob.stop_before = lambda event: event == Need(work=Work.DECISION)
    converse(alice, bob)
    with pytest.raises(LocalProtocolError, match="contradicts"):
        bob.engine.send(Decision(verdict=Verdict.VALIDATION_FAILED, tag=bytes(8)))


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_a_peer_that_leaves_or_vanishes_is_reported(role: str) -> None:
    engine = greeted(role)
    engine.leave(AbortReason.STORAGE)
    goodbye = engine.data_to_send()
    assert goodbye == encode_frame(engine.session_id, Abort(reason=AbortReason.STORAGE))
    alice = greeted("alice")
    alice.next_event()
    alice.receive_data(goodbye)
    with pytest.raises(PeerUnavailable, match="not authenticated: storage"):
        alice.next_event()
    alice = greeted("alice")
    alice.next_event()
    assert alice.next_event() is Signal.NEED_DATA
    alice.check_connection()
    alice.receive_data(b"")
    for look in (alice.next_event, alice.check_connection):
        with pytest.raises(PeerUnavailable, match="start both sides again"):
            look()


def test_bob_keeps_his_key_when_the_receipt_does_not_come() -> None:
    for last in (b"", None):
        alice, bob = two_parties()
        alice.stop_before = lambda event: isinstance(event, ActivateKey)
        converse(alice, bob)
        assert bob.engine.state is State.AWAITING_RECEIPT and bob.over is None
        goodbye = encode_frame(bob.engine.session_id, Abort(reason=AbortReason.INTERRUPTED))
        bob.engine.receive_data(goodbye if last is None else last)
        while bob.turn():
            pass
        assert bob.over == Finished(peer_confirmed=False)
        alice.stop_before = None
        alice.start()
        bob.start()
        converse(alice, bob)
        assert_same_key(alice, bob)
        assert alice.over == bob.over == Finished(peer_confirmed=True)


def test_a_peer_that_vanishes_during_work_is_noticed() -> None:
    for goodbye, expected in ((False, "closed the connection"), (True, "left the session")):
        alice, bob = two_parties()
        bob.stop_before = lambda event: event == Need(work=Work.DECODE)
        converse(alice, bob)
        bob.engine.check_connection()
        if goodbye:
            alice.engine.leave(AbortReason.INTERRUPTED)
            bob.engine.receive_data(alice.engine.data_to_send())
        bob.engine.receive_data(b"")
        with pytest.raises(PeerUnavailable, match=expected):
            bob.engine.check_connection()
        assert bob.engine.state is State.DECODING


def test_what_has_arrived_is_judged_in_its_turn() -> None:
    alice, bob = two_parties()
    bob.stop_before = lambda event: event == Need(work=Work.DECODE)
    converse(alice, bob)
    bob.engine.receive_data(bob.journal[1].frame)
    bob.engine.receive_data(b"")
    bob.engine.check_connection()


def test_a_party_at_its_end_says_no_goodbye() -> None:
    alice, bob = two_parties()
    converse(alice, bob)
    bob.engine.leave(AbortReason.INTERNAL)
    assert bob.engine.data_to_send() == b""
    assert bob.engine.next_event() is Signal.NEED_ANSWER  # there is nothing to come
