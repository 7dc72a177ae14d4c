"""The decision core: the negotiation in every order of events, and long runs against a fake clock."""

import copy
import itertools

import pytest

from diqkd_node.unattended.calibration_graph import CalibrationGraph
from diqkd_node.unattended.decisions import (
    MAX_RESTARTS,
    MAX_TRIES,
    RETRY_S,
    Acquisition,
    Autonomy,
    Observation,
    Phase,
    StartAcquisition,
)
from diqkd_node.unattended.state import Memory
from diqkd_postproc.protocol.errors import RemoteProtocolError
from tests.support.scripted_pair import GRAPH, OTHER, ScriptedNode, ScriptedPair


def test_everything_is_calibrated_before_the_first_round_in_the_order_of_the_graph():
    pair = ScriptedPair(rounds=1000)
    pair.run()
    for node in pair.nodes.values():
        assert node.history == ["hold", "frequency", "pi_time", "phases", "release", "start"]
        assert node.finished and node.rounds == 1000


def test_calibrations_come_again_when_they_are_old_and_together_with_what_is_nearly_due():
    pair = ScriptedPair(rounds=3_000_000)
    end_s = pair.run()
    running_s = 3_000_000 / 100
    assert running_s < end_s < 1.1 * running_s
    for node in pair.nodes.values():
        # The frequency every half hour; pi time and phases, with twice the age, every second time.
        assert node.history.count("frequency") == pytest.approx(end_s / 1800, abs=2)
        assert node.history.count("pi_time") == pytest.approx(end_s / 3600, abs=2)
        assert node.history.count("phases") == node.history.count("pi_time")
        assert node.finished and not node.given_up
    assert pair.nodes["alice"].autonomy.memory.pauses == pair.nodes["bob"].autonomy.memory.pauses


def test_a_setting_that_moved_makes_what_depends_on_it_due():
    def result(role, name, now_s):
        return True, {"frequency_qubit": 400.0} if role == "alice" and name == "frequency" else {}

    pair = ScriptedPair(rounds=300_000, result=result)
    pair.run()
    first, second = pair.nodes["alice"].history[:6], pair.nodes["alice"].history[6:]
    assert first == ["hold", "frequency", "pi_time", "phases", "release", "start"]
    assert second[:5] == ["hold", "frequency", "pi_time", "phases", "release"]
    # Bob's laser has not moved: he takes part in the joint calibration only.
    assert pair.nodes["bob"].history[6:10] == ["hold", "frequency", "phases", "release"]


def test_a_lost_lock_pauses_both_nodes_and_is_followed_by_the_frequency():
    pair = ScriptedPair(rounds=60_000)

    def world(now_s, nodes):
        for node in nodes.values():
            node.locked = not 200.0 < now_s < 1400.0

    pair.world = world
    end_s = pair.run()
    assert 1800.0 < end_s < 2100.0
    for node in pair.nodes.values():
        assert node.history[6:] == ["hold", "frequency", "release"], node.history
        assert node.finished
        submitted = [now_s for now_s, note in node.notes if note.event == "calibrate"]
        assert not [now_s for now_s in submitted if 200.0 < now_s < 1400.0]


def test_a_calibration_disturbed_by_the_lock_is_repeated_and_not_counted_as_a_failure():
    pair = ScriptedPair(rounds=1000)
    away = iter((True, False))

    def result(role, name, now_s):
        if name == "frequency" and role == "bob" and next(away, False):
            pair.nodes["bob"].locked = False
            return False, {}, "no contrast"
        return True, {}

    pair.world = lambda now_s, nodes: setattr(nodes["bob"], "locked", nodes["bob"].locked or now_s > 500)
    pair.result = result
    pair.run()
    bob = pair.nodes["bob"]
    assert bob.history[:4] == ["hold", "frequency", "frequency", "pi_time"]
    assert bob.memory.of("frequency").failures == 0
    assert bob.finished


