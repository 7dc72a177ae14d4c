"""Two coordinators with real spools and a real connection; the kernel is a loop in the test."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diqkd_node.run import coordinator as coordinator_module
from diqkd_node.run.coordinator import Coordinator
from diqkd_node.run.ion_reload import IonReload
from diqkd_node.run.peer_connection import PeerAbsentError, PeerConnection
from diqkd_node.sequence.conditions import (
    ION_LOST,
    LOCK_LOST,
    RUNNING,
    TOO_MANY_UNDERFLOWS,
    TYPE_MISSING,
    UNDERFLOW_BEFORE_TYPE,
)
from diqkd_postproc.protocol.errors import ParameterError, RemoteProtocolError, StorageError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import HERALD_PATTERNS
from diqkd_postproc.records.round_spool import RoundSpool
from tests.support.example_parameters import small_parameters

NUM_ROUNDS = 60
BATCH = 20


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
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.connections["alice"] = PeerConnection.connect(*listener.getsockname()[:2], 60.0)
            self.connections["bob"] = PeerConnection.accept(listener, 60.0)
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
            thread.join(300.0)
        return [results["alice"], results["bob"]]

    def same(self, function: Callable[[Coordinator], object]) -> list:
        return self.both(function, function)

    def begin(self) -> tuple[list[int], list[int]]:
        """Settings of a new batch at both nodes."""
        alice, bob = self.same(lambda coordinator: coordinator.begin_batch())
        assert len(alice) == len(bob)
        return alice, bob

    def play(
        self, role: str, y: list[int], count: int, first: int = 0, patterns: list[int] | None = None
    ) -> None:
        """Store rounds as a kernel would, with the types that follow from Bob's settings."""
        types = [int(setting != 2) for setting in y[first : first + count]]
        indices = patterns or [(first + i) % 4 for i in range(count)]
        outcomes, times = [1] * count, list(range(1000 + first, 1000 + first + count))
        self.coordinators[role].store(count, outcomes, types, indices, times)


@pytest.fixture
def nodes(tmp_path):
    nodes = Nodes(tmp_path)
    yield nodes
    nodes.stop()


