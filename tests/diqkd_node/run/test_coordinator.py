"""Two coordinators with real spools and a real connection; the kernel is a loop in the test."""

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from diqkd_node.configuration import NodeConfiguration
from diqkd_node.run import coordinator as coordinator_module
from diqkd_node.run.coordinator import Coordinator
from diqkd_node.run.greeting import VERSION
from diqkd_node.run.ion_reload import IonReload
from diqkd_node.run.peer_connection import PeerAbsentError, PeerConnection
from diqkd_node.run.reasons import Reason
from diqkd_node.run.shared_timings import digest, shared_timings
from diqkd_node.sequence.conditions import (
    ION_LOST,
    LOCK_LOST,
    LOSS_NAMES,
    MEASURED,
    NOT_ANNOUNCED,
    RUNNING,
    TYPE_MISSING,
    UNDERFLOW,
)
from diqkd_node.sequence.node import SETTING_BITS
from diqkd_postproc.protocol.errors import ParameterError, RemoteProtocolError, StorageError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import HERALD_PATTERNS
from diqkd_postproc.records.columns import NONE, OWN, Columns
from diqkd_postproc.records.order_losses import lost_by_order
from diqkd_postproc.records.round_spool import RoundSpool
from diqkd_postproc.records.sealed_record import EXCHANGED
from tests.support.example_parameters import small_parameters
from tests.support.joined_connections import joined, send_text, send_unchecked

NUM_ROUNDS = 60
BATCH = 20
TIMINGS = shared_timings(NodeConfiguration(role="alice"))


def parameters(**changes: object) -> ProtocolParameters:
    return small_parameters(NUM_ROUNDS, **changes)


class Nodes:
    """Both coordinators; `both` runs one function a role at the same time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.spools: dict[str, RoundSpool] = {}
        self.connections: dict[str, PeerConnection] = {}
        self.coordinators: dict[str, Coordinator] = {}

    def start(
        self,
        bob: ProtocolParameters | None = None,
        pool_bytes: int = 2000,
        alice: ProtocolParameters | None = None,
        **configured: Mapping[str, object],
    ) -> None:
        """`alice_fields`, `bob_fields`: of that node's configuration, where they differ from the defaults."""
        self.connections["alice"], self.connections["bob"] = joined(key=bytes(range(32)))
        for role, given in (("alice", alice), ("bob", bob)):
            path = self.directory / role / "spool.sqlite"
            if path.exists():
                spool = RoundSpool.open(path, role=role)
            else:
                path.parent.mkdir(mode=0o700)
                spool = RoundSpool.create(path, role, given or parameters(), {})
                spool.fill_pool(os.urandom, pool_bytes)
            self.spools[role] = spool
            self.coordinators[role] = Coordinator(
                spool=spool,
                connection=self.connections[role],
                herald_patterns=HERALD_PATTERNS,
                timings=shared_timings(NodeConfiguration.of(role, configured.get(f"{role}_fields", {}))),
                batch_rounds=BATCH,
            )

    def stop(self) -> None:
        for role in self.spools:
            self.connections[role].close()
            self.spools[role].close()
        self.spools.clear()

    def both(self, alice: Callable[[Coordinator], object], bob: Callable[[Coordinator], object]) -> list:
        results: dict[str, object] = {}

        def call(role: str, function: Callable[[Coordinator], object]) -> None:
            try:
                results[role] = function(self.coordinators[role])
            except Exception as error:
                results[role] = error

        threads = [threading.Thread(target=call, args=item) for item in (("alice", alice), ("bob", bob))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20.0)
        return [results["alice"], results["bob"]]

    def same(self, function: Callable[[Coordinator], object]) -> list:
        return self.both(function, function)

    def begin(self) -> tuple[list[int], list[int]]:
        """Draws of a new batch at both nodes."""
        alice, bob = self.same(lambda coordinator: coordinator.begin_batch())
        assert len(alice) == len(bob)
        return alice, bob

    def play(self, role: str, draws: tuple[list[int], list[int]], count: int, **changes: list[int]) -> None:
        """Store `count` rounds as a kernel would after an undisturbed exchange."""
        settings, tokens = settings_of(draws[1]), tokens_of(draws[0])
        received = [int(y != 2) for y in settings] if role == "alice" else tokens
        first = self.spools[role].rounds_done
        columns = {
            "outcomes": [1] * count,
            "received": received[:count],
            "received_settings": [NONE] * count,
            "received_ends": [NONE] * count,
            "pattern_indices": [i % 4 for i in range(count)],
            "heralds_mu": list(range(1000 + first, 1000 + first + count)),
            "edges_mu": list(range(2000 + first, 2000 + first + count)),
            "losses": [MEASURED] * count,
        } | changes
        self.coordinators[role].store(count, **columns)


