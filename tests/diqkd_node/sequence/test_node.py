"""The kernel of both nodes on the host engine: the order of a round, and bad days."""

from itertools import pairwise

import pytest
from artiq.coredevice.exceptions import RTIOUnderflow

from diqkd_node.sequence.conditions import (
    ION_LOST,
    LOCK_LOST,
    RUNNING,
    TOO_MANY_UNDERFLOWS,
    TYPE_MISSING,
    UNDERFLOW_BEFORE_TYPE,
)
from diqkd_node.sequence.node import LOST
from diqkd_postproc.protocol.roles import BRIGHT_OUTCOME, ROLES
from tests.support.scripted_node import WINDOW_ENDED, NotingCoordinator, make_node

US = 1000
ELECTRODES = (15, 16, 23, 24)


def of(apparatus, key: str) -> list[tuple]:
    return [event[1:] for event in apparatus.events if event[0] == key]


def since_batch(apparatus, key: str) -> list[tuple]:
    """Events of a device after the ion was first moved into the focus."""
    start = next(time for time, _, volts in of(apparatus, "fastino") if volts == 0.0)
    return [event for event in of(apparatus, key) if event[0] >= start]


def assert_at_rest(apparatus) -> None:
    """Link disconnected, cooling beams on, the others off."""
    positions = {channel: volts for _, channel, volts in of(apparatus, "fastino")}
    assert positions == pytest.approx(dict.fromkeys(ELECTRODES, 1.0), abs=1e-3)
    for key, level in (("ttl_422_cool", 1), ("ttl_1092", 1), ("ttl_1033", 0), ("ttl_674", 0)):
        assert of(apparatus, key)[-1][1] == level


@pytest.mark.parametrize("role", ROLES)
def test_order_of_a_round(role: str) -> None:
    coordinator = NotingCoordinator([1])
    node, apparatus = make_node(role, coordinator)
    node.run_batches()
    ((outcome, round_type, pattern_index, t_herald),) = coordinator.rounds
    assert (round_type, pattern_index) == (1, 0)
    assert outcome == BRIGHT_OUTCOME[role]  # 60 counts are bright
    fastino = since_batch(apparatus, "fastino")
    out = max(time for time, _, volts in fastino[4:8])
    back = min(time for time, _, volts in fastino[8:12])
    pulses = since_batch(apparatus, "ttl_674")
    map_start, map_end, basis_start = (time for time, _ in pulses[:3])
    assert t_herald < map_start < map_end <= out
    assert map_end - map_start == 5 * US
    assert basis_start - out >= 30 * US
    (scramble_start, _), (scramble_end, _) = _pulses(since_batch(apparatus, "ttl_1033"))[-1]
    assert basis_start < scramble_start
    assert scramble_end - scramble_start == 100 * US
    assert scramble_end <= back
    if role == "bob":
        strobe = since_batch(apparatus, "ttl_round_type_strobe")[-2][0]
        level = since_batch(apparatus, "ttl_round_type")[-1]
        assert level[0] - out >= 30 * US
        assert out + 30 * US < strobe < basis_start
        assert level[0] < strobe
    assert back - t_herald < 500 * US


def test_key_rounds_override_alice() -> None:
    """T = 0 makes her play the shelving pulse of x = 0."""
    coordinator = NotingCoordinator([1, 1])
    node, apparatus = make_node("alice", coordinator)
    apparatus.round_type = 0
    node.run_batches()
    assert [round_type for _, round_type, _, _ in coordinator.rounds] == [0, 0]
    frequencies = [event[1] for event in of(apparatus, "dds_674")]
    assert frequencies == pytest.approx([94.0e6, 71.6e6] * 2, abs=1.0)