def test_whole_run(nodes: Nodes, tmp_path) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    for _ in range(NUM_ROUNDS // BATCH):
        _, y = nodes.begin()
        assert len(y) == BATCH
        for role in ("alice", "bob"):
            nodes.play(role, y, BATCH)
        assert nodes.same(lambda coordinator: coordinator.end_batch(BATCH, RUNNING)) == [None, None]
    assert nodes.begin() == ([], [])
    assert nodes.same(lambda coordinator: coordinator.finish()) == [None, None]
    records = {role: nodes.spools[role].seal(tmp_path / role / "record.h5") for role in ("alice", "bob")}
    assert records["alice"].run_id == records["bob"].run_id
    np.testing.assert_array_equal(records["alice"].round_type, records["bob"].round_type)
    assert not records["alice"].setting[records["alice"].round_type == 0].any()
    np.testing.assert_array_equal(records["bob"].setting != 2, records["bob"].round_type == 1)


def test_fewer_rounds_are_completed_as_lost(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    _, y = nodes.begin()
    nodes.play("bob", y, 7)
    nodes.play("alice", y, 6)
    results = nodes.both(lambda c: c.end_batch(6, TYPE_MISSING), lambda c: c.end_batch(7, RUNNING))
    assert results == [None, None]
    assert [spool.rounds_done for spool in nodes.spools.values()] == [7, 7]


def test_lost_outcome_keeps_its_round(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    _, y = nodes.begin()
    nodes.play("bob", y, 3)
    types = [int(setting != 2) for setting in y[:3]]
    nodes.coordinators["alice"].store(3, [1, -1, 0], types, [0, 1, 2], [1000, 1001, 1002])
    assert nodes.same(lambda coordinator: coordinator.end_batch(3, ION_LOST)) == [None, None]
    assert nodes.spools["alice"].rounds_done == 3


@pytest.mark.parametrize(
    ("in_order", "total"), [((), BATCH), (("bob",), 9), (("alice",), 9), (("alice", "bob"), 9)]
)
def test_interrupted_run_goes_on(nodes: Nodes, in_order: tuple[str, ...], total: int) -> None:
    """A node that leaves the batch in order vouches for its rounds; if none does, all settings count."""
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    _, y = nodes.begin()
    done = {"alice": 4, "bob": 9}
    for role in done:
        nodes.play(role, y, done[role])
    for role in in_order:
        nodes.coordinators[role].abandon_batch(done[role], False)
    nodes.stop()
    nodes.start()
    assert nodes.same(lambda coordinator: coordinator.greet()) == [None, None]
    assert [spool.rounds_done for spool in nodes.spools.values()] == [total, total]
    alice, bob = (nodes.spools[role]._columns() for role in ("alice", "bob"))
    assert alice["lost"].tolist() == [0] * 4 + [1] * (total - 4)
    assert bob["lost"].tolist() == [0] * 9 + [1] * (total - 9)
    np.testing.assert_array_equal(alice["round_type"], bob["round_type"])
    assert bob["setting"].tolist() == y[:total]
    x, _ = nodes.begin()
    assert len(x) == BATCH


def test_a_herald_in_doubt_counts_if_the_other_node_died(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    _, y = nodes.begin()
    for role in ("alice", "bob"):
        nodes.play(role, y, 4)
    nodes.coordinators["alice"].abandon_batch(4, True)
    nodes.stop()
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    assert [spool.rounds_done for spool in nodes.spools.values()] == [5, 5]


def test_a_failure_while_storing_vouches_for_nothing(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    _, y = nodes.begin()
    nodes.play("bob", [2 - (setting == 2) for setting in y], 3)
    nodes.coordinators["bob"].abandon_batch(3, False)
    assert nodes.spools["bob"].rounds_begun == BATCH


@pytest.mark.parametrize("drawn", [0, 3])
def test_rounds_that_are_over_get_no_new_settings(nodes: Nodes, drawn: int) -> None:
    """Bob's run directory is an older copy: it lacks rounds, and the settings that these had."""
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    _, y = nodes.begin()
    nodes.play("alice", y, 9)
    bob = nodes.coordinators["bob"]
    bob.spool.end_batch()
    if drawn:
        bob.spool.begin_batch(drawn)
    available = bob.spool.bits_available
    nodes.connections["alice"].send("batch_done", rounds=9, reason="")
    nodes.coordinators["alice"]._agreement._send_missing(0)
    with pytest.raises(StorageError, match=f"9 rounds behind at round 0 .* for {drawn} of them"):
        bob.end_batch(0, RUNNING)
    assert (bob.spool.rounds_done, bob.spool.bits_available) == (0, available)
    with pytest.raises(RemoteProtocolError, match="older copy"):
        while nodes.connections["alice"].receive(60.0):
            pass


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


def test_departure_from_a_batch_stops_the_other(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    _, y = nodes.begin()
    nodes.play("alice", y, 5)
    nodes.play("bob", y, 5)

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
    "changes",
    [
        {"rounds": NUM_ROUNDS + 1},
        {"version": 99},
        {"run_id": "elsewhere"},
        {"proposed_run_id": ""},
        {"rounds": 3, "rounds_begun": 3},
        {"rounds": 3},
        {"batch_start": 1},
        {"rounds_begun": NUM_ROUNDS + 1},
    ],
)
def test_senseless_hello(nodes: Nodes, changes: dict) -> None:
    nodes.start()
    hello = {
        "version": 3,
        "role": "alice",
        "parameters": parameters().digest,
        "run_id": "",
        "proposed_run_id": "3" * 32,
        "rounds": 0,
        "rounds_begun": 0,
        "batch_start": 0,
    }
    nodes.connections["alice"].send("hello", **(hello | changes))
    with pytest.raises((ParameterError, RemoteProtocolError)):
        nodes.coordinators["bob"].greet()
    while nodes.connections["alice"].receive(60.0)["kind"] != "hello":
        pass
    with pytest.raises(RemoteProtocolError):
        nodes.connections["alice"].receive(60.0)


@pytest.mark.parametrize(
    "changes", [{"round_types": "zz"}, {"patterns": "07"}, {"round_types": "02"}, {"first": 1}]
)
def test_senseless_missing_rounds(nodes: Nodes, changes: dict) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    nodes.begin()
    connection = nodes.connections["bob"]
    connection.send("batch_done", rounds=1, reason="")
    connection.send("missing", **({"first": 0, "round_types": "01", "patterns": "03"} | changes))
    with pytest.raises(RemoteProtocolError):
        nodes.coordinators["alice"].end_batch(0, RUNNING)
    assert nodes.spools["alice"].rounds_done == 0


def test_a_batch_with_different_patterns_is_lost(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    _, y = nodes.begin()
    nodes.play("alice", y, 2, patterns=[0, 1])
    nodes.play("bob", y, 2, patterns=[0, 2])
    assert nodes.same(lambda coordinator: coordinator.end_batch(2, RUNNING)) == [None, None]
    for spool in nodes.spools.values():
        columns = spool._columns()
        assert columns["lost"].tolist() == [1, 1]
        assert not columns["outcome"].any() and not columns["herald_pattern"].any()
    assert len(nodes.begin()[0]) == BATCH


def test_batches_that_always_differ_end_the_run(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    for _ in range(3):
        _, y = nodes.begin()
        nodes.play("alice", y, 2, patterns=[0, 1])
        nodes.play("bob", y, 2, patterns=[0, 2])
        errors = nodes.same(lambda coordinator: coordinator.end_batch(2, RUNNING))
    for error in errors:
        assert isinstance(error, RemoteProtocolError) and "3 batches in a row" in str(error)
    assert [spool.rounds_done for spool in nodes.spools.values()] == [6, 6]


@pytest.mark.parametrize("allowed", [0, 1, 2, 3, 4])
def test_more_voided_rounds_than_are_paid_for_end_a_run_for_a_key(nodes: Nodes, allowed: int) -> None:
    """Voiding follows the types, which are public: forged messages must not choose by them for nothing."""
    for_a_key = parameters(key_bits=1, max_voided=allowed)
    nodes.start(for_a_key, alice=for_a_key)
    nodes.same(lambda coordinator: coordinator.greet())
    good = [None, None]
    for voided, second_pattern in ((0, 1), (2, 2), (2, 1), (4, 2)):
        _, y = nodes.begin()
        nodes.play("alice", y, 2, patterns=[0, 1])
        nodes.play("bob", y, 2, patterns=[0, second_pattern])
        outcome = nodes.same(lambda coordinator: coordinator.end_batch(2, RUNNING))
        if voided > allowed:
            break
        assert outcome == good
    assert [spool.num_voided for spool in nodes.spools.values()] == [voided, voided]
    nodes.stop()
    nodes.start()
    again = nodes.same(lambda coordinator: coordinator.greet())
    if allowed == 4:
        assert again == good
        return
    for error in (*outcome, *again):
        assert isinstance(error, RemoteProtocolError) and "no key may come of it" in str(error)
        assert f"{voided} rounds of" in str(error) and f"max_voided={allowed}" in str(error)


@pytest.mark.parametrize("allowed", [0, 1])
def test_a_round_type_that_does_not_come_voids_the_round_at_both_nodes(nodes: Nodes, allowed: int) -> None:
    """Whoever cuts the strobe has seen the type: the loss may have been chosen by it."""
    for_a_key = parameters(key_bits=1, max_voided=allowed)
    nodes.start(for_a_key, alice=for_a_key)
    nodes.same(lambda coordinator: coordinator.greet())
    _, y = nodes.begin()
    nodes.play("bob", y, 7)
    nodes.play("alice", y, 6)
    results = nodes.both(lambda c: c.end_batch(6, TYPE_MISSING), lambda c: c.end_batch(7, RUNNING))
    for spool in nodes.spools.values():
        assert np.flatnonzero(spool._columns()["lost"]).tolist() == [6] and spool.num_voided == 1
    if allowed:
        assert results == [None, None]
    else:
        assert all("max_voided=0" in str(error) for error in results)


@pytest.mark.parametrize("condition", [UNDERFLOW_BEFORE_TYPE, TOO_MANY_UNDERFLOWS])
def test_alices_underflow_before_the_type_voids_nothing(nodes: Nodes, condition: int) -> None:
    """The round is lost at Alice alone, whatever its type, and needs no pay."""
    for_a_key = parameters(key_bits=1)
    nodes.start(for_a_key, alice=for_a_key)
    nodes.same(lambda coordinator: coordinator.greet())
    _, y = nodes.begin()
    nodes.play("bob", y, 7)
    nodes.play("alice", y, 6)
    alice, bob = nodes.both(lambda c: c.end_batch(6, condition), lambda c: c.end_batch(7, RUNNING))
    assert bob is None and (alice is None) == (condition == UNDERFLOW_BEFORE_TYPE)
    lost = {role: np.flatnonzero(spool._columns()["lost"]).tolist() for role, spool in nodes.spools.items()}
    assert lost == {"alice": [6], "bob": []} and nodes.spools["alice"].num_voided == 0


def test_a_node_that_dies_before_it_tells_the_type_voids_nothing(nodes: Nodes) -> None:
    """The round is lost, at Alice alone, and the run goes on to a key."""
    for_a_key = parameters(key_bits=1)
    nodes.start(for_a_key, alice=for_a_key)
    nodes.same(lambda coordinator: coordinator.greet())
    _, y = nodes.begin()
    nodes.play("bob", y, 7)
    nodes.play("alice", y, 6)
    nodes.connections["bob"].close()
    with pytest.raises(PeerAbsentError):
        nodes.coordinators["alice"].end_batch(6, TYPE_MISSING)
    nodes.stop()
    nodes.start()
    assert nodes.same(lambda coordinator: coordinator.greet()) == [None, None]
    lost = {role: np.flatnonzero(spool._columns()["lost"]).tolist() for role, spool in nodes.spools.items()}
    assert lost == {"alice": [6], "bob": []}
    assert [spool.num_voided for spool in nodes.spools.values()] == [0, 0]
    assert len(nodes.begin()[0]) == BATCH


@pytest.mark.parametrize("missed", range(6))
def test_a_missed_herald_shifts_no_outcome(nodes: Nodes, missed: int) -> None:
    """Alice's station line drops one click: what she calls round k is Bob's k + 1 from there on."""
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    _, y = nodes.begin()
    indices = [0, 0, 1, 1, 2, 3]
    nodes.play("bob", y, 6, patterns=indices)
    types = [int(setting != 2) for setting in y[:6]]
    seen = [number for number in range(6) if number != missed]
    nodes.coordinators["alice"].store(
        5, [1] * 5, [types[i] for i in seen], [indices[i] for i in seen], list(range(1000, 1005))
    )
    assert nodes.same(lambda coordinator: coordinator.end_batch(5, RUNNING)) == [None, None]
    alice, bob = (nodes.spools[role]._columns() for role in ("alice", "bob"))
    for name in ("round_type", "herald_pattern", "lost"):
        np.testing.assert_array_equal(alice[name], bob[name])
    kept = np.flatnonzero(alice["lost"] == 0)
    assert kept.size <= missed and bob["setting"].tolist() == y[:6]
    # No round is voided that the missed herald cannot have moved.
    twins = [i for i in range(missed) if (types[i], indices[i]) == (types[missed], indices[missed])]
    assert kept.size == (twins[0] if twins else missed)


def test_failure_while_storing_surfaces(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    _, y = nodes.begin()
    nodes.play("bob", [2 - (setting == 2) for setting in y], BATCH)
    with pytest.raises(StorageError):
        nodes.coordinators["bob"].check(BATCH, RUNNING)


def test_peer_that_leaves(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    nodes.coordinators["alice"].leave("termination requested")
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
        _, y = nodes.begin()
        assert len(y) == BATCH
        nodes.same(lambda coordinator: coordinator.end_batch(0, RUNNING))


def test_shared_outcomes_have_no_place_in_a_key_run(nodes: Nodes) -> None:
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    nodes.connections["alice"].send(
        "shared_rounds", first=0, settings="00", outcomes="01", lost="00", timestamps="00" * 8
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
    assert nodes.spools[role].rounds_begun == 0 and nodes.spools[role].pending_batch is not None
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
    _, y = nodes.begin()
    monkeypatch.setattr(coordinator_module, "PEER_DONE_TIMEOUT_S", 0.0)
    nodes.play("bob", y, left + 1)
    if left:
        nodes.play("alice", y, left)

    def alice(coordinator: Coordinator) -> None:
        while coordinator.check(left, RUNNING) > left:
            pass
        coordinator.end_batch(left, RUNNING)

    assert nodes.both(alice, lambda c: c.end_batch(left + 1, LOCK_LOST)) == [None, None]
    assert [spool.rounds_done for spool in nodes.spools.values()] == [left + 1, left + 1]


def test_bobs_missing_rounds_have_the_types_of_his_settings(nodes: Nodes) -> None:
    """Alice, one herald behind, took other rounds for these: what she says of them cannot stop the run."""
    nodes.start()
    nodes.same(lambda coordinator: coordinator.greet())
    _, y = nodes.begin()
    nodes.play("bob", y, 4)
    wrong = [int(setting == 2) for setting in y[:6]]
    nodes.coordinators["alice"].store(6, [1] * 6, wrong, [0] * 6, list(range(6)))
    nodes.stop()
    nodes.start()
    assert nodes.same(lambda coordinator: coordinator.greet()) == [None, None]
    for spool in nodes.spools.values():
        assert spool._columns()["lost"].all()
        assert spool._columns()["round_type"].tolist() == [int(setting != 2) for setting in y]
