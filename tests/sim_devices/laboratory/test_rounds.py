"""Two nodes, the laboratory and nothing else: correlations, faults, and what happens when a node goes."""

import math
import threading
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from diqkd_postproc.protocol.errors import DiqkdError, ParameterError
from sim_devices.apparatus.node_apparatus import NodeApparatus
from sim_devices.laboratory import LaboratoryConfiguration, LinkModel
from sim_devices.physics.expected_statistics import chain_probabilities, chsh_and_qber
from tests.support.player import Player

StartLaboratory = Callable[[LaboratoryConfiguration], str]
AT_ONCE = LinkModel(success_probability=1.0)


def settings(seed: int, values: int, count: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, values, count).tolist()


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
    assert [r.pattern for r in alice.rounds] == [r.pattern for r in bob.rounds]
    assert [r.round_type for r in alice.rounds] == [r.round_type for r in bob.rounds]


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
    asked = threading.Thread(target=alice.synchronise, daemon=True)
    asked.start()
    locked = []
    for _ in range(3):
        assert bob.play(2)
        locked.append(bob.lock_level(bob.now))
    asked.join(300.0)
    assert locked == [1, 1, 0]
    assert bob.rounds[2].outcome == 1  # without the mapping pulse every ion is bright
    assert bob.lock_level(bob.now + 60_000_000) == 1
    alice.close()
    bob.close()


def test_lost_ion_is_dark_and_unheralded(laboratory: StartLaboratory) -> None:
    faults = ((0, "alice_ion_loss"),)
    address = laboratory(LaboratoryConfiguration(seed=4, link=AT_ONCE, scheduled_faults=faults))
    alice = Player("alice", address)
    assert alice.cooling_counts() > 15
    assert alice.synchronise()
    assert alice.search(windows=4) == (-1, 0)
    assert alice.cooling_counts() <= 15
    alice.apparatus.reload_ion()
    assert alice.cooling_counts() > 15
    alice.close()


def test_alice_waits_for_bobs_next_rest_after_a_round_without_type(laboratory: StartLaboratory) -> None:
    """Bob fails to send T once and plays on until he rests; she joins again in the round after his rest."""
    address = laboratory(LaboratoryConfiguration(seed=6, link=AT_ONCE, chunk=16))
    alice, bob = Player("alice", address), Player("bob", address)
    asked = threading.Thread(target=alice.synchronise, daemon=True)
    asked.start()
    strobe = bob.level["ttl_round_type_strobe"]
    for index in range(9):
        bob.level["ttl_round_type_strobe"] = strobe if index != 3 else lambda time, value: None
        assert bob.play(2)
        if index == 6:
            bob.move(1.0)
            bob.pulse(200_000, "ttl_422_cool", "ttl_1092", "ttl_1033")
            bob.move(0.0)
    bob.apparatus.rounds.connect().flush()
    asked.join(300.0)
    for _ in range(6):
        assert alice.play(0)
    assert [r.round_type for r in alice.rounds] == [0, 0, 0, None, 0, 0]
    expected = [bob.rounds[index].pattern for index in (0, 1, 2, 3, 7, 8)]
    assert [r.pattern for r in alice.rounds] == expected
    alice.close()
    bob.close()


def test_alone_bob_gets_no_ready_edge_and_no_heralds(laboratory: StartLaboratory) -> None:
    bob = Player("bob", laboratory(LaboratoryConfiguration(link=AT_ONCE)))
    assert not bob.synchronise()
    assert bob.search(windows=3) == (-1, 0)
    bob.close()


def test_killed_alice_misses_what_bob_has_finished(laboratory: StartLaboratory) -> None:
    address = laboratory(LaboratoryConfiguration(seed=6, link=AT_ONCE, chunk=4))
    alice, bob = Player("alice", address), Player("bob", address)
    play_together(alice, bob, 4)
    asked = threading.Thread(target=alice.synchronise, daemon=True)
    asked.start()
    assert bob.play(2) and bob.play(2)
    bob.apparatus.rounds.connect().flush()
    asked.join(300.0)
    alice.apparatus.rounds.connect()._socket.close()
    replacement = Player("alice", address)
    assert replacement.apparatus.rounds.connect().rounds_done == 6
    replacement.rounds = bob.rounds[:6]
    play_together(replacement, bob, 20)
    replacement.close()
    bob.close()


def test_killed_bob_gets_the_rounds_that_he_had_not_finished(laboratory: StartLaboratory) -> None:
    address = laboratory(LaboratoryConfiguration(seed=6, link=AT_ONCE, chunk=4))
    alice, bob = Player("alice", address), Player("bob", address)
    play_together(alice, bob, 6)
    bob.apparatus.rounds.connect().flush()
    bob.apparatus.rounds.connect()._socket.close()
    replacement = Player("bob", address)
    replacement.rounds = alice.rounds[:6]
    play_together(alice, replacement, 20)
    alice.close()
    replacement.close()


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