def settings_of(draws: list[int]) -> list[int]:
    return [draw & ((1 << SETTING_BITS) - 1) for draw in draws]


def tokens_of(draws: list[int]) -> list[int]:
    return [draw >> SETTING_BITS for draw in draws]


def columns_of(spool: RoundSpool) -> Columns:
    spool.flush()
    return spool._table.columns(tuple(OWN))


def lost_rounds(spool: RoundSpool) -> list[int]:
    return np.flatnonzero(columns_of(spool)["lost"]).tolist()


@pytest.fixture
def nodes(tmp_path):
    nodes = Nodes(tmp_path)
    yield nodes
    nodes.stop()


def test_whole_run(nodes: Nodes, tmp_path) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    for _ in range(NUM_ROUNDS // BATCH):
        draws = nodes.begin()
        assert len(draws[1]) == BATCH
        for role in ("alice", "bob"):
            nodes.play(role, draws, BATCH)
        assert nodes.same(lambda coordinator: coordinator.end_batch(BATCH, RUNNING)) == [None, None]
    assert nodes.begin() == ([], [])
    assert nodes.same(lambda coordinator: coordinator.finish()) == [None, None]
    alice, bob = (nodes.spools[role].seal(tmp_path / role / "record.h5") for role in ("alice", "bob"))
    assert alice.run_id == bob.run_id and alice.exchanged == bob.exchanged
    for name in EXCHANGED:
        np.testing.assert_array_equal(getattr(alice, name), getattr(bob, name))
    np.testing.assert_array_equal(alice.received_type, alice.round_type)
    np.testing.assert_array_equal(bob.received_token, bob.token)
    assert not alice.setting[alice.round_type == 0].any() and not lost_by_order(bob).any()
    np.testing.assert_array_equal(bob.setting != 2, bob.round_type == 1)


@pytest.mark.parametrize("behind", ["alice", "bob"])
def test_fewer_rounds_are_completed_as_used_up(nodes: Nodes, behind: str, tmp_path) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    draws = nodes.begin()
    done = {"alice": 7, "bob": 7} | {behind: 5}
    for role, count in done.items():
        nodes.play(role, draws, count)
    results = nodes.both(
        lambda c: c.end_batch(done["alice"], TYPE_MISSING), lambda c: c.end_batch(done["bob"], RUNNING)
    )
    assert results == [None, None]
    assert [spool.rounds_done for spool in nodes.spools.values()] == [7, 7]
    assert lost_rounds(nodes.spools[behind]) == [5, 6]
    columns = columns_of(nodes.spools[behind])
    assert columns["received"][5:].tolist() == [NONE, NONE] and not columns["outcome"][5:].any()
    # Late losses are Alice's alone; Bob's cost a test, not a bit.
    late = 2 if behind == "alice" else 0
    assert [spool.num_late_losses for spool in nodes.spools.values()] == [late, late]
    assert [spool.peer_rounds_done for spool in nodes.spools.values()] == [7, 7]


def test_a_lost_round_carries_its_true_reason(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    draws = nodes.begin()
    nodes.play("bob", draws, 3)
    changes = {
        "outcomes": [1, -1, -1],
        "received": [0, NONE, NONE],
        "losses": [MEASURED, UNDERFLOW, NOT_ANNOUNCED],
    }
    nodes.play("alice", draws, 3, **changes)
    assert nodes.same(lambda coordinator: coordinator.end_batch(3, ION_LOST)) == [None, None]
    losses = nodes.spools["alice"]._table.losses()
    assert [(loss["first_round"], loss["reason"]) for loss in losses] == [
        (1, LOSS_NAMES[UNDERFLOW]),
        (2, LOSS_NAMES[NOT_ANNOUNCED]),
    ]
    assert [spool.num_late_losses for spool in nodes.spools.values()] == [2, 2]


@pytest.mark.parametrize(
    ("in_order", "total"), [((), 12), (("bob",), 12), (("alice",), 12), (("alice", "bob"), 9)]
)
def test_interrupted_run_goes_on(nodes: Nodes, in_order: tuple[str, ...], total: int, monkeypatch) -> None:
    """What a node that died may have used is used up: as far as the journal had granted it, no further."""
    monkeypatch.setattr(coordinator_module, "GRANTED_ROUNDS", 12)
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    draws = nodes.begin()
    assert nodes.same(lambda coordinator: coordinator.check(0, RUNNING)) == [12, 12]
    done = {"alice": 4, "bob": 9}
    for role in done:
        nodes.play(role, draws, done[role])
        nodes.spools[role].flush()
    for role in in_order:
        nodes.coordinators[role].abandon_batch(done[role])
    nodes.stop()
    nodes.start()
    assert nodes.same(lambda coordinator: coordinator.greet()) == [None, None]
    assert [spool.rounds_done for spool in nodes.spools.values()] == [total, total]
    assert lost_rounds(nodes.spools["alice"]) == list(range(4, total))
    assert lost_rounds(nodes.spools["bob"]) == list(range(9, total))
    assert [spool.num_late_losses for spool in nodes.spools.values()] == [total - 4] * 2
    types = columns_of(nodes.spools["bob"])["sent"].tolist()
    assert types == [int(y != 2) for y in settings_of(draws[1])[:total]]
    assert len(nodes.begin()[0]) == BATCH


def test_types_of_rounds_that_bob_has_not_played_stay_here(nodes: Nodes) -> None:
    """A forged hello claims that both nodes have played the whole batch: Bob enters his indices as
    used up before he sends a type, so that these tests are lost."""
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    draws = nodes.begin()
    nodes.play("bob", draws, 3)
    bob, connection = nodes.coordinators["bob"], nodes.connections["alice"]
    connection.send("batch_done", rounds=BATCH, reason=Reason.COMPLETE)
    bits = "00" * BATCH
    connection.send(
        "columns", first=0, sent=bits, received=bits, end_token="02" * BATCH, lost=bits, herald_pattern=bits
    )
    bob.end_batch(3, RUNNING)
    assert bob.spool.rounds_done == BATCH and lost_rounds(bob.spool) == list(range(3, BATCH))
    assert columns_of(bob.spool)["received"][3:].tolist() == [NONE] * (BATCH - 3)


@pytest.mark.parametrize("rounds", [BATCH + 1, NUM_ROUNDS])
def test_rounds_without_draws_are_never_entered(nodes: Nodes, rounds: int) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    nodes.begin()
    bob = nodes.coordinators["bob"]
    nodes.connections["alice"].send("batch_done", rounds=rounds, reason=Reason.COMPLETE)
    with pytest.raises(StorageError, match=f"drawn settings up to round {BATCH - 1}.*older copy"):
        bob.end_batch(0, RUNNING)
    assert bob.spool.rounds_done == 0


def test_a_failure_while_storing_vouches_for_nothing(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    draws = nodes.begin()
    nodes.coordinators["bob"].check(0, RUNNING)
    nodes.play("bob", draws, 3, received=[7, 7, 7])
    nodes.coordinators["bob"].abandon_batch(3)
    assert nodes.spools["bob"].rounds_begun == BATCH


def test_rounds_are_granted_in_the_journal_before_they_are_played(nodes: Nodes, monkeypatch) -> None:
    monkeypatch.setattr(coordinator_module, "GRANTED_ROUNDS", 8)
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    draws = nodes.begin()
    alice = nodes.coordinators["alice"]
    assert alice.spool.rounds_begun == 0
    granted = []
    for done in range(0, BATCH + 1, 2):
        granted.append(alice.check(done, RUNNING))
        assert alice.spool.rounds_begun == granted[-1] >= done
        if done < BATCH:
            nodes.play("alice", ([draws[0][done:], draws[1][done:]]), 2)
    assert granted == [8, 8, 8, 14, 14, 14, 20, 20, 20, 20, 20]


@pytest.mark.parametrize("allowed", [0, 1, 2, 3])
def test_more_late_losses_than_are_paid_for_end_a_run_for_a_key(nodes: Nodes, allowed: int) -> None:
    """A loss may have been chosen by the type, which is public: cut strobes, forged counts, crashes."""
    for_a_key = parameters(key_bits=1, max_late_losses=allowed)
    nodes.start(for_a_key, alice=for_a_key)
    nodes.same(lambda coordinator: coordinator.greet())
    good, number = [None, None], 0
    while number <= allowed and number < 3:
        draws = nodes.begin()
        nodes.play("bob", draws, 3)
        nodes.play("alice", draws, 2)
        outcome = nodes.both(lambda c: c.end_batch(2, TYPE_MISSING), lambda c: c.end_batch(3, RUNNING))
        number += 1
        assert [spool.num_late_losses for spool in nodes.spools.values()] == [number, number]
        assert (outcome == good) == (number <= allowed)
    nodes.stop()
    nodes.start()
    again = nodes.same(lambda coordinator: coordinator.greet())
    if allowed == 3:
        assert again == good
        return
    for error in (*outcome, *again):
        assert isinstance(error, RemoteProtocolError) and "no key may come of it" in str(error)
        assert f"{number} rounds of" in str(error) and f"max_late_losses={allowed}" in str(error)


def test_different_patterns_are_a_statistic(nodes: Nodes) -> None:
    """The slave's core may have seen another pattern, or none (index 4): no outcome depends on it."""
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    draws = nodes.begin()
    nodes.play("alice", draws, 4, pattern_indices=[0, 1, 4, 3])
    nodes.play("bob", draws, 4, pattern_indices=[0, 2, 2, 1])
    assert nodes.same(lambda coordinator: coordinator.end_batch(4, RUNNING)) == [None, None]
    assert [spool.label_mismatches for spool in nodes.spools.values()] == [2, 2]
    assert [lost_rounds(spool) for spool in nodes.spools.values()] == [[], []]
    assert nodes.coordinators["alice"].herald_counts.tolist() == [1, 1, 0, 1]


def test_flipped_and_missing_bits_of_the_lines_change_no_outcome(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    draws = nodes.begin()
    nodes.play("alice", draws, 3, received=[0, 1, NONE])
    nodes.play("bob", draws, 3, received=[1, NONE, 0])
    assert nodes.same(lambda coordinator: coordinator.end_batch(3, RUNNING)) == [None, None]
    assert columns_of(nodes.spools["alice"])["received"].tolist() == [0, 1, NONE]
    peer = nodes.spools["bob"]._table.columns(("peer_received",))["peer_received"]
    assert peer.tolist() == [0, 1, NONE]
    for spool in nodes.spools.values():
        assert columns_of(spool)["outcome"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "changes",
    [
        {"sent": "zz"},
        {"sent": "02"},
        {"received": "03"},
        {"end_token": "03"},
        {"lost": "02"},
        {"lost": ""},
        {"first": 1},
        {"herald_pattern": "0303"},
    ],
)
def test_senseless_columns_change_nothing(nodes: Nodes, changes: dict) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    draws = nodes.begin()
    nodes.play("bob", draws, 1)
    connection = nodes.connections["alice"]
    connection.send("batch_done", rounds=1, reason=Reason.COMPLETE)
    columns = {
        "first": 0,
        "sent": "01",
        "received": "01",
        "end_token": "02",
        "lost": "00",
        "herald_pattern": "03",
    }
    send_unchecked(connection, "columns", **(columns | changes))
    with pytest.raises((RemoteProtocolError, ParameterError)):
        nodes.coordinators["bob"].end_batch(1, RUNNING)
    spool = nodes.spools["bob"]
    assert (spool.rounds_done, spool.peer_rounds_done, lost_rounds(spool)) == (1, 0, [])


def test_stop_is_negotiated(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    nodes.begin()
    # Alice asks at 5, Bob is at 8 already: both stop at 8.
    limits = nodes.both(lambda c: c.check(5, LOCK_LOST), lambda c: _check_until_stopped(c, 8))
    assert limits == [8, 8]


def _check_until_stopped(coordinator: Coordinator, done: int) -> int:
    while (limit := coordinator.check(done, RUNNING)) == BATCH:
        pass
    return limit


@pytest.mark.parametrize("round_named", [0, 3, 5, 7])
def test_a_forged_stop_ends_a_batch_and_repeats_nothing(nodes: Nodes, round_named: int) -> None:
    """Bob, who has played five rounds, leaves there or later; his next draw is the next index."""
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    draws = nodes.begin()
    bob, forged = nodes.coordinators["bob"], nodes.connections["alice"]
    nodes.play("bob", draws, 5)
    forged.send("stop", round=round_named, reason=Reason.AGREED)
    limit = _check_until_stopped(bob, 5)
    assert limit == max(5, round_named)
    if limit > 5:
        nodes.play("bob", tuple(part[5:] for part in draws), limit - 5)
    bits = "00" * limit
    forged.send("batch_done", rounds=limit, reason=Reason.AGREED)
    forged.send(
        "columns", first=0, sent=bits, received=bits, end_token="02" * limit, lost=bits, herald_pattern=bits
    )
    bob.end_batch(limit, RUNNING)
    assert (bob.spool.rounds_done, lost_rounds(bob.spool)) == (limit, [])
    drawn = bob.spool.begin_batch(BATCH)
    assert bob.spool.rounds_begun == limit + BATCH and drawn.num_rounds == BATCH


def test_departure_from_a_batch_stops_the_other(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    draws = nodes.begin()
    nodes.play("alice", draws, 5)
    nodes.play("bob", draws, 5)

    def bob(coordinator: Coordinator) -> int:
        limit = _check_until_stopped(coordinator, 5)
        coordinator.end_batch(5, RUNNING)
        return limit

    assert nodes.both(lambda c: c.end_batch(5, ION_LOST), bob) == [None, 5]


def test_different_parameters(nodes: Nodes) -> None:
    nodes.start(bob=parameters(syndrome_bits=11))
    for error in nodes.same(lambda coordinator: coordinator.greet()):
        assert isinstance(error, ParameterError)
        assert "parameter" in str(error)


def test_different_orders_of_a_round_end_both_nodes_at_the_greeting(nodes: Nodes) -> None:
    nodes.start(bob=parameters(protocol="late-type"))
    for error in nodes.same(lambda coordinator: coordinator.greet()):
        assert isinstance(error, ParameterError)
        message = str(error)
        assert "'ordered' at alice" in message and "'late-type' at bob" in message
        assert "the same parameter file" in message and "\n" not in message
    assert all(spool.run_id is None and spool.rounds_begun == 0 for spool in nodes.spools.values())


def test_different_runs(nodes: Nodes) -> None:
    nodes.start()
    nodes.spools["alice"].adopt_run_id("1" * 32)
    nodes.spools["bob"].adopt_run_id("2" * 32)
    for error in nodes.same(lambda coordinator: coordinator.greet()):
        assert isinstance(error, ParameterError)
        assert "different runs" in str(error)


def test_two_bobs(nodes: Nodes) -> None:
    nodes.start()
    nodes.coordinators["alice"].role = "bob"
    for error in nodes.same(lambda coordinator: coordinator.greet()):
        assert isinstance(error, ParameterError)
        assert "both nodes are bob" in str(error)


@pytest.mark.parametrize(
    ("fields", "clause"),
    [
        ({"cooling.recooling_delay": 9e-6}, "cooling.recooling_delay is 9 us at alice and 10 us at bob"),
        ({"cooling.time": 299e-6}, "cooling.time is 299 us at alice and 300 us at bob"),
        ({"cooling.time": 290e-6, "attempts.window_time": 4e-4}, "attempts.window_time is 400 us at alice"),
        ({"attempts.attempt_time": 1.032e-6}, "attempts.attempt_time is 1.032 us at alice and 1 us at bob"),
        ({"attempts.source": "ttl"}, "attempts.source is ttl at alice and entangler at bob"),
        (
            {"attempts.herald_patterns": [5, 3, 10, 12]},
            r"is [5, 3, 10, 12] at alice and [3, 5, 10, 12] at bob",
        ),
        ({"attempts.windows_per_search": 100}, "attempts.windows_per_search is 100 at alice and 200 at bob"),
        ({"handshake.ready_gate": 1.2e-3}, "handshake.ready_gate is 1200 us at alice"),
    ],
)
def test_nodes_that_would_not_keep_in_step(nodes: Nodes, fields: dict, clause: str) -> None:
    """Both refuse with the same line, which names field, values and remedy."""
    nodes.start(alice_fields=fields)
    alice, bob = nodes.same(lambda coordinator: coordinator.greet())
    assert isinstance(alice, ParameterError) and isinstance(bob, ParameterError | RemoteProtocolError)
    assert clause in str(alice)
    assert "\n" not in str(alice) and "the same value" in str(alice)
    assert [spool.run_id for spool in nodes.spools.values()] == [None, None]


def test_timings_of_one_node_may_differ(nodes: Nodes) -> None:
    nodes.start(alice_fields={"attempts.photon_window": [0.021e-6, 0.058e-6], "analysis.pi_time_map": 4.9e-6})
    assert nodes.same(lambda coordinator: coordinator.greet()) == [None, None]


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": NUM_ROUNDS + 1},
        {"version": 99},
        {"run_id": "elsewhere"},
        {"proposed_run_id": ""},
        {"protocol": "early-type"},
        {"rounds": 3, "columns": 4},
        {"rounds": 3},
        {"columns": 1},
        {"timings": {}},
        {"timings": TIMINGS | {"cooling.time": -1}, "timings_digest": digest(TIMINGS | {"cooling.time": -1})},
        {"timings": TIMINGS | {"cooling.time": "long"}},
        {"timings_digest": "0" * 16},
    ],
)
def test_senseless_hello(nodes: Nodes, changes: dict) -> None:
    nodes.start()
    hello = {
        "version": VERSION,
        "role": "alice",
        "protocol": "ordered",
        "parameters": parameters().digest,
        "run_id": "",
        "proposed_run_id": "3" * 32,
        "rounds": 0,
        "columns": 0,
        "timings": TIMINGS,
        "timings_digest": digest(TIMINGS),
    }
    send_unchecked(nodes.connections["alice"], "hello", **(hello | changes))
    with pytest.raises((ParameterError, RemoteProtocolError)):
        nodes.coordinators["bob"].greet()
    while nodes.connections["alice"].receive(5.0)["kind"] != "hello":
        pass
    with pytest.raises(RemoteProtocolError):
        nodes.connections["alice"].receive(5.0)


def test_failure_while_storing_surfaces(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    draws = nodes.begin()
    nodes.play("bob", draws, BATCH, received=[7] * BATCH)
    with pytest.raises(ParameterError):
        nodes.coordinators["bob"].check(BATCH, RUNNING)


def test_peer_that_leaves(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    nodes.coordinators["alice"].leave(Reason.TERMINATED)
    with pytest.raises(PeerAbsentError, match="termination requested"):
        nodes.coordinators["bob"].begin_batch()


def test_scheduler_interrupts_the_wait(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    asked = iter([False, False, True, True])
    nodes.coordinators["alice"].should_stop = lambda: next(asked)
    assert nodes.coordinators["alice"].begin_batch() == []


def test_more_random_bits_are_drawn_between_batches(nodes: Nodes) -> None:
    nodes.start(pool_bytes=30)
    nodes.same(lambda coordinator: coordinator.greet())
    for role in ("alice", "bob"):
        spool = nodes.spools[role]
        nodes.coordinators[role].fill_pool = lambda spool=spool: spool.fill_pool(os.urandom, 30)
    for _ in range(3):
        draws = nodes.begin()
        assert len(draws[1]) == BATCH
        nodes.same(lambda coordinator: coordinator.end_batch(0, RUNNING))


def test_shared_outcomes_have_no_place_in_a_key_run(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    nodes.connections["alice"].send(
        "shared_rounds",
        first=0,
        settings="00",
        outcomes="01",
        lost="00",
        timestamps="00" * 8,
        edges="00" * 8,
        patterns="03",
    )
    with pytest.raises(RemoteProtocolError, match="'shared_rounds' message came where 'batch_ready' was due"):
        nodes.coordinators["bob"].begin_batch()


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_no_setting_is_applied_before_both_nodes_have_drawn_theirs(nodes: Nodes, role: str) -> None:
    """The other node is cut off before it draws: this one begins nothing, and the run goes on."""
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    other = "bob" if role == "alice" else "alice"
    nodes.connections[other].send("batch_ready", first=0, num_rounds=BATCH)
    nodes.connections[other].close()
    with pytest.raises(PeerAbsentError):
        nodes.coordinators[role].begin_batch()
    assert nodes.spools[role].rounds_begun == 0
    nodes.stop()
    nodes.start()
    assert nodes.same(lambda coordinator: coordinator.greet()) == [None, None]
    assert [spool.rounds_done for spool in nodes.spools.values()] == [0, 0]
    assert len(nodes.begin()[0]) == BATCH


def test_an_ion_that_is_lost_while_it_is_loaded_is_loaded_again(nodes: Nodes) -> None:
    nodes.start()
    coordinator = nodes.coordinators["alice"]
    loads: list[int] = []
    coordinator.reload = IonReload(lambda: loads.append(1), patience_s=1e9)
    for _ in range(3):
        assert coordinator.wait_for_recovery(True, False)
    assert len(loads) == 1
    coordinator.reload.patience_s = 0.0
    for _ in range(3):
        coordinator.wait_for_recovery(True, False)
    assert len(loads) == 4 and coordinator.ion_losses == 1


def test_nodes_that_understand_different_run_ids_begin_nothing(nodes: Nodes) -> None:
    nodes.start()
    connection = nodes.connections["bob"]
    send = connection.send

    def mistaken(kind: str, **fields: object) -> None:
        send(kind, **(fields | {"proposed_run_id": "4" * 32} if kind == "hello" else fields))

    connection.send = mistaken  # type: ignore[method-assign]
    for error in nodes.same(lambda coordinator: coordinator.greet()):
        assert isinstance(error, RemoteProtocolError) and "run id" in str(error)
    assert [spool.run_id for spool in nodes.spools.values()] == [None, None]


@pytest.mark.parametrize("left", [0, 3])
def test_a_node_left_alone_leaves_the_batch(nodes: Nodes, left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bob has had a herald that Alice has not: she would wait for it until the batch stalls."""
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    draws = nodes.begin()
    monkeypatch.setattr(coordinator_module, "PEER_DONE_TIMEOUT_S", 0.0)
    nodes.play("bob", draws, left + 1)
    if left:
        nodes.play("alice", draws, left)

    def alice(coordinator: Coordinator) -> None:
        while coordinator.check(left, RUNNING) > left:
            pass
        coordinator.end_batch(left, RUNNING)

    assert nodes.both(alice, lambda c: c.end_batch(left + 1, LOCK_LOST)) == [None, None]
    assert [spool.rounds_done for spool in nodes.spools.values()] == [left + 1, left + 1]


FORGED = [
    b'{"kind": "batch_done", "rounds": 4, "reason": "\\ud800"}',
    b'{"kind": "stop", "round": 4, "reason": "\\ud800"}',
    b'{"kind": "stop", "round": 4, "reason": "unheard of"}',
    b'{"kind": "columns", "first": 0}',
    b"garbage",
]


@pytest.mark.parametrize("text", FORGED)
@pytest.mark.parametrize("when", ["within a batch", "at its end"])
def test_a_forged_message_loses_no_outcome(nodes: Nodes, text: bytes, when: str) -> None:
    """A lone surrogate in a reason used to poison the journal: the outcomes of the last second were lost."""
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    draws = nodes.begin()
    alice = nodes.coordinators["alice"]
    assert alice.check(0, RUNNING) == BATCH
    nodes.play("alice", draws, 4)
    assert alice.spool.rounds_acknowledged == 0
    send_text(nodes.connections["bob"], text)
    with pytest.raises(RemoteProtocolError):
        if when == "within a batch":
            while alice.check(4, RUNNING) > 4:
                pass
        else:
            alice.end_batch(4, RUNNING)
    assert alice.spool.rounds_acknowledged == 4
    nodes.stop()
    spool = RoundSpool.open(nodes.directory / "alice" / "spool.sqlite", role="alice")
    assert spool.rounds_done == 4 and not lost_rounds(spool)
    assert columns_of(spool)["outcome"].tolist() == [1] * 4
    spool.close()


def test_outcomes_are_on_disk_before_an_honest_message_is_read(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    draws = nodes.begin()
    alice = nodes.coordinators["alice"]
    alice.check(0, RUNNING)
    nodes.play("alice", draws, 4)
    order = []
    flush, handle = alice.spool.flush, alice._handle
    alice.spool.flush = lambda: (order.append("flush"), flush())[1]
    alice._handle = lambda message: (order.append(message["kind"]), handle(message))[1]
    nodes.connections["bob"].send("stop", round=6, reason=Reason.PAUSE_REQUESTED)
    while alice.check(4, RUNNING) == BATCH:
        pass
    assert order[:2] == ["flush", "stop"] and alice.spool.rounds_acknowledged == 4


@pytest.mark.parametrize("where", ["within a batch", "at its end", "before the next"])
def test_requests_to_stop_without_end_are_an_error(nodes: Nodes, where: str) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    nodes.begin()
    bob = nodes.connections["bob"]
    if where == "before the next":
        assert nodes.same(lambda coordinator: coordinator.end_batch(0, ION_LOST)) == [None, None]
    for _ in range(10):
        bob.send("stop", round=BATCH, reason=Reason.AGREED)
    alice = nodes.coordinators["alice"]
    with pytest.raises(RemoteProtocolError, match="asked twice"):
        if where == "within a batch":
            while True:
                alice.check(0, RUNNING)
        elif where == "at its end":
            alice.end_batch(0, RUNNING)
        else:
            alice.begin_batch()


def test_reasons_of_the_other_node_are_those_of_the_enumeration(nodes: Nodes) -> None:
    """What Bob says of his batch is in Alice's record, word for word out of `Reason`."""
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    draws = nodes.begin()
    for role in ("alice", "bob"):
        nodes.play(role, draws, 3)
    assert nodes.both(lambda c: c.end_batch(3, RUNNING), lambda c: c.end_batch(3, ION_LOST)) == [None, None]
    nodes.begin()
    for spool in nodes.spools.values():
        assert [gap["reason"] for gap in spool._table.gaps()] == [Reason.ION_LOST.value]
        assert type(spool._table.gaps()[0]["reason"]) is str
