"""What Alice's process gets: results with the right probabilities, and nothing else that y or b changes."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diqkd_postproc.protocol.roles import HERALD_PATTERNS
from sim_devices.apparatus import wire
from sim_devices.apparatus.alice_results import (
    EFFECT_STEP,
    STATE,
    AliceResults,
    Effect,
    conditional_states,
    rounded,
)
from sim_devices.apparatus.client import LaboratoryClient, LaboratoryError
from sim_devices.laboratory import LaboratoryConfiguration, LinkModel
from sim_devices.physics.expected_statistics import alice_effects, bob_effects, pattern_probabilities
from sim_devices.physics.link import joint_state
from tests.sim_devices.laboratory.test_rounds import StartLaboratory, play_together
from tests.support.player import Player

KEY, TEST = 0, 1
UP: Effect = (1.0, 0.0, 0.0, 0.0)
TILTED: Effect = (0.5, 0.5, 0.5, 0.0)
BLIND: Effect = (0.5, 0.5, 0.0, 0.0)
CHUNK = 64


def numbers(matrix: NDArray[np.complex128]) -> Effect:
    return (
        float(matrix[0, 0].real),
        float(matrix[1, 1].real),
        float(matrix[1, 0].real),
        float(matrix[1, 0].imag),
    )


def rounds(
    states: NDArray[np.void], round_type: int, first: int = 0
) -> tuple[NDArray[np.void], NDArray[np.void]]:
    entries = np.zeros(len(states), dtype=wire.ALICE_ENTRY)
    entries["index"] = np.arange(first, first + len(states))
    entries["round_type"] = round_type
    return entries, states


def random_states(seed: int, count: int) -> NDArray[np.void]:
    rng = np.random.default_rng(seed)
    states = np.zeros(count, dtype=STATE)
    states["population"], states["uniform"] = rng.random(count), rng.random(count)
    size = np.sqrt(states["population"] * (1 - states["population"])) * rng.random(count)
    angle = 2 * np.pi * rng.random(count)
    states["real"], states["imaginary"] = size * np.cos(angle), size * np.sin(angle)
    return states


# Statistics.


@pytest.mark.parametrize("pattern", HERALD_PATTERNS)
@pytest.mark.parametrize("bright", [0, 1])
def test_results_have_the_probabilities_of_the_joint_state(pattern: int, bright: int) -> None:
    """u on a grid of N points: the fraction of bright results is P(A | B, X, Y) to 1/N and the rounding."""
    count = 4000
    rho, alice, bob = joint_state(pattern), alice_effects(), bob_effects(pattern)
    table = pattern_probabilities(rho, alice, bob)
    for y in range(3):
        results = np.zeros(1, dtype=wire.RESULT)
        results["bright"] = bright
        for name, value in zip(("e00", "e11", "e10_real", "e10_imaginary"), numbers(bob[y]), strict=True):
            results[name] = value
        population, coherence = conditional_states(rho[None], results)
        states = np.zeros(count, dtype=STATE)
        states["population"] = population[0]
        states["real"], states["imaginary"] = coherence[0].real, coherence[0].imag
        states["uniform"] = (np.arange(count) + 0.5) / count
        for x in range(2):
            held = AliceResults()
            held.hand_out(*rounds(states, TEST))
            found = sum(held.measure(index, rounded(numbers(alice[x])))[0] for index in range(count))
            expected = table[x, y, 0, bright] / table[x, y, :, bright].sum()
            assert found / count == pytest.approx(expected, abs=1 / count + 1e-4)


def test_results_in_advance_are_those_that_a_request_gets() -> None:
    effects = [rounded(numbers(effect)) for effect in alice_effects()] + [UP, TILTED, BLIND]
    early, late = AliceResults(), AliceResults()
    early.hand_out(*rounds(random_states(1, 8), KEY))
    assert [early.measure(index, effect)[1] for index, effect in enumerate(effects)] == [0, 1, 2, 3, 4]
    states = random_states(2, 500)
    entries, _ = rounds(states, KEY, first=8)
    early.hand_out(entries, states)
    assert set(entries["num_results"]) == {5}
    for number, effect in enumerate(effects):
        late.hand_out(*rounds(states, KEY, first=8))
        for entry in entries:
            bright, _ = late.measure(int(entry["index"]), effect)
            assert bright == bool(int(entry["results"]) >> number & 1)


def test_rounding_leaves_probabilities_alone() -> None:
    """|tr(rho dE)| < 1e-4 for every state, as the largest eigenvalue of dE shows."""
    for effect in alice_effects():
        difference = np.array(rounded(numbers(effect))) - np.array(numbers(effect))
        matrix = np.array(
            [
                [difference[0], difference[2] - 1j * difference[3]],
                [difference[2] + 1j * difference[3], difference[1]],
            ]
        )
        assert np.abs(np.linalg.eigvalsh(matrix)).max() < 1e-4


# What is refused.


def test_a_round_answers_once() -> None:
    held = AliceResults()
    held.hand_out(*rounds(random_states(3, 10), KEY, first=20))
    held.measure(25, UP)
    for index in (25, 19, 30, -1):
        with pytest.raises(wire.WireError, match="round"):
            held.measure(index, TILTED)
    held.hand_out(*rounds(random_states(4, 10), KEY, first=30))
    with pytest.raises(wire.WireError, match="round"):
        held.measure(26, UP)
    held.start()
    with pytest.raises(wire.WireError, match="round"):
        held.measure(31, UP)


@pytest.mark.parametrize(
    "effect",
    [
        (1.1, 0.0, 0.0, 0.0),
        (0.0, -0.1, 0.0, 0.0),
        (0.5, 0.5, 0.4, 0.4),
        (float("nan"), 0.5, 0.0, 0.0),
        (0.5, 0.5, float("inf"), 0.0),
        (float("inf"), float("inf"), 0.0, 0.0),
    ],
)
def test_what_is_no_effect_is_refused_from_both_nodes(effect: Effect) -> None:
    held = AliceResults()
    held.hand_out(*rounds(random_states(3, 1), KEY))
    with pytest.raises(wire.WireError, match="eigenvalues"):
        held.measure(0, effect)
    results = np.array([(0, KEY, 0, 1, 0, *effect)], dtype=wire.RESULT)
    with pytest.raises(wire.WireError, match="eigenvalues"):
        conditional_states(joint_state(HERALD_PATTERNS[0])[None], results)


def test_an_impossible_outcome_leaves_the_reduced_state() -> None:
    rho = joint_state(HERALD_PATTERNS[0])
    results = np.array([(0, KEY, 0, 0, 0, 1.0, 1.0, 0.0, 0.0)], dtype=wire.RESULT)
    population, coherence = conditional_states(rho[None], results)
    assert population[0] == pytest.approx((rho[0, 0, 0, 0] + rho[0, 1, 0, 1]).real)
    assert coherence[0] == pytest.approx(0.0)


def test_effects_beyond_the_limit_and_of_test_rounds_are_asked_each_time() -> None:
    held = AliceResults()
    held.hand_out(*rounds(random_states(5, 4), TEST))
    assert held.measure(0, UP)[1] == wire.MAX_REGISTERED
    count = wire.MAX_REGISTERED + 5
    held.hand_out(*rounds(random_states(5, count), KEY, first=4))
    given = [held.measure(4 + k, (k * EFFECT_STEP, 0.5, 0.0, 0.0))[1] for k in range(count)]
    assert given == [*range(wire.MAX_REGISTERED), *[wire.MAX_REGISTERED] * 5]
    states = random_states(6, 50)
    states["uniform"] = 0.0
    states["population"] = 0.5
    entries, _ = rounds(states, KEY, first=1000)
    held.hand_out(entries, states)
    assert set(entries["num_results"]) == {wire.MAX_REGISTERED}
    assert set(entries["results"].tolist()) == {2**64 - 1}
    entries, _ = rounds(states, TEST, first=1050)
    held.hand_out(entries, states)
    assert not entries["num_results"].any() and not entries["results"].any()


# What travels.


class Nodes:
    """Both clients of a laboratory, without apparatus."""

    def __init__(self, address: str) -> None:
        self.alice, self.bob = LaboratoryClient("alice", address), LaboratoryClient("bob", address)

    def chunk(self, round_type: int, bright: Callable[[int], int], effect: Effect) -> list[tuple[Any, ...]]:
        """Bob plays a chunk with these reports; returns what Alice gets, oldest first."""
        received: list[tuple[Any, ...]] = []
        asking = threading.Thread(target=lambda: received.extend(self.alice.fetch(25.0)), daemon=True)
        asking.start()
        entries = self.bob.fetch(25.0)
        assert len(entries) == CHUNK
        for entry in reversed(entries):
            self.bob.add_result((entry[0], round_type, 40_000, bright(entry[0]), 0, *effect))
        self.bob.flush()
        asking.join(300.0)
        assert len(received) == CHUNK
        return received[::-1]

    def close(self) -> None:
        self.alice.close()
        self.bob.close()


@pytest.fixture
def nodes(laboratory: StartLaboratory) -> Iterator[Callable[[], Nodes]]:
    """Starts a laboratory, always of the same seed, with its nodes."""
    started: list[Nodes] = []

    def start() -> Nodes:
        started.append(Nodes(laboratory(LaboratoryConfiguration(seed=12, chunk=CHUNK))))
        return started[-1]

    yield start
    for pair in started:
        pair.close()


# (outcome of a round, effect) that Bob may report.
REPORTS: tuple[tuple[Callable[[int], int], Effect], ...] = (
    (lambda index: 1, UP),
    (lambda index: 0, UP),
    (lambda index: index % 2, TILTED),
    (lambda index: 1, (0.5, 0.5, -0.3, 0.4)),
)


def test_alice_gets_no_state() -> None:
    assert wire.ALICE_ENTRY.names == (
        *("index", "attempts", "pattern", "fault", "lock_mu", "preset", "round_type", "strobe_mu", "fresh"),
        *("results", "num_results", "time_s"),
    )


def test_test_rounds_look_the_same_whatever_bob_did(nodes: Callable[[], Nodes]) -> None:
    """Not even with an effect that is registered already."""
    received = []
    for bright, effect in REPORTS:
        pair = nodes()
        first = pair.chunk(KEY, lambda index: 1, UP)
        assert pair.alice.measure(first[0][0], UP)[1] == 0
        received.append(pair.chunk(TEST, bright, effect))
    assert all(entries == received[0] for entries in received)
    assert {entry[9:11] for entry in received[0]} == {(0, 0)}


def test_key_rounds_differ_in_her_own_results_only(nodes: Callable[[], Nodes]) -> None:
    received = []
    for bright, effect in REPORTS:
        pair = nodes()
        first = pair.chunk(KEY, lambda index: 1, UP)
        assert pair.alice.measure(first[0][0], BLIND)[1] == 0
        assert pair.alice.measure(first[1][0], UP)[1] == 1
        received.append(pair.chunk(KEY, bright, effect))
    for entries in received[1:]:
        for entry, other in zip(entries, received[0], strict=True):
            assert entry[:9] == other[:9] and entry[10] == other[10] == 2
            # The blind effect finds the same in every state, the other one does not.
            assert (entry[9] ^ other[9]) & ~0b10 == 0
    assert any(entry[9] != other[9] for entry, other in zip(received[0], received[1], strict=True))


def test_same_seed_same_results_whenever_an_effect_is_registered(nodes: Callable[[], Nodes]) -> None:
    at_once, later = nodes(), nodes()
    first = at_once.chunk(KEY, lambda index: 1, TILTED)
    assert later.chunk(KEY, lambda index: 1, TILTED) == first
    at_once.alice.measure(first[0][0], UP)
    ready = at_once.chunk(KEY, lambda index: index % 2, UP)
    unready = later.chunk(KEY, lambda index: index % 2, UP)
    assert [entry[10] for entry in unready] == [0] * CHUNK
    asked = [later.alice.measure(entry[0], UP) for entry in unready]
    assert asked == [(bool(entry[9] & 1), 0) for entry in ready]


def test_a_new_process_of_alices_registers_again(nodes: Callable[[], Nodes]) -> None:
    pair = nodes()
    first = pair.chunk(KEY, lambda index: 1, UP)
    assert pair.alice.measure(first[0][0], TILTED)[1] == 0
    pair.alice.close()
    pair.alice = LaboratoryClient("alice", pair.alice.address)
    assert pair.alice.rounds_done == CHUNK
    entries = pair.chunk(KEY, lambda index: 1, UP)
    assert {entry[10] for entry in entries} == {0}
    assert pair.alice.measure(entries[0][0], UP)[1] == 0


@pytest.mark.parametrize("effect", [(2.0, 0.0, 0.0, 0.0), (float("nan"), 0.0, 0.0, 0.0)])
def test_laboratory_hangs_up_on_what_is_no_measurement(nodes: Callable[[], Nodes], effect: Effect) -> None:
    pair = nodes()
    first = pair.chunk(KEY, lambda index: 1, UP)
    with pytest.raises(LaboratoryError, match="went away"):
        pair.alice.measure(first[0][0], effect)


def test_bob_cannot_measure_alices_ion(nodes: Callable[[], Nodes]) -> None:
    pair = nodes()
    first = pair.chunk(KEY, lambda index: 1, UP)
    with pytest.raises(LaboratoryError, match="went away"):
        pair.bob.measure(first[0][0], UP)


def test_key_rounds_agree_before_and_after_a_kill(laboratory: StartLaboratory) -> None:
    """An ideal link errs in fewer than 0.5 % of key rounds: 8 of 60 have a chance below 1e-8."""
    link = LinkModel("ideal", success_probability=1.0)
    address = laboratory(LaboratoryConfiguration(seed=8, link=link, chunk=8))
    alice, bob = Player("alice", address), Player("bob", address)
    play_together(alice, bob, 60)
    bob.apparatus.rounds.connect().flush()
    alice.apparatus.rounds.connect()._socket.close()
    replacement = Player("alice", address)
    assert replacement.apparatus.rounds.connect().rounds_done == 60
    replacement.rounds = list(alice.rounds)
    play_together(replacement, bob, 180)
    for start, stop in ((0, 60), (60, 180)):
        pairs = list(zip(replacement.rounds[start:stop], bob.rounds[start:stop], strict=True))
        differ = [a.outcome != b.outcome for a, b in pairs if b.setting == 2]
        assert len(differ) > 10
        assert sum(differ) < 8
    # The effects of key rounds were registered: two settings of hers make one effect there.
    assert len(replacement.apparatus.round.outcomes.registered) == 1
    replacement.close()
    bob.close()