def test_bob_plays_his_settings() -> None:
    coordinator = NotingCoordinator([0, 1, 2])
    node, apparatus = make_node("bob", coordinator, analysis={"pattern_phase_turns": (0.1, 0.2, 0.3, 0.4)})
    node.run_batches()
    assert [round_type for _, round_type, _, _ in coordinator.rounds] == [1, 1, 0]
    assert [index for _, _, index, _ in coordinator.rounds] == [0, 1, 2]
    sets = of(apparatus, "dds_674")
    assert [event[1] for event in sets] == pytest.approx([94e6, 108e6, 94e6, 108e6, 94e6, 71.6e6], abs=1.0)
    assert [event[2] for event in sets[1:4:2]] == pytest.approx([0.1, 0.7], abs=1e-4)
    heralds = [timestamp for _, _, _, timestamp in coordinator.rounds for _ in range(2)]
    assert [event[4] for event in sets] == heralds
    durations = [end - start for (start, _), (end, _) in _pulses(since_batch(apparatus, "ttl_674"))]
    assert durations == [5000, 1250, 5000, 1250, 5000, 5000]


def _pulses(events: list[tuple]) -> list[tuple]:
    """(on, off) of every pulse that has ended."""
    return [(on, off) for on, off in pairwise(events) if on[1] == 1 and off[1] == 0]


@pytest.mark.parametrize("role", ROLES)
def test_the_time_of_a_round_does_not_tell_its_setting(role: str) -> None:
    settings = [0, 1] if role == "alice" else [0, 1, 2]
    coordinator = NotingCoordinator(settings)
    node, apparatus = make_node(role, coordinator)
    node.run_batches()
    # Four electrodes out and back in every round, the last one back before the node rests.
    moves = since_batch(apparatus, "fastino")[4:]
    back = [time for time, _, volts in moves if volts == 0.0][::4]
    durations = {end - rounds[3] for rounds, end in zip(coordinator.rounds, back, strict=True)}
    assert len(durations) == 1


@pytest.mark.parametrize("role", ROLES)
def test_dark_ion(role: str) -> None:
    coordinator = NotingCoordinator([0, 0])
    node, apparatus = make_node(role, coordinator)
    apparatus.counts = lambda start, stop: 2 if stop - start == 250 * US else 60
    node.run_batches()
    assert [outcome for outcome, *_ in coordinator.rounds] == [1 - BRIGHT_OUTCOME[role]] * 2


@pytest.mark.parametrize("role", ROLES)
def test_chunks_and_batches(role: str) -> None:
    coordinator = NotingCoordinator([0] * 25, [0] * 7)
    node, apparatus = make_node(role, coordinator, batches={"chunk_rounds": 10})
    node.run_batches()
    assert len(coordinator.rounds) == 32
    assert coordinator.ends == [(25, RUNNING), (7, RUNNING)]
    times = [timestamp for *_, timestamp in coordinator.rounds]
    assert times == sorted(set(times))
    assert_at_rest(apparatus)


@pytest.mark.parametrize("role", ROLES)
def test_a_node_at_rest_leaves_the_laser_to_the_other_one(role: str) -> None:
    """The master's core lets the slave's TTL through to the picosecond laser only while it is disabled."""
    coordinator = NotingCoordinator([0, 0])
    node, _ = make_node(role, coordinator)
    entangler = node.attempts.entangler
    enabled = []
    begin_batch = coordinator.begin_batch
    coordinator.begin_batch = lambda: enabled.append(entangler.enable) or begin_batch()
    coordinator.on_check = lambda done, condition: enabled.append(entangler.enable)
    node.run_batches()
    assert enabled == [False, False]
    assert not entangler.enable
    assert len(coordinator.rounds) == 2


def test_an_output_without_a_pulse_never_starts() -> None:
    """A start at the time of the stop goes first in the core, and the output stays on."""
    node, _ = make_node("bob", NotingCoordinator())
    node.setup()
    start, _ = node.attempts.entangler.timing_mu[0b001000 + 3]
    assert start > US  # the cycle
    assert node.attempts.entangler.timing_mu[0b001000] == (0, 500)


