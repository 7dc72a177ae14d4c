"""Outcomes of both ions: the right probabilities in both orders, and nothing in a process that it may not
hold."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from diqkd_postproc.protocol.roles import HERALD_PATTERNS
from sim_devices.apparatus import wire
from sim_devices.apparatus.client import LaboratoryClient, LaboratoryError
from sim_devices.apparatus.effects import EFFECT_STEP, UNREAD, Effect, rounded
from sim_devices.laboratory import LaboratoryConfiguration, LinkModel
from sim_devices.laboratory.joint_outcomes import ALICE, BOB, JointOutcomes, conditional_states
from sim_devices.laboratory.tape import Tape
from sim_devices.physics.drift import Drift
from sim_devices.physics.expected_statistics import alice_effects, bob_effects, pattern_probabilities
from sim_devices.physics.link import joint_state

StartLaboratory = Callable[[LaboratoryConfiguration], str]
UP: Effect = (1.0, 0.0, 0.0, 0.0)
TILTED: Effect = (0.5, 0.5, 0.5, 0.0)
OTHER: Effect = (0.5, 0.5, -0.3, 0.4)
NONE = wire.MAX_REGISTERED


def numbers(matrix: NDArray[np.complex128]) -> Effect:
    e10 = complex(matrix[1, 0])
    return rounded((float(matrix[0, 0].real), float(matrix[1, 1].real), e10.real, e10.imag))


def outcomes_of(protocol: str, count: int, seed: int = 12) -> JointOutcomes:
    """With `count` rounds in hand."""
    tape = Tape(LaboratoryConfiguration(seed=seed))
    outcomes = JointOutcomes(tape, Drift(), protocol)
    outcomes.add(tape.entries(BOB, 0, count)["pattern"], np.zeros(count))
    return outcomes


def ask(
    outcomes: JointOutcomes, role: int, index: int, effect: Effect, kind: int, partner: int = NONE
) -> tuple[bool, int, int]:
    answer = outcomes.measure(role, index, effect, kind, partner, waits=True)
    assert answer is not None
    return answer


def entries_of(outcomes: JointOutcomes, role: int, first: int, count: int) -> NDArray[np.void]:
    entries = np.zeros(count, dtype=wire.ENTRY)
    entries["index"] = np.arange(first, first + count)
    outcomes.fill_in(role, entries)
    return entries


# Statistics.


@pytest.mark.parametrize("pattern", HERALD_PATTERNS)
@pytest.mark.parametrize("bright", [True, False])
@pytest.mark.parametrize("first", [ALICE, BOB])
def test_the_second_state_has_the_probabilities_of_the_joint_state(
    pattern: int, bright: bool, first: int
) -> None:
    rho, alice, bob = joint_state(pattern), alice_effects(), bob_effects(pattern)
    table = pattern_probabilities(rho, alice, bob)
    firsts, seconds = (alice, bob) if first == ALICE else (bob, alice)
    for i, effect in enumerate(firsts):
        state = conditional_states(rho[None], first, numbers(effect), np.array([bright]))[0]
        for j, other in enumerate(seconds):
            found = np.trace(state @ other).real
            chances = table[i, j] if first == ALICE else table[j, i].T  # [first's outcome, second's]
            # Alice's bit 0 is bright, and Bob's bit 1.
            row = chances[int(bright) if first == BOB else 1 - int(bright)]
            expected = row[0 if first == BOB else 1] / row.sum()
            assert found == pytest.approx(expected, abs=3e-4)


@pytest.mark.parametrize("protocol", wire.PROTOCOLS)
def test_tests_have_the_frequencies_of_the_joint_state(protocol: str) -> None:
    """Correlations of 4000 rounds to six standard errors (2e-9)."""
    count = 4000
    outcomes = outcomes_of(protocol, count)
    first, second = outcomes.first, 1 - outcomes.first
    patterns = Tape(LaboratoryConfiguration(seed=12)).entries(BOB, 0, count)["pattern"]
    equal, expected = 0, 0.0
    alice = alice_effects()[1]
    bobs = {pattern: bob_effects(pattern)[0] for pattern in HERALD_PATTERNS}
    states = {pattern: LinkModel().state(pattern) for pattern in HERALD_PATTERNS}
    for index, pattern in enumerate(patterns.tolist()):
        bob, rho = bobs[pattern], states[pattern]
        effects = {ALICE: numbers(alice), BOB: numbers(bob)}
        assert outcomes.measure(second, index, effects[second], wire.TEST, NONE, waits=True) is None
        found = [ask(outcomes, role, index, effects[role], wire.TEST)[0] for role in (first, second)]
        equal += found[0] != found[1]
        both = np.einsum("abcd,ca,db->", rho, alice, bob).real
        dark = np.einsum("abcd,ca,db->", rho, np.eye(2) - alice, np.eye(2) - bob).real
        expected += 1 - both - dark
    assert abs(equal - expected) < 6 * np.sqrt(count * 0.25)


def test_rounding_leaves_probabilities_alone() -> None:
    """|tr(rho dE)| < 1e-4 for every state, as the largest eigenvalue of dE shows."""
    for effect in alice_effects():
        e10 = complex(effect[1, 0])
        exact = float(effect[0, 0].real), float(effect[1, 1].real), e10.real, e10.imag
        difference = np.array(rounded(exact)) - np.array(exact)
        matrix = np.array(
            [
                [difference[0], difference[2] - 1j * difference[3]],
                [difference[2] + 1j * difference[3], difference[1]],
            ]
        )
        assert np.abs(np.linalg.eigvalsh(matrix)).max() < 1e-4


# In advance.


def registered(protocol: str) -> JointOutcomes:
    """Of 600 rounds, in which each node has registered what it makes in key rounds: Bob UP, or UP and
    TILTED."""
    outcomes = outcomes_of(protocol, 600)
    if protocol == "ordered":
        assert ask(outcomes, BOB, 0, UP, wire.KEY)[1] == NONE
        assert ask(outcomes, BOB, 1, UP, wire.USUAL_KEY)[1] == 0
        assert ask(outcomes, ALICE, 1, UP, wire.KEY)[1] == 0
    else:
        for index, effect in enumerate((UP, TILTED)):
            assert ask(outcomes, ALICE, index, effect, wire.NO_ROUND_TYPE)[1] == index
            assert ask(outcomes, BOB, index, effect, wire.KEY, partner=index)[1:] == (index, index)
    return outcomes


@pytest.mark.parametrize("protocol", wire.PROTOCOLS)
def test_results_in_advance_are_those_that_a_request_gets(protocol: str) -> None:
    early, late = registered(protocol), registered(protocol)
    for role in (early.first, 1 - early.first):
        entries = entries_of(early, role, 100, 500)
        effects = [UP] if protocol == "ordered" else [UP, TILTED]
        assert set(entries["num_results"]) == {len(effects)}
        for entry in entries:
            number = int(entry["index"]) % len(effects)
            bright, *_ = ask(late, role, int(entry["index"]), effects[number], wire.KEY, partner=number)
            assert bright == bool(int(entry["results"]) >> number & 1)


def test_key_rounds_agree_and_tests_do_not_come_in_advance() -> None:
    """On the measured link 1.44 % of the key rounds differ: 30 of 500 have a chance below 1e-9."""
    outcomes = registered("ordered")
    alice, bob = (entries_of(outcomes, role, 100, 500)["results"] for role in (ALICE, BOB))
    assert np.count_nonzero(alice == bob) < 30
    # A test: what Alice finds depends on what Bob has measured, and cannot be had before.
    assert outcomes.measure(ALICE, 100, UP, wire.TEST, NONE, waits=True) is None
    ask(outcomes, BOB, 100, OTHER, wire.TEST)
    ask(outcomes, ALICE, 100, UP, wire.TEST)


def test_alices_results_in_advance_do_not_depend_on_what_bob_does_in_late_type() -> None:
    outcomes, other = registered("late-type"), registered("late-type")
    ask(other, ALICE, 100, UP, wire.NO_ROUND_TYPE)
    ask(other, BOB, 100, OTHER, wire.TEST)
    np.testing.assert_array_equal(entries_of(outcomes, ALICE, 101, 300), entries_of(other, ALICE, 101, 300))


def test_bobs_test_follows_what_alice_has_reported() -> None:
    outcomes = registered("late-type")
    assert outcomes.measure(BOB, 100, OTHER, wire.TEST, NONE, waits=True) is None
    outcomes.report(ALICE, 100, TILTED)
    asked = registered("late-type")
    ask(asked, ALICE, 100, TILTED, wire.NO_ROUND_TYPE)
    assert ask(outcomes, BOB, 100, OTHER, wire.TEST) == ask(asked, BOB, 100, OTHER, wire.TEST)


@pytest.mark.parametrize("protocol", wire.PROTOCOLS)
def test_a_first_one_who_does_not_measure_is_not_waited_for(protocol: str) -> None:
    """If it is in a later round, or takes too long: then its key effect counts."""
    outcomes, patient = registered(protocol), registered(protocol)
    second = 1 - outcomes.first
    answer = outcomes.measure(second, 100, OTHER, wire.TEST, NONE, waits=False)
    patient.reached(outcomes.first, 101)
    assert patient.measure(second, 100, OTHER, wire.TEST, NONE, waits=True) == answer
    known = registered(protocol)
    known.report(outcomes.first, 100, UP)
    assert known.measure(second, 100, OTHER, wire.TEST, NONE, waits=True)[0] == answer[0]


def test_a_usual_effect_is_replaced_by_one_that_is_repeated() -> None:
    outcomes = registered("ordered")
    ask(outcomes, BOB, 2, OTHER, wire.KEY)
    before = entries_of(outcomes, ALICE, 100, 200)
    assert ask(outcomes, BOB, 3, OTHER, wire.USUAL_KEY)[1] == 1
    after = entries_of(outcomes, ALICE, 100, 200)
    assert np.any(before["results"] != after["results"])


# What is refused.


def test_a_round_answers_once() -> None:
    outcomes = outcomes_of("ordered", 30)
    outcomes.forget(10)
    ask(outcomes, BOB, 15, UP, wire.TEST)
    for index in (15, 9, 30, -1):
        with pytest.raises(wire.WireError, match="round"):
            outcomes.measure(BOB, index, TILTED, wire.TEST, NONE, waits=True)


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
@pytest.mark.parametrize("role", [ALICE, BOB])
def test_what_is_no_effect_is_refused_from_both_nodes(effect: Effect, role: int) -> None:
    outcomes = outcomes_of("ordered", 1)
    with pytest.raises(wire.WireError, match="eigenvalues"):
        outcomes.measure(role, 0, effect, wire.TEST, NONE, waits=False)
    with pytest.raises(wire.WireError, match="eigenvalues"):
        outcomes.report(role, 0, effect)


def test_an_impossible_outcome_leaves_the_reduced_state() -> None:
    rho = joint_state(HERALD_PATTERNS[0])
    state = conditional_states(rho[None], BOB, (1.0, 1.0, 0.0, 0.0), np.array([False]))[0]
    assert state[0, 0] == pytest.approx((rho[0, 0, 0, 0] + rho[0, 1, 0, 1]).real)
    assert state[0, 1] == pytest.approx(0.0)


def test_effects_beyond_the_limit_are_asked_each_time() -> None:
    count = wire.MAX_REGISTERED + 5
    outcomes = outcomes_of("late-type", count)
    given = [
        ask(outcomes, ALICE, k, (k * EFFECT_STEP, 0.5, 0.0, 0.0), wire.NO_ROUND_TYPE)[1] for k in range(count)
    ]
    assert given == [*range(wire.MAX_REGISTERED), *[NONE] * 5]
    assert set(entries_of(outcomes, ALICE, 0, count)["num_results"]) == {wire.MAX_REGISTERED}


# What travels.


def test_no_entry_has_a_state_or_a_round_type() -> None:
    assert wire.ENTRY.names == (
        *("index", "attempts", "pattern", "fault", "lock_mu", "preset", "answer"),
        *("results", "num_results", "time_s"),
    )


@pytest.mark.parametrize("effect", [(2.0, 0.0, 0.0, 0.0), (float("nan"), 0.0, 0.0, 0.0)])
def test_laboratory_hangs_up_on_what_is_no_measurement(laboratory: StartLaboratory, effect: Effect) -> None:
    bob = LaboratoryClient("bob", laboratory(LaboratoryConfiguration(seed=12)))
    bob.fetch(0, 0.0)
    with pytest.raises(LaboratoryError, match="went away"):
        bob.measure(0, effect, wire.TEST, NONE)


def test_alice_waits_in_the_laboratory_for_bobs_test(laboratory: StartLaboratory) -> None:
    address = laboratory(LaboratoryConfiguration(seed=12, label_mismatch=0.0))
    alice, bob = LaboratoryClient("alice", address), LaboratoryClient("bob", address)
    assert bob.fetch(0, 0.0) == alice.fetch(0, 0.0)
    alice._send(wire.MEASURE, wire.MEASURE_PAYLOAD.pack(0, *UP, wire.TEST, NONE))
    bob.measure(0, UNREAD, wire.TEST, NONE)
    kind, payload = wire.receive_frame(alice._socket)
    assert kind == wire.MEASURED
    assert wire.MEASURED_PAYLOAD.unpack(payload)[1:] == (NONE, NONE)
    alice.close(0)
    bob.close(0)
