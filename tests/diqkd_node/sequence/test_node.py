"""The kernel of both nodes on the host engine: the order of a round, and bad days."""

from itertools import pairwise

import pytest
from artiq.coredevice.exceptions import RTIODestinationUnreachable, RTIOOverflow, RTIOUnderflow
from artiq.experiment import TerminationRequested

from diqkd_node.configuration.ion_lines import PUBLISHED_FIELD, line_frequency
from diqkd_node.sequence.conditions import (
    FAILED,
    ION_LOST,
    LOCK_LOST,
    MEASURED,
    NOT_ANNOUNCED,
    OVERFLOW,
    RUNNING,
    STOPPED,
    TOO_MANY_FAILURES,
    TYPE_MISSING,
    UNDERFLOW,
    UNREACHABLE,
)
from diqkd_node.sequence.node import SETTING_BITS
from diqkd_node.sequence.rounds import LOST
from diqkd_node.sequence.signal_line import NONE
from diqkd_postproc.protocol.roles import BRIGHT_OUTCOME, ROLES
from sim_devices.engines.entangler_core import CYCLE_LENGTH, TIMING, timing_word
from tests.support.scripted_node import WINDOW_ENDED, NotingCoordinator, make_node

US = 1000
MAP = line_frequency("map", PUBLISHED_FIELD)
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


PROTOCOLS = ("ordered", "late-type")
TOKEN = 1 << SETTING_BITS


def edges_of(apparatus, key: str) -> list[int]:
    """Rising edges of an output since the batch began."""
    return [time for time, level in since_batch(apparatus, key) if level]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("role", ROLES)