def test_the_ion_is_cooled_while_the_host_is_asked() -> None:
    coordinator = NotingCoordinator([0, 0])
    node, apparatus = make_node("bob", coordinator)
    levels = []
    coordinator.on_check = lambda done, condition: levels.append(
        [of(apparatus, key)[-1][1] for key in ("ttl_422_cool", "ttl_1092")]
    )
    apparatus.on_run = lambda call: WINDOW_ENDED if call < 250 else 1
    node.run_batches()
    assert levels
    assert levels == [[1, 1]] * len(levels)


@pytest.mark.parametrize("role", ROLES)
def test_the_kernel_ends_when_the_node_is_at_rest(role: str) -> None:
    node, apparatus = make_node(role, NotingCoordinator([0, 1]))
    node.run_batches()
    assert node.core.timeline.cpu >= max(event[1] for event in apparatus.events)


def test_windows_without_herald_recool() -> None:
    coordinator = NotingCoordinator([0])
    node, apparatus = make_node("bob", coordinator)
    apparatus.on_run = lambda call: 1 if call == 12 else WINDOW_ENDED
    node.run_batches()
    cooling = [off[0] - on[0] for on, off in _pulses(since_batch(apparatus, "ttl_422_cool"))]
    assert cooling.count(300 * US) >= 13


@pytest.mark.parametrize("role", ROLES)
def test_attempts_without_the_entangler_core(role: str) -> None:
    coordinator = NotingCoordinator([0, 0])
    node, apparatus = make_node(role, coordinator, attempts={"source": "ttl"})
    # One photon and three photons are no herald; 0101 and 1100 are.
    apparatus.clicks = lambda attempt: {3: 0b0001, 5: 0b0111, 20: 0b0101, 30: 0b1100}.get(attempt, 0)
    node.run_batches()
    assert [index for _, _, index, _ in coordinator.rounds] == [1, 3]
    pulses = _pulses(of(apparatus, "ttl_422_ps"))
    assert len(pulses) == 31
    for *_, t_herald in coordinator.rounds:
        last = max(start for (start, _), _ in pulses if start < t_herald)
        assert t_herald - last < 40 * US
    assert_at_rest(apparatus)


def test_underflow_after_the_herald_loses_the_outcome_only() -> None:
    coordinator = NotingCoordinator([0, 2, 1])
    node, apparatus = make_node("bob", coordinator)
    apparatus.on_dds = _underflow_at(2)
    node.run_batches()
    assert [(outcome, round_type) for outcome, round_type, *_ in coordinator.rounds] == [
        (1, 1),
        (LOST, 0),
        (1, 1),
    ]
    assert coordinator.ends == [(3, RUNNING)]
    assert_at_rest(apparatus)


def test_underflow_before_the_type_is_known_ends_alices_batch() -> None:
    coordinator = NotingCoordinator([0, 1, 1])
    node, apparatus = make_node("alice", coordinator)
    apparatus.on_dds = _underflow_at(2)
    node.run_batches()
    assert len(coordinator.rounds) == 1
    assert coordinator.ends == [(1, UNDERFLOW_BEFORE_TYPE)]


def test_underflow_after_the_type_is_known_keeps_alices_round() -> None:
    coordinator = NotingCoordinator([0, 1, 1])
    node, apparatus = make_node("alice", coordinator)
    apparatus.on_dds = _underflow_at(3)
    node.run_batches()
    assert [round_[0] for round_ in coordinator.rounds] == [0, LOST, 0]
    assert coordinator.ends == [(3, RUNNING)]


def _underflow_at(number: int):
    def hook(call: int) -> None:
        if call == number:
            raise RTIOUnderflow("RTIO underflow at {0} mu", (0, 0, 0))

    return hook


