"""The numerics of a session against the definitions of the protocol, and their guards."""

import dataclasses
import hashlib
import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from diqkd_postproc.authentication.tags import one_time_tag, verify
from diqkd_postproc.protocol.errors import LocalProtocolError, ParameterError
from diqkd_postproc.reconciliation import nested_code_for
from diqkd_postproc.records.order_losses import late_losses, lost_by_order
from diqkd_postproc.records.sealed_record import EXCHANGED, RoundRecord
from diqkd_postproc.session.computation import (
    ComputationStoppedError,
    count_losses,
    noisy_copy,
    percent_repaired,
)
from diqkd_postproc.session.events import Aborted, Need, Work
from diqkd_postproc.session.messages import BasisRevelation, MessageType, OutcomeHash, Syndrome, Verdict
from diqkd_postproc.session.states import State
from diqkd_postproc.session.tagged_content import TaggedContent
from tests.support.joined_parties import (
    RUN_ID,
    MemoryLedger,
    Party,
    assert_no_key,
    assert_same_key,
    converse,
    correlated_records,
    lose_late,
    small_parameters,
    two_parties,
)

EVERY_ROUND = np.array(list(itertools.product((0, 1), (0, 1), (0, 1), (0, 1, 2))), dtype=np.uint8).T


def test_a_round_is_lost_exactly_as_the_game_says() -> None:
    for alice, bob, x, y in EVERY_ROUND.T:
        one = [np.array([value], dtype=np.uint8) for value in (alice, bob, x, y)]
        assert count_losses(*one) == (y != 2 and (alice + bob) % 2 != x * y)
    alice, bob, x, y = EVERY_ROUND
    assert count_losses(alice, bob, x, y) == 8


def test_a_round_lost_by_order_is_lost_whatever_its_zeros_would_win() -> None:
    x, y = np.array([0, 0, 1, 1, 0, 1]), np.array([0, 1, 0, 1, 2, 2])
    zeros = np.zeros(6, dtype=np.uint8)
    assert count_losses(zeros, zeros, x, y) == 1
    assert count_losses(zeros, zeros, x, y, np.ones(6, dtype=bool)) == 6
    assert count_losses(zeros, zeros, x, y, np.array([1, 0, 0, 0, 1, 0], dtype=bool)) == 3


@pytest.mark.parametrize("protocol", ["ordered", "late-type"])
@pytest.mark.parametrize("end_token", [False, True])
def test_what_is_lost_by_order_and_what_costs_a_bit(protocol: str, end_token: bool) -> None:
    """Every combination of the columns, against the rules of docs/order.md, section 2.3, written out."""
    columns = np.array(
        list(itertools.product((0, 1), (0, 1, 2), (0, 1), (0, 1, 2), (0, 1), (0, 1, 2), (0, 1), (0, 1))),
        dtype=np.uint8,
    ).T
    names = ("round_type", "received_type", "token", "received_token", "end_token", "received_end_token")
    num_rounds = columns.shape[1]
    parameters = small_parameters(num_rounds, protocol=protocol, end_token=end_token, key_bits=0)
    zeros = np.zeros(num_rounds, dtype=np.uint8)
    fields = dict(zip(names, columns[:6], strict=True)) | {
        "late_loss": columns[6],
        "lost": columns[7],
        "outcome": zeros,
        "setting": np.where(columns[0] == 1, 0, 2).astype(np.uint8),
        "herald_pattern": zeros,
        "timestamp_mu": zeros.astype(np.int64),
        "edge_mu": zeros.astype(np.int64),
    }
    record = RoundRecord(role="bob", parameters=parameters, run_id=RUN_ID, **fields)
    lost, late = lost_by_order(record), late_losses(record)
    for i, (t, t1, r, r1, e, e1, late_loss, bob_lost) in enumerate(columns.T.tolist()):
        in_order = t1 == 1 and r1 == r and (e1 == e or not end_token)
        assert lost[i] == (
            (t == 1 and not (in_order and not late_loss and not bob_lost)) or (t == 0 and t1 == 1)
        )
        assert late[i] == bool(late_loss or (protocol == "ordered" and (t1 == 2 or (t, t1) == (1, 0))))


def test_late_losses_in_tests_are_counted_in_a_session() -> None:
    """On a link without errors nothing else is lost."""
    parameters = small_parameters(max_late_losses=60)
    alice, bob = lose_late(correlated_records(parameters, chsh_score=4.0, qber=0.0), 300, 60)
    parties = [Party(r.role, r, MemoryLedger(parameters)) for r in (alice, bob)]
    converse(*parties)
    assert_same_key(*parties)
    assert parties[1].computation.num_losses == alice.round_type[300:360].sum() > 0