def test_a_joint_calibration_that_failed_at_one_node_is_repeated_by_both():
    failures = iter((True,))

    def result(role, name, now_s):
        failed = role == "alice" and name == "phases" and next(failures, False)
        return not failed, {}

    pair = ScriptedPair(rounds=1000, result=result)
    pair.run()
    for node in pair.nodes.values():
        assert node.history.count("phases") == 2
        assert node.finished


def test_a_calibration_that_fails_at_the_start_of_the_day_ends_it_with_a_reason():
    pair = ScriptedPair(result=lambda role, name, now_s: (name != "pi_time" or role == "bob", {}, "no fit"))
    pair.run(until_s=3 * RETRY_S)
    alice = pair.nodes["alice"]
    assert alice.history.count("pi_time") == MAX_TRIES
    assert "pi_time failed 3 times" in alice.given_up
    assert "start" not in alice.history


def test_an_old_value_carries_the_run_through_a_failure_and_is_replaced_later():
    def result(role, name, now_s):
        return not (name == "frequency" and role == "bob" and 1700 < now_s < 2400), {}, "no fit"

    pair = ScriptedPair(rounds=400_000, result=result)
    pair.run()
    bob = pair.nodes["bob"]
    assert [note.event for _, note in bob.notes].count("alarm") == 1
    assert bob.finished and bob.memory.of("frequency").failures == 0


def test_a_calibration_that_hangs_is_cancelled():
    pair = ScriptedPair(rounds=1000, duration_s=20.0)
    hangs = iter((True,))
    original = pair.pass_time

    def pass_time(now_s, step_s):
        if pair.nodes["alice"].submitted == "frequency" and next(hangs, False):
            pair.ends["alice"] = float("inf")
        original(now_s, step_s)
        if pair.nodes["alice"].submitted is None and pair.ends.get("alice") == float("inf"):
            del pair.ends["alice"]

    pair.pass_time = pass_time
    pair.run()
    assert pair.nodes["alice"].history.count("frequency") == 2
    assert pair.nodes["alice"].finished


def test_a_key_run_that_keeps_ending_without_a_round_is_given_up():
    node = ScriptedNode("alice", CalibrationGraph(()))
    for _ in range(200):
        node.now_s += 1.0
        node.step([])
        node.acquisition = Acquisition.ABSENT
    assert node.history == ["start"] * MAX_RESTARTS
    assert "without a round" in node.given_up


def test_a_key_run_that_makes_rounds_is_started_again_and_again():
    node = ScriptedNode("alice", CalibrationGraph(()))
    for _ in range(400):
        node.now_s += 1.0
        node.step([])
        node.rounds += 10
        node.acquisition = Acquisition.ABSENT
    assert node.history.count("start") > 2 * MAX_RESTARTS
    assert not node.given_up


@pytest.mark.parametrize(
    "message",
    [
        {"kind": "agree", "number": 1},
        {"kind": "agree", "number": 7},
        {"kind": "propose", "number": 2, "due": []},
        {"kind": "propose", "number": 0, "due": []},
        {"kind": "propose", "number": 1, "due": ["nonsense"]},
        {"kind": "ready", "number": 0, "joint": []},
        {"kind": "ready", "number": 1, "joint": ["phases"]},
        {"kind": "decline", "number": 9},
        {"kind": "unheard of"},
    ],
)
def test_messages_that_make_no_sense_are_errors_and_change_nothing(message):
    memory = Memory()
    autonomy = Autonomy("bob", CalibrationGraph(()), memory)
    seen = Observation(now_s=0.0, acquisition=Acquisition.ACTIVE, messages=(message,))
    with pytest.raises(RemoteProtocolError, match="makes no sense"):
        autonomy.step(seen)
    assert autonomy.phase is Phase.RUNNING and memory.pauses == 0


def test_ready_may_name_joint_calibrations_only():
    pair = ScriptedPair()
    for role in ("alice", "bob", "alice", "bob"):
        pair.step(role)
    bob = pair.nodes["bob"]
    bob.inbox.clear()
    for name in ("frequency", "nonsense"):
        bob.inbox.append({"kind": "ready", "number": 1, "joint": [name]})
        with pytest.raises(RemoteProtocolError):
            pair.step("bob")