def test_underflow_before_the_herald_is_retried() -> None:
    coordinator = NotingCoordinator([0, 0])
    node, apparatus = make_node("bob", coordinator)

    def on_run(call: int) -> int:
        if call == 0:
            raise RTIOUnderflow("RTIO underflow at {0} mu", (0, 0, 0))
        return 1

    apparatus.on_run = on_run
    node.run_batches()
    assert [outcome for outcome, *_ in coordinator.rounds] == [1, 1]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("num_underflows", [1, 3])
@pytest.mark.parametrize("step", ["begin_rounds", "present"])
def test_underflow_between_rounds_is_retried(role: str, num_underflows: int, step: str) -> None:
    """On the way to the first round of a batch, and while the node looks after laser and ion."""
    coordinator = NotingCoordinator([0, 0], [0])
    node, apparatus = make_node(role, coordinator, batches={"max_underflows": 3})
    _underflow_first(apparatus, "begin" if step == "begin_rounds" else "look", num_underflows)
    node.run_batches()
    assert coordinator.ends == [(2, RUNNING), (1, RUNNING)]
    assert len(coordinator.rounds) == 3
    assert_at_rest(apparatus)


@pytest.mark.parametrize("role", ROLES)
def test_endless_underflows_before_the_first_round_end_the_batch(role: str) -> None:
    coordinator = NotingCoordinator([0, 0])
    node, apparatus = make_node(role, coordinator, batches={"max_underflows": 3})
    _underflow_first(apparatus, "begin", 4)
    node.run_batches()
    assert coordinator.ends == [(0, TOO_MANY_UNDERFLOWS)]
    assert_at_rest(apparatus)


def test_endless_underflows_while_looking_after_the_ion_are_raised() -> None:
    coordinator = NotingCoordinator([0, 0])
    node, apparatus = make_node("bob", coordinator, batches={"max_underflows": 3})
    _underflow_first(apparatus, "look", 4)
    with pytest.raises(RTIOUnderflow):
        node.run_batches()
    assert coordinator.ends == []
    assert_at_rest(apparatus)


def _underflow_first(apparatus, where: str, number: int) -> None:
    """The first `number` scramblings (to begin rounds), or looks at the ion, come too late."""
    left = [number]

    def fail() -> None:
        if left[0]:
            left[0] -= 1
            raise RTIOUnderflow("RTIO underflow at {0} mu", (0, 0, 0))

    if where == "look":

        def counts(start: int, stop: int) -> int:
            fail()
            return 60

        apparatus.counts = counts
        return
    apparatus.on_level = lambda key, level: fail() if key == "ttl_1033" and level else None


def test_endless_underflows_are_given_up() -> None:
    coordinator = NotingCoordinator([0, 0])
    node, apparatus = make_node("bob", coordinator, batches={"max_underflows": 3})

    def on_run(call: int) -> int:
        raise RTIOUnderflow("RTIO underflow at {0} mu", (0, 0, 0))

    apparatus.on_run = on_run
    node.run_batches()
    assert coordinator.ends == [(0, TOO_MANY_UNDERFLOWS)]
    assert_at_rest(apparatus)


def test_missing_round_type() -> None:
    coordinator = NotingCoordinator([0, 0, 0])
    node, apparatus = make_node("alice", coordinator)
    heralds = []
    apparatus.on_run = lambda call: heralds.append(call) or 1
    apparatus.strobe = lambda: len(heralds) < 2
    node.run_batches()
    assert len(coordinator.rounds) == 1
    assert coordinator.ends == [(1, TYPE_MISSING)]
    assert_at_rest(apparatus)


@pytest.mark.parametrize("role", ROLES)
def test_lost_ion(role: str) -> None:
    coordinator = NotingCoordinator([0] * 50)
    node, apparatus = make_node(role, coordinator)
    lost = []

    def on_run(call: int) -> int:
        if call == 5:
            lost.append(True)
        return WINDOW_ENDED if lost else 1

    apparatus.on_run = on_run
    apparatus.counts = lambda start, stop: 1 if lost else 60
    coordinator.recovers = lambda: len(coordinator.recoveries) < 4
    node.run_batches()
    assert coordinator.ends == [(5, ION_LOST)]
    assert coordinator.recoveries == [(True, False)] * 4
    assert len(coordinator.rounds) == 5
    assert_at_rest(apparatus)


