"""Two nodes, the laboratory and nothing else: correlations, faults, and what happens when a node goes."""

import json
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diqkd_postproc.protocol.errors import DiqkdError, ParameterError
from diqkd_postproc.protocol.roles import HERALD_PATTERNS
from sim_devices.apparatus.client import LaboratoryError
from sim_devices.apparatus.clock import LaboratoryClock
from sim_devices.apparatus.node_apparatus import NodeApparatus
from sim_devices.apparatus.wire import ENTRY, TEST
from sim_devices.laboratory import LaboratoryConfiguration, LaboratoryServer, LinkModel
from sim_devices.laboratory.tape import Tape
from sim_devices.physics.expected_statistics import chain_probabilities, chsh_and_qber
from sim_devices.physics.node_parameters import Nature
from sim_devices.physics.photon_source import AttemptLight, photon_source
from tests.support.player import UNKNOWN_PATTERN, Player

StartLaboratory = Callable[[LaboratoryConfiguration], str]
AT_ONCE = LinkModel(success_probability=1.0)


def settings(seed: int, values: int, count: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, values, count).tolist()


def num_differing_labels(alice: Player, bob: Player) -> int:
    return sum(own.pattern != other.pattern for own, other in zip(alice.rounds, bob.rounds, strict=True))


def play_together(alice: Player, bob: Player, num_rounds: int, seed: int = 11) -> None:
    """Both nodes until each has `num_rounds` rounds; a lost ion is replaced at once."""

    def play(player: Player, chosen: list[int]) -> None:
        missed = 0
        while len(player.rounds) < num_rounds and missed < 2_000:
            if player.play(chosen[len(player.rounds)]):
                continue
            missed += 1
            if player.cooling_counts() <= 15:
                player.apparatus.reload_ion()

    threads = [
        threading.Thread(target=play, args=(bob, settings(seed, 3, num_rounds)), daemon=True),
        threading.Thread(target=play, args=(alice, settings(seed + 1, 2, num_rounds)), daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300.0)
    assert len(alice.rounds) == len(bob.rounds) == num_rounds
    # One in 1700 of the fixed seed's.
    assert num_differing_labels(alice, bob) <= max(3, num_rounds // 500)
    assert [r.round_type for r in alice.rounds] == [r.round_type for r in bob.rounds]


@contextmanager
def playing(player: Player, chosen: list[int]) -> Iterator[None]:
    """A node that plays these settings meanwhile."""

    def play() -> None:
        while len(player.rounds) < len(chosen):
            player.play(chosen[len(player.rounds)])

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    yield
    thread.join(60)
    assert len(player.rounds) == len(chosen)


def run(address: str, num_rounds: int) -> tuple[Player, Player]:
    alice, bob = Player("alice", address), Player("bob", address)
    play_together(alice, bob, num_rounds)
    alice.close()
    bob.close()
    return alice, bob


def counts(alice: Player, bob: Player) -> NDArray[np.int64]:
    """N[x, y, a, b]."""
    table = np.zeros((2, 3, 2, 2), dtype=np.int64)
    for a, b in zip(alice.rounds, bob.rounds, strict=True):
        table[a.setting, b.setting, a.outcome, b.outcome] += 1
    return table


def score(table: NDArray[np.int64]) -> float:
    return chsh_and_qber(table / table.sum(axis=(2, 3), keepdims=True).clip(1))[0]


def test_sampled_rounds_agree_with_the_exact_chain(laboratory: StartLaboratory) -> None:
    """Chi-square of all cells against the exact probabilities; false alarm 1e-7 (Wilson-Hilferty)."""
    alice, bob = run(laboratory(LaboratoryConfiguration(seed=1, link=AT_ONCE)), 12_000)
    table, expected = counts(alice, bob), chain_probabilities()
    statistic, freedom = 0.0, 0
    for x, y in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
        mean = expected[x, y] * table[x, y].sum()
        statistic += float(((table[x, y] - mean) ** 2 / mean).sum())
        freedom += 3
    limit = freedom * (1 - 2 / (9 * freedom) + 5.2 * math.sqrt(2 / (9 * freedom))) ** 3
    assert statistic < limit
    assert score(table) > 2.4


def test_same_seed_same_outcomes(laboratory: StartLaboratory) -> None:
    configuration = LaboratoryConfiguration(seed=9, link=LinkModel(success_probability=0.01), chunk=7)
    first = run(laboratory(configuration), 60)
    address = laboratory(configuration)
    alice, bob = Player("alice", address), Player("bob", address)
    assert bob.cooling_counts() > 15  # looking at the ion while waiting changes nothing
    play_together(alice, bob, 60)
    alice.close()
    bob.close()
    assert [p.rounds for p in first] == [alice.rounds, bob.rounds]


def test_the_slaves_core_may_see_another_pattern(laboratory: StartLaboratory) -> None:
    """Both nodes play the round all the same, and its outcomes depend on Bob's pattern only."""
    address = laboratory(LaboratoryConfiguration(seed=9, link=AT_ONCE, label_mismatch=0.4))
    alice, bob = Player("alice", address), Player("bob", address)
    chosen = [settings(seed, num, 300) for seed, num in ((12, 2), (11, 3))]
    with playing(alice, chosen[0]):
        for setting in chosen[1]:
            assert bob.play(setting)
    alice.close()
    bob.close()
    assert {r.pattern for r in bob.rounds} == set(HERALD_PATTERNS)
    assert {r.pattern for r in alice.rounds} == {UNKNOWN_PATTERN, *HERALD_PATTERNS}
    assert 80 < num_differing_labels(alice, bob) < 160  # outside 1 in 1e6
    tests = [
        (own.outcome ^ other.outcome) == (own.setting and other.setting)
        for own, other in zip(alice.rounds, bob.rounds, strict=True)
        if other.round_type
    ]
    assert sum(tests) > 0.74 * len(tests)


def test_patterns_that_the_nodes_do_not_take_are_no_rounds(laboratory: StartLaboratory) -> None:
    address = laboratory(LaboratoryConfiguration(seed=9, link=AT_ONCE, chunk=8))
    patterns = (0b0101, 0b1100)
    alice, bob = Player("alice", address, patterns=patterns), Player("bob", address, patterns=patterns)
    play_together(alice, bob, 40)
    assert {r.pattern for r in alice.rounds} == set(patterns)
    alice.close()
    bob.close()


def test_local_devices_score_exactly_two(laboratory: StartLaboratory) -> None:
    link = LinkModel("local", success_probability=1.0)
    alice, bob = run(laboratory(LaboratoryConfiguration(seed=2, link=link)), 600)
    table = counts(alice, bob)
    # Decay during readout may flip a bit now and then: 5e-4 a round.
    assert score(table) == pytest.approx(2.0, abs=0.1)
    assert table[0, 2].trace() >= 0.98 * table[0, 2].sum()


@pytest.mark.parametrize("index", [0, 5, 8])
@pytest.mark.parametrize("kind", ["alice_ion_loss", "bob_ion_loss"])
def test_ion_loss_stops_heralds_until_reload(laboratory: StartLaboratory, kind: str, index: int) -> None:
    configuration = LaboratoryConfiguration(seed=4, link=AT_ONCE, chunk=8, scheduled_faults=((index, kind),))
    run(laboratory(configuration), 24)  # compares the nodes' patterns and types


def test_lock_loss_shows_on_the_line_and_stops_the_pulses(laboratory: StartLaboratory) -> None:
    configuration = LaboratoryConfiguration(
        seed=4, link=AT_ONCE, scheduled_faults=((2, "lock_loss"),), lock_loss_duration=0.05
    )
    address = laboratory(configuration)
    alice, bob = Player("alice", address), Player("bob", address)
    with playing(alice, [0] * 3):
        locked = []
        for _ in range(3):
            assert bob.play(2)
            locked.append(bob.lock_level(bob.now))
    assert locked == [1, 1, 0]
    assert bob.rounds[2].outcome == 1  # without the mapping pulse every ion is bright
    assert bob.lock_level(bob.now + 60_000_000) == 1
    alice.close()
    bob.close()


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_lost_ion_is_dark_and_neither_node_is_heralded(laboratory: StartLaboratory, role: str) -> None:
    faults = ((0, f"{role}_ion_loss"),)
    address = laboratory(LaboratoryConfiguration(seed=4, link=AT_ONCE, scheduled_faults=faults))
    nodes = {name: Player(name, address) for name in ("alice", "bob")}
    assert all(node.cooling_counts() > 15 for node in nodes.values())
    with ThreadPoolExecutor() as threads:
        assert all(threads.map(Player.synchronise, nodes.values()))
    for name, node in nodes.items():
        assert node.search(windows=4) == (-1, 0)
        assert (node.cooling_counts() <= 15) == (name == role)
    nodes[role].apparatus.reload_ion()
    assert 15 < nodes[role].cooling_counts() <= 108
    play_together(nodes["alice"], nodes["bob"], 10)
    for node in nodes.values():
        node.close()


def test_another_protocol_than_the_laboratorys_is_refused(laboratory: StartLaboratory) -> None:
    """Otherwise a node would wait for results of measurements in another order."""
    clock = LaboratoryClock(laboratory=laboratory(LaboratoryConfiguration(protocol="late-type")))
    clock.check_protocol("late-type")
    with pytest.raises(ParameterError, match=r"started for 'late-type'; start it with --protocol ordered"):
        clock.check_protocol("ordered")
    clock.close()


def test_a_node_closes_quietly_after_its_laboratory() -> None:
    """Bob's open test is one of which Alice's result would depend."""
    server = LaboratoryServer(LaboratoryConfiguration(seed=6, link=AT_ONCE))
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    address = f"127.0.0.1:{server.address[1]}"
    alice, bob = Player("alice", address), Player("bob", address)
    play_together(alice, bob, 2)
    server.stop()
    thread.join(10.0)
    bob.apparatus.round.begin(bob.now)
    bob.apparatus.round.round_type = TEST
    bob.apparatus.round.entry = (0,) * len(ENTRY)
    with pytest.raises(LaboratoryError):
        for _ in range(9):
            bob.apparatus.outcomes.skip(bob.apparatus.round)
    bob.close()
    alice.close()


def test_a_load_may_bring_two_ions_and_another_one_ejects_them(
    laboratory: StartLaboratory, tmp_path: Path
) -> None:
    nature = tmp_path / "nature.json"
    nature.write_text(json.dumps({"alice": {"pair_probability": 0.5}}))
    node = NodeApparatus(None, "alice", laboratory(LaboratoryConfiguration(seed=4)), str(nature), seed=3)
    cool, repump = node.level_sink("ttl_422_cool"), node.level_sink("ttl_1092")
    count = node.edge_source("pmt_counter")

    def counts(start: int) -> int:
        for switch in (cool, repump):
            switch(start, 1)
            switch(start + 300_000, 0)
        return count(start, start + 300_000)

    node.ion.lost = True
    seen = []
    for number in range(20):
        node.reload_ion()
        seen.append(counts((number + 1) * 1_000_000))
        if seen[-1] <= 108:
            break
    assert 108 < seen[0] < 200  # 144 in the mean, of two ions
    assert 40 < seen[-1] <= 108
    node.reload_ion()
    assert not node.ion.crowded
    node.close()


def test_bob_who_fails_before_he_announces_leaves_alice_without_type(laboratory: StartLaboratory) -> None:
    """His edge does not come; both are in step in the next round."""
    address = laboratory(LaboratoryConfiguration(seed=6, link=AT_ONCE, chunk=16))
    alice, bob = Player("alice", address), Player("bob", address)
    strobe = bob.level["ttl_round_type_strobe"]
    with playing(alice, [0] * 9):
        for index in range(9):
            bob.level["ttl_round_type_strobe"] = strobe if index != 3 else lambda time, value: None
            assert bob.play(2)
    assert [r.round_type for r in alice.rounds] == [0, 0, 0, None, 0, 0, 0, 0, 0]
    assert num_differing_labels(alice, bob) <= 3
    alice.close()
    bob.close()


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_a_node_alone_gets_no_edge_and_no_heralds(laboratory: StartLaboratory, role: str) -> None:
    node = Player(role, laboratory(LaboratoryConfiguration(link=AT_ONCE)))
    assert not node.synchronise()
    assert node.search(windows=3) == (-1, 0)
    node.close()


def test_an_ion_that_is_hardly_pumped_is_seldom_heralded(laboratory: StartLaboratory) -> None:
    """Both nodes count the attempts that the light of Bob's calls for."""
    configuration = LaboratoryConfiguration(seed=12, link=LinkModel(success_probability=5e-4), chunk=40)
    lasting = []
    for pumping_ns in (500, 32):
        address = laboratory(configuration)
        alice, bob = Player("alice", address), Player("bob", address, pumping_ns=pumping_ns)
        play_together(alice, bob, 40)
        lasting.append([node.now for node in (alice, bob)])
        alice.close()
        bob.close()
    source = photon_source(Nature.of_role("bob"), AttemptLight(32, 600, 664))
    attempts = Tape(configuration).entries(1, 0, 40)["attempts"].sum()
    # An attempt takes a microsecond, and each window of 500 us has 310 us of cooling before it.
    expected = attempts * (1 / source.brightness - 1) * 1e3 * 810 / 500
    for node in (0, 1):
        assert lasting[1][node] - lasting[0][node] == pytest.approx(expected, rel=0.1)


def test_heralds_of_a_bob_whom_alice_has_left_are_in_vain(laboratory: StartLaboratory) -> None:
    """He plays the same round again when she is back."""
    address = laboratory(LaboratoryConfiguration(seed=6, link=AT_ONCE, chunk=16))
    alice, bob = Player("alice", address), Player("bob", address)
    play_together(alice, bob, 5)
    assert not bob.play(2)
    assert len(bob.rounds) == 5
    play_together(alice, bob, 20)
    alice.close()
    bob.close()


@pytest.mark.parametrize("role", ["alice", "bob"])
@pytest.mark.parametrize("killed", [True, False])
def test_a_new_process_goes_on_in_step(laboratory: StartLaboratory, role: str, killed: bool) -> None:
    """After its last chunk if it was killed, where it stopped if it could say so."""
    address = laboratory(LaboratoryConfiguration(seed=6, link=AT_ONCE, chunk=4))
    nodes = {name: Player(name, address) for name in ("alice", "bob")}
    play_together(nodes["alice"], nodes["bob"], 6)
    old = nodes[role]
    if killed:
        old.apparatus.lines.partner.close()
        old.apparatus.rounds.connect()._socket.close()
    else:
        old.close()
    nodes[role] = Player(role, address)
    assert nodes[role].apparatus.rounds.connect().rounds_done == (8 if killed else 6)
    nodes[role].rounds = list(old.rounds)
    play_together(nodes["alice"], nodes["bob"], 20)
    for node in nodes.values():
        node.close()


def test_missing_laboratory_is_named_with_the_remedy() -> None:
    with pytest.raises(DiqkdError, match=r"sim_devices\.laboratory"):
        NodeApparatus(None, "alice", "127.0.0.1:1").connect()


@pytest.mark.parametrize("address", ["nowhere", "host:", "host:99999", ":12"])
def test_bad_address_is_refused(address: str) -> None:
    with pytest.raises(ParameterError, match="host:port"):
        NodeApparatus(None, "alice", address).connect()


def test_bad_role_is_refused() -> None:
    with pytest.raises(ParameterError, match="eve"):
        NodeApparatus(None, "eve", "127.0.0.1:1")