def test_rounds_of_which_bob_has_no_outcome_are_erasures_and_lost_tests() -> None:
    parameters = small_parameters()
    alice, bob = correlated_records(parameters, chsh_score=4.0, qber=0.0)
    lost = bob.lost.copy()
    lost[100:160] = 1
    bob = dataclasses.replace(bob, lost=lost, outcome=bob.outcome * (1 - lost))
    parties = [Party(r.role, r, MemoryLedger(parameters)) for r in (alice, bob)]
    converse(*parties)
    assert_same_key(*parties)
    assert parties[1].computation.num_losses == bob.round_type[100:160].sum() > 0


@pytest.mark.parametrize("name", EXCHANGED)
@pytest.mark.parametrize("role", ["alice", "bob"])
def test_records_that_differ_in_an_exchanged_column_make_no_key(name: str, role: str) -> None:
    parameters = small_parameters(max_late_losses=3)
    records = dict(zip(("alice", "bob"), correlated_records(parameters), strict=True))
    column = getattr(records[role], name).copy()
    # A key round, where every entry of a column is compatible with the rest of either record.
    fits = (records["bob"].round_type == 0) & (column != 1)
    index = int(np.flatnonzero(fits)[0])
    if name == "round_type" and role == "bob":
        pytest.skip("Bob's T follows from his own y; a record in which they differ is refused")
    column[index] = 1
    changes = {name: column}
    if name == "late_loss" and role == "alice":
        outcome = records[role].outcome.copy()
        outcome[index] = 0
        changes |= {"lost": column, "outcome": outcome}
    records[role] = dataclasses.replace(records[role], **changes)
    parties = [Party(r.role, r, MemoryLedger(parameters)) for r in records.values()]
    sent = converse(*parties)
    assert_no_key(*parties)
    assert isinstance(parties[0].over, Aborted)
    assert parties[0].over.wrong_tag is MessageType.ROUND_TYPES_TAG
    # Alice has revealed nothing, and Bob has been told.
    assert set(parties[0].ledger.bindings) == {"pad_b"} and parties[1].error is not None
    assert not any(BasisRevelation.type == data[5] for role, data in sent if role == "alice")


@pytest.mark.parametrize("name", EXCHANGED)
def test_every_changed_entry_of_a_column_is_another_tagged_content(name: str) -> None:
    """G_B under one pad verifies for no record that differs in one entry, whatever the entry becomes."""
    num_rounds = 67  # no multiple of eight
    rng = np.random.default_rng(4)
    columns = {key: rng.integers(0, 2, num_rounds, dtype=np.uint8) for key in EXCHANGED}
    pad = bytes(range(100, 108))
    seed = MemoryLedger(small_parameters()).peek_seed("hash_seed")

    def content() -> bytes:
        exchanged = RoundRecord.exchanged.fget(SimpleNamespace(**columns))  # type: ignore[attr-defined]
        return TaggedContent(
            session_id=bytes(16),
            key_id="k",
            run_id=RUN_ID,
            epochs={"alice": 0, "bob": 0},
            parameters=small_parameters(),
            exchanged=exchanged,
        ).round_types()

    tag = one_time_tag(seed, pad, content())
    assert verify(seed, pad, content(), tag)
    for index in range(num_rounds):
        entry = int(columns[name][index])
        for other in {0, 1, 2} - {entry}:
            columns[name][index] = other
            assert not verify(seed, pad, content(), tag)
        columns[name][index] = entry


def test_progress_of_decoding_does_not_tell_the_number_of_errors() -> None:
    courses: list[list[tuple[int, int]]] = []
    for scale in (2, 500):
        courses.append([])
        progress = percent_repaired(lambda done, total: courses[-1].append((done, total)))
        for unsatisfied in (4, 5, 2, 1, 0):
            progress(scale * unsatisfied, 10_000)
    assert courses == [[(0, 100), (0, 100), (50, 100), (75, 100), (100, 100)]] * 2


def test_the_noisy_copy_of_a_perfect_round_is_the_outcome() -> None:
    alice, bob, x, y = EVERY_ROUND
    perfect = np.where(y == 2, alice == bob, (alice ^ bob) == (x & y))
    assert np.array_equal(noisy_copy(bob, x, y)[perfect], alice[perfect])
    assert np.array_equal(noisy_copy(bob, x, y)[~perfect], 1 - alice[~perfect])