@pytest.mark.parametrize("role", ROLES)
def test_lost_lock(role: str) -> None:
    coordinator = NotingCoordinator([0] * 50, [0] * 2)
    node, apparatus = make_node(role, coordinator)
    unlocked = []
    apparatus.on_run = lambda call: (unlocked.append(call) if call == 3 else None) or 1
    apparatus.lock = lambda time: 0 if unlocked else 1
    coordinator.on_check = lambda done, condition: done if condition == LOCK_LOST else None

    def recovers() -> bool:
        if len(coordinator.recoveries) == 3:
            unlocked.clear()
        return True

    coordinator.recovers = recovers
    node.run_batches()
    assert coordinator.ends == [(4, LOCK_LOST), (2, RUNNING)]
    assert coordinator.recoveries == [(False, True)] * 3
    assert len(coordinator.rounds) == 6


@pytest.mark.parametrize("role", ROLES)
def test_silent_partner_gets_looked_after(role: str) -> None:
    coordinator = NotingCoordinator([0] * 5)
    node, apparatus = make_node(role, coordinator)
    apparatus.handshake = lambda: False
    coordinator.on_check = lambda done, condition: 0 if len(coordinator.checks) == 3 else None
    node.run_batches()
    assert coordinator.ends == [(0, RUNNING)]
    assert_at_rest(apparatus)


@pytest.mark.parametrize("role", ROLES)
def test_failure_of_the_host_leaves_the_node_at_rest(role: str) -> None:
    coordinator = NotingCoordinator([0] * 500)
    node, apparatus = make_node(role, coordinator)

    def fail(done: int, condition: int) -> None:
        raise OSError("link down")

    coordinator.on_check = fail
    with pytest.raises(OSError, match="link down"):
        node.run_batches()
    assert_at_rest(apparatus)


@pytest.mark.parametrize("role", ROLES)
def test_failure_of_the_host_loses_no_round(role: str) -> None:
    """Rounds that have not filled a chunk are handed over before the exception goes on."""
    coordinator = NotingCoordinator([0] * 500)
    node, apparatus = make_node(role, coordinator, batches={"chunk_rounds": 1000})

    def fail(done: int, condition: int) -> None:
        raise OSError("link down")

    coordinator.on_check = fail
    with pytest.raises(OSError, match="link down"):
        node.run_batches()
    ((done, _),) = coordinator.checks
    assert len(coordinator.rounds) == done > 0
    assert coordinator.abandoned == [(done, False)] and coordinator.ends == []
    assert_at_rest(apparatus)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("known", [True, False])
def test_failure_within_a_round_costs_its_outcome_only(role: str, known: bool) -> None:
    """Before the type is known Bob can tell it, and Alice leaves a herald in doubt."""
    coordinator = NotingCoordinator([0, 1, 1])
    node, apparatus = make_node(role, coordinator)

    def fail(call: int) -> None:
        if call == (3 if known else 2):
            raise OSError("device gone")

    apparatus.on_dds = fail
    with pytest.raises(OSError, match="device gone"):
        node.run_batches()
    recorded = known or role == "bob"
    assert [outcome == LOST for outcome, *_ in coordinator.rounds] == [False] + [True] * recorded
    assert coordinator.abandoned == [(1 + recorded, not recorded)]
    assert_at_rest(apparatus)


@pytest.mark.parametrize("role", ROLES)
def test_checks_are_rare_and_regular(role: str) -> None:
    coordinator = NotingCoordinator([0] * 1000)
    node, _ = make_node(role, coordinator)
    node.run_batches()
    duration = coordinator.rounds[-1][3] - coordinator.rounds[0][3]
    assert duration / 0.21e9 - 2 < len(coordinator.checks) < duration / 0.2e9