def test_after_the_last_round_a_proposal_is_declined():
    pair = ScriptedPair(graph=CalibrationGraph(()), rounds=1000)
    alice, bob = pair.nodes["alice"], pair.nodes["bob"]
    alice.acquisition = Acquisition.FINISHED
    pair.step("alice")
    bob.acquisition = Acquisition.ACTIVE
    alice.inbox.append({"kind": "propose", "number": 1, "due": []})
    bob.autonomy.phase = Phase.PROPOSING
    pair.step("alice")
    pair.step("bob")
    assert bob.autonomy.phase is Phase.RUNNING
    bob.acquisition = Acquisition.FINISHED
    pair.step("bob")
    pair.step("alice")
    assert alice.finished and bob.finished


def test_a_restart_goes_on_with_what_it_has_done():
    pair = ScriptedPair(rounds=200_000)
    pair.run(until_s=1000.0)
    alice = pair.nodes["alice"]
    again = Memory.from_json(alice.memory.to_json())
    assert again == alice.memory
    restarted = Autonomy("alice", GRAPH, again)
    seen = Observation(now_s=1001.0, acquisition=Acquisition.ABSENT)
    assert isinstance(restarted.step(seen)[0], StartAcquisition)
    late = Autonomy("alice", GRAPH, again)
    assert set(late.due(1000.0 + 1800.0)) == {"frequency"}


def test_every_order_of_events_ends_in_the_same_place():
    """All interleavings of both nodes' looks, with up to two failures: no deadlock, no broken rule.

    States reached twice by the same history are followed once; what a node may do at all is asserted in
    `ScriptedNode`.
    """
    graph = CalibrationGraph((GRAPH["frequency"], _joint(GRAPH["phases"])))
    start = ScriptedPair(graph=graph)
    seen, todo, ends = set(), [(start, 2)], set()
    while todo:
        pair, failures = todo.pop()
        mark = _mark(pair, failures)
        if mark in seen:
            continue
        seen.add(mark)
        if all(node.history[-1:] == ["start"] for node in pair.nodes.values()):
            ends.add(tuple(tuple(node.history) for node in pair.nodes.values()))
            continue
        successors = _successors(pair, failures)
        assert any(_mark(*successor) != mark for successor in successors), "deadlock"
        todo += successors
    assert len(seen) > 400
    for histories in ends:
        for history in histories:
            assert history[0] == "hold" and history[-2:] == ("release", "start")
            assert {"frequency", "phases"} <= set(history)
        joint = [history.count("phases") for history in histories]
        assert joint[0] == joint[1], "a joint calibration without the other node"
    assert len(ends) >= 3  # no failure, one of the frequency at either node, one of the phases


def _joint(calibration):
    return type(calibration)(
        name="phases", file="p.py", joint=True, max_age_s=3600.0, depends_on=("frequency",)
    )


def _mark(pair, failures):
    parts = [failures]
    for node in pair.nodes.values():
        autonomy = {key: value for key, value in vars(node.autonomy).items() if key not in ("graph", "_own")}
        parts.append(repr((sorted(autonomy.items(), key=lambda item: item[0]), node.inbox, node.submitted)))
        parts.append(repr((node.outcomes, node.history, node.acquisition)))
    return tuple(parts)


def _successors(pair, failures):
    found = []
    for role, num_messages in itertools.product(OTHER, (0, 1, None)):
        following = copy.deepcopy(pair)
        following.step(role, num_messages)
        found.append((following, failures))
    for role in OTHER:
        name = pair.nodes[role].submitted
        both = all(node.submitted == name for node in pair.nodes.values())
        if name is None or (pair.nodes[role].graph[name].joint and not both and role not in pair.ends):
            continue
        for succeeded in (True, False)[: 1 + (failures > 0)]:
            following = copy.deepcopy(pair)
            if following.nodes[role].graph[name].joint:
                following.ends[OTHER[role]] = 0.0  # the other's part ends, too
            following.nodes[role].conclude(succeeded)
            found.append((following, failures - (not succeeded)))
    return found