def test_no_two_contents_are_equal() -> None:
    parameters = small_parameters(num_rounds=16, syndrome_bits=8)
    bits = np.arange(16, dtype=np.uint8) % 2
    x = BasisRevelation(num_bits=16, packed=b"\x55\x55")
    m, hash_ = Syndrome(num_bits=8, packed=b"\x55", code_digest=bytes(32)), OutcomeHash(tag=bytes(8))
    contents = set()
    sessions = [
        {"session_id": bytes(16), "key_id": "k", "run_id": "r", "parameters": parameters},
        {
            "session_id": bytes(16),
            "key_id": "k",
            "run_id": "r",
            "parameters": parameters,
            "epochs": {"alice": 0, "bob": 1},
        },
        {
            "session_id": bytes(16),
            "key_id": "k",
            "run_id": "r",
            "parameters": parameters,
            "exchanged": b"a",
        },
        {
            "session_id": bytes(16),
            "key_id": "k",
            "run_id": "r",
            "parameters": parameters,
            "exchanged": b"ab",
        },
        {"session_id": bytes([1] * 16), "key_id": "k", "run_id": "r", "parameters": parameters},
        {"session_id": bytes(16), "key_id": "kr", "run_id": "", "parameters": parameters},
        {"session_id": bytes(16), "key_id": "", "run_id": "kr", "parameters": parameters},
        {
            "session_id": bytes(16),
            "key_id": "k",
            "run_id": "r",
            "parameters": small_parameters(num_rounds=16, syndrome_bits=8, key_bits=41),
        },
    ]
    for fields in sessions:
        defaults = {"epochs": {"alice": 0, "bob": 0}, "exchanged": b""}
        content = TaggedContent(**(defaults | fields))  # type: ignore[arg-type]
        contents |= {content.outcomes(bits), content.round_types()}
        contents.add(content.confirmation(x, m, hash_))
        contents |= {content.decision(verdict, 0, 0) for verdict in Verdict}
        contents.add(content.decision(Verdict.TOO_MANY_LOSSES, 1, 0))
        contents |= {content.decision(Verdict.ACCEPTED, losses, 1) for losses in (0, 1)}
    assert len(contents) == len(sessions) * (2 + 1 + len(Verdict) + 3)


def fresh(number: int) -> Party:
    return two_parties()[number]


def test_work_out_of_order_is_refused() -> None:
    bob, alice = fresh(1), fresh(0)
    with pytest.raises(LocalProtocolError, match="no Syndrome"):
        bob.computation.perform(Work.DECODE)
    with pytest.raises(LocalProtocolError, match="not been reconstructed"):
        bob.computation.perform(Work.COUNT_LOSSES)
    with pytest.raises(LocalProtocolError, match="does not check"):
        alice.computation.perform(Work.CHECK_CONFIRMATION)
    assert bob.computation.num_losses is None and not bob.computation.outcomes_are_known
    assert repr(alice.computation) == "Computation(alice)"


def test_a_stopped_computation_ends_at_its_next_report() -> None:
    alice, bob = two_parties()
    bob.stop_before = lambda event: event == Need(work=Work.DECODE)
    converse(alice, bob)
    bob.computation.stop.set()
    with pytest.raises(ComputationStoppedError):
        bob.computation.perform(Work.DECODE)


def test_a_code_of_another_version_is_named_and_the_session_goes_on_with_the_right_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from diqkd_postproc.session import computation

    alice, bob = two_parties()
    other_code = computation.nested_code_for(small_parameters(code_seed=1))
    monkeypatch.setattr(
        computation, "nested_code_for", lambda _: other_code if bob.engine.state is State.DECODING else code
    )
    code = nested_code_for(alice.record.parameters)
    converse(alice, bob)
    assert isinstance(bob.error, ParameterError) and "versions of diqkd differ" in str(bob.error)
    assert "pad_ec" not in bob.ledger.bindings
    monkeypatch.undo()
    alice.start()
    bob.start()
    converse(alice, bob)
    assert_same_key(alice, bob)


def test_a_failing_preparation_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    import diqkd_postproc.session.computation as computation

    def fail(_: object) -> None:
        raise ValueError("no such code")

    monkeypatch.setattr(computation, "nested_code_for", fail)
    alice = fresh(0)
    alice.computation.prepare()
    with pytest.raises(ValueError, match="no such code"):
        alice.computation.perform(Work.SYNDROME)


def test_what_a_pad_is_bound_to_tells_nothing_of_the_outcomes() -> None:
    """An encrypted key store keeps it in the clear, where it would confirm a guess of them."""
    alice = fresh(0)
    alice.engine.epochs["bob"] = 0
    alice.computation.consume_pad("pad_ec")
    content = alice.computation._protected("pad_ec")
    (bound_to,) = alice.ledger.bindings.values()
    assert bound_to != hashlib.sha256(content).digest()


def test_the_ledger_of_these_tests_binds_pads_as_the_real_one() -> None:
    ledger = MemoryLedger(small_parameters())
    pad = ledger.consume("pad_a", "s", b"one")
    assert ledger.consume("pad_a", "s", b"one") == pad
    with pytest.raises(Exception, match="another message"):
        ledger.consume("pad_a", "s", b"two")