def test_order_of_a_round(role: str, protocol: str) -> None:
    """Sections 2.1 and 2.2 of docs/order.md, as the outputs of a node show them."""
    coordinator = NotingCoordinator([1])
    node, apparatus = make_node(role, coordinator, protocol)
    node.run_batches()
    (stored,) = coordinator.rounds
    assert (stored.received, stored.pattern_index, stored.loss) == (1, 0, MEASURED)
    assert stored.outcome == BRIGHT_OUTCOME[role]  # 60 counts are bright
    fastino = since_batch(apparatus, "fastino")
    out = max(time for time, _, volts in fastino[4:8])
    back = min(time for time, _, volts in fastino[8:12])
    map_start, map_end, basis_start = (time for time, _ in since_batch(apparatus, "ttl_674")[:3])
    assert stored.herald_mu < map_start < map_end <= out
    assert map_end - map_start == 5 * US
    readout = next(time for time, level in of(apparatus, "ttl_422_cool") if level and time > basis_start)
    (scramble_start, _), (scramble_end, _) = _pulses(since_batch(apparatus, "ttl_1033"))[-1]
    assert basis_start < readout < scramble_start < scramble_end <= back
    assert scramble_end - scramble_start == 100 * US
    settled = out + 30 * US
    if role == "alice":
        (token,) = edges_of(apparatus, "ttl_token_strobe")
        assert settled <= token and stored.edge_mu == token + apparatus.edge_delay_mu
        if protocol == "ordered":
            assert token < stored.edge_mu < basis_start
            set_time = node.analysis.set_mu
            assert basis_start == token + node.round.basis_delay_mu + set_time
        else:
            assert settled <= basis_start < readout + 250 * US < token
        assert stored.edge_mu + node.round.round_type_line.sample_delay_mu < scramble_start
    else:
        (strobe,) = edges_of(apparatus, "ttl_round_type_strobe")
        level = next(event for event in since_batch(apparatus, "ttl_round_type") if event[0] > settled)
        assert settled < stored.edge_mu
        assert stored.edge_mu + node.round.token_line.sample_delay_mu < level[0] < strobe < basis_start
    assert back - stored.herald_mu < (600 if protocol == "ordered" else 1000) * US


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bob_announces_nothing_without_a_token(protocol: str) -> None:
    """Without r' there is no round: nothing on the wires, no index used, the same draw again (B2)."""
    coordinator = NotingCoordinator([1, 2])
    node, apparatus = make_node("bob", coordinator, protocol)
    heralds: list[int] = []
    apparatus.on_run = lambda call: heralds.append(call) or 1
    apparatus.strobe = lambda key: len(heralds) > 40
    node.run_batches()
    assert len(heralds) == 42 and coordinator.ends == [(2, RUNNING)]
    assert len(edges_of(apparatus, "ttl_round_type_strobe")) == 2
    assert [stored.outcome for stored in coordinator.rounds] == [1, 1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_vain_herald_costs_bob_no_index_and_no_draw(protocol: str) -> None:
    """However many there are, before any of his rounds: he plays what he would have played (rule 4)."""
    draws = [1, 2 + TOKEN, TOKEN, 2]

    def played(num_vain: int) -> list[tuple]:
        """(setting, token, T on the line) of every round that was used up."""
        coordinator = NotingCoordinator(list(draws))
        node, apparatus = make_node("bob", coordinator, protocol, end_token=True)
        heralds: list[int] = []
        apparatus.on_run = lambda call: heralds.append(call) or 1
        apparatus.strobe = lambda key: len(heralds) % (num_vain + 1) == 0
        entries: list[tuple] = []
        play = node.round.play

        def noting_play(t_herald: int, pattern_index: int, setting: int, token: int) -> None:
            play(t_herald, pattern_index, setting, token)
            entries.append((setting, token, node.round.used))

        node.round.play = noting_play
        node.run_batches()
        assert coordinator.batches == [] and coordinator.ends == [(4, RUNNING)]
        used = [entry for entry in entries if entry[2]]
        # Every vain herald had the draw of the round that follows it.
        assert [entry[:2] for entry in entries] == [entry[:2] for entry in used for _ in range(num_vain + 1)]
        strobes = edges_of(apparatus, "ttl_round_type_strobe")
        levels = dict(since_batch(apparatus, "ttl_round_type"))
        sent = [levels[max(time for time in levels if time <= strobe)] for strobe in strobes]
        assert [stored.loss for stored in coordinator.rounds] == [MEASURED] * 4
        return [(*entry[:2], sent[2 * i], sent[2 * i + 1]) for i, entry in enumerate(used)]

    alone = played(0)
    assert [(setting, token) for setting, token, _, _ in alone] == [
        (draw % TOKEN, draw // TOKEN) for draw in draws
    ]
    assert all((int(setting < 2), token) == (sent, end) for setting, token, sent, end in alone)
    assert played(300) == alone


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("role", ROLES)
def test_the_level_that_came_is_what_is_stored(role: str, protocol: str) -> None:
    coordinator = NotingCoordinator([2] * 2 if role == "bob" else [1] * 2)
    node, apparatus = make_node(role, coordinator, protocol)
    heralds: list[int] = []

    def on_run(call: int) -> int:
        apparatus.levels |= {"ttl_token": call, "ttl_round_type": call, "ttl_setting": call}
        return 1

    apparatus.on_run = on_run
    node.run_batches()
    assert [stored.received for stored in coordinator.rounds] == [0, 1]
    if role == "bob" and protocol == "late-type":
        assert [stored.received_setting for stored in coordinator.rounds] == [0, 1]
    else:
        assert [stored.received_setting for stored in coordinator.rounds] == [NONE, NONE]
    del heralds


@pytest.mark.parametrize("delay_us", [0, 1, 20, 49])
def test_alices_pulse_does_not_tell_when_the_type_came(delay_us: int) -> None:
    """The attack of docs/order.md, section 5: her device would read T from the time of its own pulse."""
    starts = set()
    for delay in (0, delay_us):
        coordinator = NotingCoordinator([1 | TOKEN])
        node, apparatus = make_node("alice", coordinator)
        apparatus.edge_delay_mu = delay * US
        node.run_batches()
        (stored,) = coordinator.rounds
        assert stored.received == 1
        starts.add(_pulses(since_batch(apparatus, "ttl_674"))[1][0][0] - stored.herald_mu)
    assert len(starts) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_without_a_type_alice_leaves_the_batch(protocol: str) -> None:
    """Her index is used up; `ordered` has measured nothing, `late-type` keeps what was measured before."""
    coordinator = NotingCoordinator([0, 1, 1])
    node, apparatus = make_node("alice", coordinator, protocol)
    heralds: list[int] = []
    apparatus.on_run = lambda call: heralds.append(call) or 1
    apparatus.strobe = lambda key: len(heralds) < 2
    node.run_batches()
    assert [stored.received for stored in coordinator.rounds] == [1, NONE]
    last = coordinator.rounds[-1]
    if protocol == "ordered":
        assert (last.outcome, last.loss) == (LOST, NOT_ANNOUNCED)
        assert len(_pulses(since_batch(apparatus, "ttl_674"))) == 3
    else:
        assert (last.outcome, last.loss) == (BRIGHT_OUTCOME["alice"], MEASURED)
    assert coordinator.ends == [(2, TYPE_MISSING)]
    assert_at_rest(apparatus)


def test_a_type_after_its_window_did_not_come() -> None:
    coordinator = NotingCoordinator([0, 1])
    node, apparatus = make_node("alice", coordinator)
    apparatus.edge_delay_mu = int(node.round.type_window_mu)
    node.run_batches()
    assert [(stored.received, stored.edge_mu) for stored in coordinator.rounds] == [(NONE, -1)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tokens_leave_as_they_were_drawn(protocol: str) -> None:
    coordinator = NotingCoordinator([TOKEN, 0, 1, 1 | TOKEN])
    node, apparatus = make_node("alice", coordinator, protocol)
    node.run_batches()
    level, levels = 0, []
    events = sorted(
        (time, key, value)
        for key in ("ttl_token", "ttl_token_strobe")
        for time, value in since_batch(apparatus, key)
    )
    for _, key, value in events:
        if key == "ttl_token":
            level = value
        elif value:
            levels.append(level)
    assert levels == [1, 0, 1, 1] or levels == [1, 0, 0, 1]
    assert levels == [1, 0, 0, 1]


def test_alice_names_her_basis_in_key_rounds_only() -> None:
    coordinator = NotingCoordinator([0, 1])
    node, apparatus = make_node("alice", coordinator, "late-type")
    apparatus.levels["ttl_round_type"] = 0
    node.run_batches()
    assert len(edges_of(apparatus, "ttl_setting_strobe")) == 2
    assert since_batch(apparatus, "ttl_setting")[-1][1] == 1
    node, apparatus = make_node("alice", NotingCoordinator([0, 1]), "late-type")
    node.run_batches()
    assert edges_of(apparatus, "ttl_setting_strobe") == []


@pytest.mark.parametrize("came", [0, 1, NONE])
def test_bob_measures_a_key_round_in_the_basis_that_was_named(came: int) -> None:
    coordinator = NotingCoordinator([2])
    node, apparatus = make_node("bob", coordinator, "late-type")
    apparatus.levels["ttl_setting"] = came
    apparatus.strobe = lambda key: key == "ttl_token_strobe" or came != NONE
    node.run_batches()
    (stored,) = coordinator.rounds
    assert (stored.received_setting, stored.loss) == (came, MEASURED)
    frequency = of(apparatus, "dds_674")[-1][1]
    shelved = pytest.approx(node.configuration.analysis.frequency_of("shelve"), abs=1.0)
    assert (frequency == shelved) == (came != 1)
    durations = [end - start for (start, _), (end, _) in _pulses(since_batch(apparatus, "ttl_674"))]
    assert durations == [5000, 2500 if came == 1 else 5000]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_end_token(protocol: str) -> None:
    """Bob sends it once he has measured; Alice reconnects after it, or after its window."""
    bob = NotingCoordinator([1 | TOKEN])
    node, apparatus = make_node("bob", bob, protocol, end_token=True)
    node.run_batches()
    first, second = edges_of(apparatus, "ttl_round_type_strobe")
    readout_end = [
        off for on, off in _pulses(since_batch(apparatus, "ttl_422_cool")) if off[0] - on[0] == 250 * US
    ]
    assert first < readout_end[-1][0] < second
    for answered in (True, False):
        alice = NotingCoordinator([1])
        node, apparatus = make_node("alice", alice, protocol, end_token=True)
        gates: list[str] = []
        apparatus.strobe = lambda key, gates=gates, answered=answered: (
            (gates.append(key) or len(gates) == 1) or answered
        )
        node.run_batches()
        (stored,) = alice.rounds
        assert stored.received_end == (1 if answered else NONE) and stored.loss == MEASURED


def test_key_rounds_override_alice() -> None:
    """T' = 0 makes her play the shelving pulse of x = 0."""
    coordinator = NotingCoordinator([1, 1])
    node, apparatus = make_node("alice", coordinator)
    apparatus.levels["ttl_round_type"] = 0
    node.run_batches()
    assert [stored.received for stored in coordinator.rounds] == [0, 0]
    frequencies = [event[1] for event in of(apparatus, "dds_674")]
    shelve = node.configuration.analysis.frequency_of("shelve")
    assert frequencies == pytest.approx([MAP, shelve] * 2, abs=1.0)


def test_bob_plays_his_settings() -> None:
    coordinator = NotingCoordinator([0, 1, 2])
    node, apparatus = make_node("bob", coordinator, analysis={"pattern_phase_turns": (0.1, 0.2, 0.3, 0.4)})
    node.run_batches()
    assert [stored.pattern_index for stored in coordinator.rounds] == [0, 1, 2]
    sets = of(apparatus, "dds_674")
    shelve = node.configuration.analysis.frequency_of("shelve")
    assert [event[1] for event in sets] == pytest.approx([MAP, 108e6, MAP, 108e6, MAP, shelve], abs=1.0)
    assert [event[2] for event in sets[1:4:2]] == pytest.approx([0.1, 0.7], abs=1e-4)
    heralds = [stored.herald_mu for stored in coordinator.rounds for _ in range(2)]
    assert [event[4] for event in sets] == heralds
    durations = [end - start for (start, _), (end, _) in _pulses(since_batch(apparatus, "ttl_674"))]
    assert durations == [5000, 1250, 5000, 1250, 5000, 5000]


def _pulses(events: list[tuple]) -> list[tuple]:
    """(on, off) of every pulse that has ended."""
    return [(on, off) for on, off in pairwise(events) if on[1] == 1 and off[1] == 0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("role", ROLES)
def test_the_time_of_a_round_does_not_tell_its_setting(role: str, protocol: str) -> None:
    """Of settings between which the other side cannot tell from the type: all of Alice's, Bob's two tests."""
    coordinator = NotingCoordinator([0, 1, TOKEN, 1 | TOKEN] if role == "alice" else [0, 1])
    node, apparatus = make_node(role, coordinator, protocol)
    node.run_batches()
    # Four electrodes out and back in every round, the last one back before the node rests.
    moves = since_batch(apparatus, "fastino")[4:]
    back = [time for time, _, volts in moves if volts == 0.0][::4]
    durations = {end - stored.herald_mu for stored, end in zip(coordinator.rounds, back, strict=True)}
    assert len(durations) == 1


@pytest.mark.parametrize("role", ROLES)
def test_dark_ion(role: str) -> None:
    coordinator = NotingCoordinator([0, 0])
    node, apparatus = make_node(role, coordinator)
    apparatus.counts = lambda start, stop: 2 if stop - start == 250 * US else 60
    node.run_batches()
    assert [stored.outcome for stored in coordinator.rounds] == [1 - BRIGHT_OUTCOME[role]] * 2


@pytest.mark.parametrize("role", ROLES)
def test_chunks_and_batches(role: str) -> None:
    coordinator = NotingCoordinator([0] * 25, [0] * 7)
    node, apparatus = make_node(role, coordinator, batches={"chunk_rounds": 10})
    node.run_batches()
    assert len(coordinator.rounds) == 32
    assert coordinator.ends == [(25, RUNNING), (7, RUNNING)]
    times = [stored.herald_mu for stored in coordinator.rounds]
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
    coordinator.begin_batch = lambda: enabled.append(entangler.gateware.ready) or begin_batch()
    coordinator.on_check = lambda done, condition: enabled.append(entangler.gateware.ready)
    node.run_batches()
    assert enabled == [False, False, False]
    assert not entangler.gateware.ready
    assert len(coordinator.rounds) == 2


def test_an_output_without_a_pulse_never_starts() -> None:
    """A start at the time of the stop goes first in the core, and the output stays on."""
    node, _ = make_node("bob", NotingCoordinator())
    node.setup()
    registers = node.attempts.entangler.gateware.registers
    start = registers[TIMING + 3] & 0xFFFF
    assert start > registers[CYCLE_LENGTH]
    assert registers[TIMING] == timing_word(TIMING, 0, 500)


def test_the_ion_is_cooled_while_the_host_is_asked() -> None:
    coordinator = NotingCoordinator([0, 0])
    node, apparatus = make_node("bob", coordinator)
    levels = []
    coordinator.on_check = lambda done, condition: levels.append(
        [of(apparatus, key)[-1][1] for key in ("ttl_422_cool", "ttl_1092")]
    )
    apparatus.on_run = lambda call: WINDOW_ENDED if call < 250 else 1
    node.run_batches()
    assert len(levels) > 1
    assert levels[1:] == [[1, 1]] * (len(levels) - 1)


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
    assert [stored.pattern_index for stored in coordinator.rounds] == [1, 3]
    pulses = _pulses(of(apparatus, "ttl_422_ps"))
    assert len(pulses) == 31
    for t_herald in (stored.herald_mu for stored in coordinator.rounds):
        last = max(start for (start, _), _ in pulses if start < t_herald)
        assert t_herald - last < 40 * US
    assert_at_rest(apparatus)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bobs_underflow_before_he_announces_is_no_round(protocol: str) -> None:
    """In the mapping pulse, before anything is on the wires: the same draw is used for the next herald."""
    coordinator = NotingCoordinator([0, 2, 1])
    node, apparatus = make_node("bob", coordinator, protocol)
    apparatus.on_dds = _underflow_at(2)
    node.run_batches()
    assert [stored.loss for stored in coordinator.rounds] == [MEASURED] * 3
    assert len(edges_of(apparatus, "ttl_round_type_strobe")) == 3
    assert coordinator.ends == [(3, RUNNING)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bobs_underflow_after_he_announced_is_a_lost_round(protocol: str) -> None:
    coordinator = NotingCoordinator([0, 1, 1])
    node, apparatus = make_node("bob", coordinator, protocol)
    apparatus.on_dds = _underflow_at(3)
    node.run_batches()
    assert [(stored.outcome, stored.received, stored.loss) for stored in coordinator.rounds] == [
        (1, 1, MEASURED),
        (LOST, 1, UNDERFLOW),
        (1, 1, MEASURED),
    ]
    assert coordinator.ends == [(3, RUNNING)]
    assert_at_rest(apparatus)


def test_alices_underflow_before_her_token_is_no_round() -> None:
    coordinator = NotingCoordinator([0, 1, 1])
    node, apparatus = make_node("alice", coordinator)
    apparatus.on_dds = _underflow_at(2)
    node.run_batches()
    assert [stored.outcome for stored in coordinator.rounds] == [0, 0, 0]
    assert coordinator.ends == [(3, RUNNING)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_alices_underflow_in_a_used_round_leaves_her_without_type(protocol: str) -> None:
    """In the basis pulse: `ordered` has her type by then, but whatever ends a round leaves none (rule 2)."""
    coordinator = NotingCoordinator([0, 1, 1])
    node, apparatus = make_node("alice", coordinator, protocol)
    apparatus.on_dds = _underflow_at(3)
    node.run_batches()
    assert [(stored.received, stored.loss) for stored in coordinator.rounds] == [
        (1, MEASURED),
        (NONE, UNDERFLOW),
    ]
    assert coordinator.ends == [(2, TYPE_MISSING)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_fails_after_the_readout_leaves_alice_without_type(protocol: str) -> None:
    """In `ordered` without outcome, too: she may have measured for a type that is then not in the columns."""
    coordinator = NotingCoordinator([0, 1, 1])
    node, apparatus = make_node("alice", coordinator, protocol)
    calls: list[int] = []

    def lock(time: int) -> int:
        calls.append(time)
        if len(calls) == 3:  # the first is that of the look before the batch
            raise RTIOOverflow("RTIO input overflow on channel {0}", (0, 0, 0))
        return 1

    apparatus.lock = lock
    node.run_batches()
    second = coordinator.rounds[1]
    assert (second.received, second.outcome >= 0) == (NONE, protocol == "late-type")
    assert second.loss == (OVERFLOW if protocol == "ordered" else MEASURED)
    assert coordinator.ends == [(2, TYPE_MISSING)]


@pytest.mark.parametrize("role", ROLES)
def test_a_round_is_handed_over_once_if_the_host_fails_over_it(role: str) -> None:
    """It is the next index that would get its outcome."""
    coordinator = NotingCoordinator([0] * 20)
    node, _ = make_node(role, coordinator, batches={"chunk_rounds": 4})
    send, sent = node.send_chunk, []

    def send_chunk() -> None:
        sent.append(node.chunk.count)
        if len(sent) == 2:
            raise OSError("link down")
        send()

    node.send_chunk = send_chunk
    with pytest.raises(OSError, match="link down"):
        node.run_batches()
    assert sent == [4, 4, 4] and coordinator.abandoned == [8]
    assert len(coordinator.rounds) == 8


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("role", ROLES)
def test_too_many_edges_end_the_round_and_not_the_run(role: str, protocol: str) -> None:
    coordinator = NotingCoordinator([0] * 4, [0] * 2)
    node, apparatus = make_node(role, coordinator, protocol)
    heralds: list[int] = []
    apparatus.on_run = lambda call: heralds.append(call) or 1
    flooded = []

    def strobe(key: str) -> bool:
        if len(heralds) == 2 and not flooded:
            flooded.append(key)
            raise RTIOOverflow("RTIO input overflow on channel {0}", (0, 0, 0))
        return True

    apparatus.strobe = strobe
    node.run_batches()
    if role == "bob":  # before he announced: no round at all
        assert coordinator.ends == [(4, RUNNING), (2, RUNNING)]
        assert [stored.loss for stored in coordinator.rounds] == [MEASURED] * 6
    else:
        assert coordinator.ends == [(2, TYPE_MISSING), (2, RUNNING)]
        second = coordinator.rounds[1]
        assert second.received == NONE
        assert second.loss == (OVERFLOW if protocol == "ordered" else MEASURED)
    assert_at_rest(apparatus)


def _failure_at(number: int, failure: Exception):
    def hook(call: int) -> None:
        if call == number:
            raise failure

    return hook


def _underflow_at(number: int):
    return _failure_at(number, RTIOUnderflow("RTIO underflow at {0} mu", (0, 0, 0)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("role", ROLES)
def test_too_many_edges_of_the_handshake_use_no_round(role: str, protocol: str) -> None:
    """`ready` and `trigger` come before the herald: the draw is played after the next one, once."""
    coordinator = NotingCoordinator([1] * 4)
    node, apparatus = make_node(role, coordinator, protocol)
    calls: list[int] = []

    def handshake() -> bool:
        calls.append(len(calls))
        if len(calls) in (2, 3):
            raise RTIOOverflow("RTIO input overflow on channel {0}", (0, 0, 0))
        return True

    apparatus.handshake = handshake
    node.run_batches()
    assert [stored.loss for stored in coordinator.rounds] == [MEASURED] * 4
    assert len(calls) == 6 and coordinator.ends == [(4, RUNNING)]
    key = "ttl_token_strobe" if role == "alice" else "ttl_round_type_strobe"
    assert len(edges_of(apparatus, key)) == 4
    assert_at_rest(apparatus)


def test_too_many_edges_of_the_setting_cost_a_key_round() -> None:
    """Bob has announced T by then: the index is used up, and he has no outcome."""
    coordinator = NotingCoordinator([2] * 3)
    node, apparatus = make_node("bob", coordinator, "late-type")
    settings: list[str] = []

    def strobe(key: str) -> bool:
        if key == "ttl_setting_strobe":
            settings.append(key)
            if len(settings) == 2:
                raise RTIOOverflow("RTIO input overflow on channel {0}", (0, 0, 0))
        return True

    apparatus.strobe = strobe
    node.run_batches()
    assert [stored.loss for stored in coordinator.rounds] == [MEASURED, OVERFLOW, MEASURED]
    assert len(edges_of(apparatus, "ttl_round_type_strobe")) == 3
    assert coordinator.ends == [(3, RUNNING)]


def test_underflow_before_the_herald_is_retried() -> None:
    coordinator = NotingCoordinator([0, 0])
    node, apparatus = make_node("bob", coordinator)

    def on_run(call: int) -> int:
        if call == 0:
            raise RTIOUnderflow("RTIO underflow at {0} mu", (0, 0, 0))
        return 1

    apparatus.on_run = on_run
    node.run_batches()
    assert [stored.outcome for stored in coordinator.rounds] == [1, 1]


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
    assert coordinator.ends == [(0, TOO_MANY_FAILURES)]
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
    assert coordinator.ends == [(0, TOO_MANY_FAILURES)]
    assert_at_rest(apparatus)


@pytest.mark.parametrize("wrong_count", [1, 144])
@pytest.mark.parametrize("role", ROLES)
def test_lost_ion_or_two_of_them(role: str, wrong_count: int) -> None:
    coordinator = NotingCoordinator([0] * 50)
    node, apparatus = make_node(role, coordinator)
    lost = []

    def on_run(call: int) -> int:
        if call == 5:
            lost.append(True)
        return WINDOW_ENDED if lost else 1

    apparatus.on_run = on_run
    apparatus.counts = lambda start, stop: wrong_count if lost else 60
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
        if done:
            raise OSError("link down")

    coordinator.on_check = fail
    with pytest.raises(OSError, match="link down"):
        node.run_batches()
    (_, (done, _)) = coordinator.checks
    assert len(coordinator.rounds) == done > 0
    assert coordinator.abandoned == [done] and coordinator.ends == []
    assert_at_rest(apparatus)


FAILURES = {
    RTIOUnderflow("RTIO underflow at {0} mu", (0, 0, 0)): UNDERFLOW,
    RTIOOverflow("RTIO input overflow on channel {0}", (0, 0, 0)): OVERFLOW,
    RTIODestinationUnreachable("RTIO destination unreachable", (0, 0, 0)): UNREACHABLE,
    ValueError("SPI"): FAILED,
    ZeroDivisionError(): FAILED,
    OSError("device gone"): FAILED,
}


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("used", [True, False])
def test_any_exception_ends_the_round_and_not_the_run(used: bool, protocol: str, failure: Exception) -> None:
    """At Bob, with its reason; before his announcement there was no round."""
    coordinator = NotingCoordinator([0, 1, 1])
    node, apparatus = make_node("bob", coordinator, protocol)
    apparatus.on_dds = _failure_at(3 if used else 2, failure)
    node.run_batches()
    second = FAILURES[failure] if used else MEASURED
    assert [stored.loss for stored in coordinator.rounds] == [MEASURED, second, MEASURED]
    assert [stored.outcome == LOST for stored in coordinator.rounds] == [False, used, False]
    assert coordinator.ends == [(3, RUNNING)] and coordinator.abandoned == []
    assert_at_rest(apparatus)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("used", [True, False])
def test_termination_within_a_round_costs_its_outcome_only(role: str, used: bool) -> None:
    """An index that is used up is recorded, whatever ends the kernel; one that is not is no round."""
    coordinator = NotingCoordinator([0, 1, 1])
    node, apparatus = make_node(role, coordinator)
    apparatus.on_dds = _failure_at(3 if used else 2, TerminationRequested())
    with pytest.raises(TerminationRequested):
        node.run_batches()
    assert [stored.loss for stored in coordinator.rounds] == [MEASURED] + [STOPPED] * used
    if role == "alice" and used:
        assert coordinator.rounds[1].received == NONE  # whatever ends a round leaves none (rule 2)
    assert coordinator.abandoned == [1 + used]
    assert_at_rest(apparatus)


@pytest.mark.parametrize("role", ROLES)
def test_an_exception_that_does_not_cease_ends_the_run_as_itself(role: str) -> None:
    coordinator = NotingCoordinator([0] * 10)
    node, apparatus = make_node(role, coordinator, batches={"max_underflows": 3})
    calls: list[int] = []

    def on_run(call: int) -> int:
        calls.append(call)
        raise OSError("device gone")

    apparatus.on_run = on_run
    with pytest.raises(OSError, match="device gone"):
        node.run_batches()
    assert len(calls) == 4 and coordinator.rounds == [] and coordinator.abandoned == [0]
    assert_at_rest(apparatus)


@pytest.mark.parametrize("role", ROLES)
def test_checks_are_rare_and_regular(role: str) -> None:
    coordinator = NotingCoordinator([0] * 1000)
    node, _ = make_node(role, coordinator)
    node.run_batches()
    duration = coordinator.rounds[-1].herald_mu - coordinator.rounds[0].herald_mu
    assert duration / 0.21e9 - 2 < len(coordinator.checks) - 1 < duration / 0.2e9
