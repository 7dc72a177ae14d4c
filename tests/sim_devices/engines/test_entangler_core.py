"""Model of the entangler core: the gateware's figures, and the gateware itself where it is installed.

The figures come from measurements on entangler-core's own simulation. The tests marked `gateware` play random
scripts through the modules of entangler-core and through the model, and compare every input event and every
edge of the outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from sim_devices.engines.entangler_core import (
    CONFIG,
    COUNTER_PATTERNS,
    COUNTS,
    CYCLE_LENGTH,
    HERALDS,
    NUM_CYCLES,
    NUM_TRIGGERS,
    READY,
    RTIO_STROBE_DELAY,
    RUN,
    STATUS,
    SUCCESS,
    TIME_REMAINING,
    TIMED_OUT,
    TIMEOUT_REASON,
    TIMESTAMPS,
    TIMING,
    AttemptEdges,
    EntanglerCore,
    InputEdges,
    LinkedCores,
    Outcome,
    Run,
    counter_patterns_word,
    heralds_word,
    sequencer,
    timing_word,
)
from sim_devices.engines.entangler_core.detection import Detection

LENGTH = 121
PERIOD = LENGTH + 4
REFERENCE_NS = 600
GATE_NS = (24, 60)
PATTERNS = [0b0011, 0b0110, 0b1001, 0b1100]
MASTER, SLAVE, STANDALONE = 0b011, 0b001, 0b101
SETUP = 100
"""Cycle at which all registers are written."""


def core_with(config: int, length: int = LENGTH, patterns: list[int] | None = None) -> EntanglerCore:
    core = EntanglerCore()
    core.write(CONFIG, config, 0)
    core.write(CYCLE_LENGTH, length, 1)
    core.write(HERALDS, heralds_word(PATTERNS if patterns is None else patterns), 2)
    for gate in range(TIMING + 4, TIMING + 8):
        core.write(gate, timing_word(gate, *GATE_NS), gate)
    return core


def linked_pair(**settings: Any) -> LinkedCores:
    return LinkedCores(core_with(MASTER, **settings), core_with(SLAVE, **settings))


def herald(attempt: int, shift_ns: int = 0) -> InputEdges:
    """Clicks of detectors 0 and 1 in one attempt, in the middle of their gates but for a shift."""
    clicks = [(REFERENCE_NS + 40 + shift_ns, 0), (REFERENCE_NS + 45, 1)]
    return InputEdges(REFERENCE_NS, [AttemptEdges(attempt, clicks)])


NO_HERALD = InputEdges(REFERENCE_NS)


# One core.


@pytest.mark.parametrize("length", [20, 121, 125, 1023])
@pytest.mark.parametrize("num_attempts", [1, 2, 49])
def test_attempts_last_four_cycles_longer_than_programmed(length: int, num_attempts: int) -> None:
    edges = InputEdges(8, [AttemptEdges(num_attempts - 1, [(48, 0), (50, 1)])])
    outcome = core_with(STANDALONE, length).run(SETUP, 10**6, edges)
    assert outcome.success
    assert outcome.end - SETUP == num_attempts * (length + 4) + 2
    assert outcome.num_attempts == num_attempts
    starts = outcome.attempt_starts()
    assert starts[0] == SETUP + 5
    assert set((starts[1:] - starts[:-1]).tolist()) <= {length + 4}


def test_end_behind_the_lanes_of_an_rtio_core() -> None:
    """Timestamps of ARTIQ's RTIO core with eight lanes, simulated with the entangler core as a channel."""
    core = EntanglerCore(RTIO_STROBE_DELAY)
    core.write(CONFIG, STANDALONE, 304)
    core.write(CYCLE_LENGTH, 20, 305)
    outcome = core.run(320, 30)
    assert (outcome.num_attempts, outcome.end) == (2, 378)


def test_programmed_121_gives_one_microsecond() -> None:
    starts = core_with(STANDALONE).run(SETUP, 1000).attempt_starts()
    assert 8 * (starts[1] - starts[0]) == 1000


@pytest.mark.parametrize("duration", [1, 5, PERIOD - 1])
def test_short_window_plays_one_attempt_that_can_herald(duration: int) -> None:
    core = core_with(STANDALONE)
    outcome = core.run(SETUP, duration, herald(0))
    assert (outcome.success, outcome.reason, outcome.num_attempts) == (True, 1, 1)
    assert outcome.end - SETUP == PERIOD + 2
    assert core.read(STATUS, outcome.end) == SUCCESS | TIMED_OUT


def test_time_out_ends_with_the_attempt_under_way() -> None:
    outcome = core_with(STANDALONE).run(SETUP, 10 * PERIOD + 30, NO_HERALD)
    assert (outcome.success, outcome.reason) == (False, TIMEOUT_REASON)
    assert outcome.end - SETUP == 11 * PERIOD + 2


def test_status_tells_herald_and_time_out() -> None:
    core = core_with(STANDALONE)
    outcome = core.run(SETUP, 5000, herald(2))
    assert core.read(STATUS, outcome.end) == SUCCESS
    assert core.read(STATUS, outcome.end + 5000) == SUCCESS | TIMED_OUT
    start = outcome.end + 6000
    core.start(start, 5000, NO_HERALD)
    assert core.read(STATUS, start + 300) == READY
    assert core.read(STATUS, core.finish().end) == TIMED_OUT


def test_time_remaining_counts_on_after_the_run_in_14_bits() -> None:
    core = core_with(STANDALONE)
    outcome = core.run(SETUP, 62_500, herald(2))
    strobe = SETUP + 1
    for delay in (10, 1000, 50_000):
        event = outcome.end + delay
        # The register holds the duration from the cycle after the strobe on; a read takes a cycle as well.
        assert core.read(TIME_REMAINING, event) == 62_500 - (event + 2 - strobe - 1) & 0x3FFF
    assert core.read(TIME_REMAINING, SETUP + 100_000) == 0


def test_cycles_and_triggers_wrap_at_14_bits() -> None:
    core = core_with(STANDALONE)
    outcome = core.run(SETUP, 10**8, herald(16_390))
    assert outcome.num_attempts == 16_391
    assert core.read(NUM_CYCLES, outcome.end + 5) == core.read(NUM_TRIGGERS, outcome.end + 6) == 7


def test_triggers_are_attempts_with_a_reference() -> None:
    core = core_with(STANDALONE)
    edges = InputEdges(None, [AttemptEdges(1, [], [80]), AttemptEdges(3, [(600, 2)], [90, 300])])
    outcome = core.run(SETUP, 10 * PERIOD, edges)
    assert core.read(NUM_TRIGGERS, outcome.end + 5) == 2
    assert core.read(TIMESTAMPS + 4, outcome.end + 6) == 300


@pytest.mark.parametrize(("delay_ns", "seen"), [(24, False), (25, True), (61, True), (62, False)])
def test_gates_have_a_resolution_of_one_nanosecond(delay_ns: int, seen: bool) -> None:
    """The driver adds 1 to both times of a gate, whose limits are included."""
    core = core_with(STANDALONE, patterns=[0b0100])
    edges = InputEdges(REFERENCE_NS, [AttemptEdges(3, [(REFERENCE_NS + delay_ns, 2)])])
    outcome = core.run(SETUP, 10 * PERIOD, edges)
    assert outcome.success == seen
    assert core.read(COUNTS + 2, outcome.end + 5) == seen
    assert core.read(TIMESTAMPS + 2, outcome.end + 6) == (REFERENCE_NS + delay_ns) * seen


def test_first_click_in_the_gate_is_stamped() -> None:
    core = core_with(STANDALONE)
    clicks = [(REFERENCE_NS + 50, 1), (REFERENCE_NS + 10, 1), (REFERENCE_NS + 33, 1)]
    outcome = core.run(SETUP, 3 * PERIOD, InputEdges(REFERENCE_NS, [AttemptEdges(0, clicks)]))
    assert core.read(TIMESTAMPS + 1, outcome.end + 5) == REFERENCE_NS + 33


def test_pattern_listed_twice_sets_both_bits() -> None:
    outcome = core_with(STANDALONE, patterns=[0b1001, 0b0011, 0b0011]).run(SETUP, 10 * PERIOD, herald(4))
    assert outcome.reason == 0b0110


def test_listed_0000_heralds_the_first_attempt_without_clicks() -> None:
    edges = InputEdges(REFERENCE_NS, [AttemptEdges(0, [(REFERENCE_NS + 40, 3)])])
    outcome = core_with(STANDALONE, patterns=[0]).run(SETUP, 10 * PERIOD, edges)
    assert (outcome.reason, outcome.num_attempts) == (0b1111, 2)


def test_enabled_empty_slot_heralds_and_a_disabled_one_does_not() -> None:
    core = core_with(STANDALONE, patterns=[0b0011])
    assert not core.run(SETUP, 3 * PERIOD, NO_HERALD).success
    core.write(HERALDS, heralds_word([0b0011, 0]), SETUP + 4 * PERIOD)
    assert core.run(SETUP + 5 * PERIOD, 3 * PERIOD, NO_HERALD).reason == 0b1110


def test_counters_count_clicks_and_patterns() -> None:
    core = core_with(STANDALONE)
    core.write(COUNTER_PATTERNS, counter_patterns_word([0b0011, 0b0001]), 20)
    core.write(COUNTER_PATTERNS + 1, counter_patterns_word([0]), 21)
    single = [AttemptEdges(attempt, [(REFERENCE_NS + 40, 0)]) for attempt in (1, 5)]
    outcome = core.run(SETUP, 100 * PERIOD, InputEdges(REFERENCE_NS, [*single, *herald(9).attempts]))
    counts = [core.read(COUNTS + index, outcome.end + 5 + index) for index in range(6)]
    assert counts == [3, 1, 0, 0, 3, 7]


def test_output_pulses_follow_the_timing_registers() -> None:
    core = core_with(STANDALONE)
    for output, times in enumerate([(80, 160), (0, 8), (240, 240), (2000, 2100)]):
        core.write(TIMING + output, timing_word(TIMING + output, *times), 30 + output)
    outcome = core.run(SETUP, PERIOD + 10, NO_HERALD)
    starts = outcome.attempt_starts()
    assert len(starts) == 2
    assert (outcome.output_pulses(0) - starts[:, None]).tolist() == [[12, 22]] * 2
    assert (outcome.output_pulses(1) - starts[:, None]).tolist() == [[2, 3]] * 2
    # An output that starts and stops at once stays on to the end of the attempt.
    assert (outcome.output_pulses(2) - starts[:, None]).tolist() == [[32, LENGTH + 2]] * 2
    assert outcome.output_pulses(3).shape == (0, 2)


def test_edges_may_be_drawn_while_the_run_goes_on() -> None:
    drawn = []

    def attempts() -> Any:
        for attempt in range(0, 10**9, 7):
            drawn.append(attempt)
            yield AttemptEdges(attempt, [(REFERENCE_NS + 40, attempt % 4)])

    outcome = core_with(STANDALONE).run(SETUP, 100 * PERIOD, InputEdges(REFERENCE_NS, attempts()))
    assert outcome.num_attempts == 100
    assert max(drawn) <= 105


def test_registers_during_a_run() -> None:
    core = core_with(STANDALONE)
    core.start(SETUP, 100 * PERIOD, NO_HERALD)
    assert core.read(NUM_CYCLES, SETUP + 40 * PERIOD + 10) == 40
    assert core.advance(SETUP + 60 * PERIOD) is None
    assert core.finish().num_attempts == 100


def test_disabled_core_reports_nothing() -> None:
    assert not core_with(STANDALONE & ~1).run(SETUP, 10 * PERIOD, herald(2)).reported


def test_reset_loses_the_run_and_keeps_the_role() -> None:
    core = core_with(MASTER | STANDALONE)
    core.start(SETUP, 10 * PERIOD, herald(2))
    core.reset(SETUP + 3)
    assert core.outcome is None
    assert core.read(STATUS, SETUP + 10) == TIMED_OUT
    with pytest.raises(RuntimeError, match="no run"):
        core.finish()
    with pytest.raises(ValueError, match="cycle length 0"):
        core.start(SETUP + 20, 100)


def test_played_cycles_do_not_change() -> None:
    core = core_with(STANDALONE)
    outcome = core.run(SETUP, 10 * PERIOD, herald(2))
    with pytest.raises(ValueError, match="played already"):
        core.start(outcome.end - 10, 100)


def test_edges_outside_the_period_are_rejected() -> None:
    with pytest.raises(ValueError, match="period is -24 to 975 ns"):
        core_with(STANDALONE).run(SETUP, 1000, InputEdges(None, [AttemptEdges(0, [(976, 0)])]))


# A linked pair.


def test_slave_ends_two_cycles_after_its_master() -> None:
    for edges in (herald(7), NO_HERALD):
        master, slave = linked_pair().run(Run(SETUP, 20 * PERIOD, edges), Run(SETUP + 6, 10**6, edges))
        assert slave.end - master.end == 2
        assert slave.num_attempts == master.num_attempts
        assert (slave.success, slave.reason) == (master.success, master.reason)


def test_attempts_of_both_start_together() -> None:
    master, slave = linked_pair().run(Run(SETUP, 20 * PERIOD), Run(SETUP + 40, 20 * PERIOD))
    assert master.attempt_starts().tolist() == slave.attempt_starts().tolist()


def test_master_decides_and_the_slave_reports_its_own_pattern() -> None:
    """An edge 1 ns beyond the slave's gate leaves success and takes the reason away."""
    master, slave = linked_pair().run(
        Run(SETUP, 20 * PERIOD, herald(7)), Run(SETUP + 6, 10**6, herald(7, shift_ns=61 - 40 + 1))
    )
    assert (master.success, master.reason) == (True, 1)
    assert (slave.success, slave.reason) == (True, 0)


def test_slave_does_not_herald_by_itself() -> None:
    master, slave = linked_pair().run(Run(SETUP, 20 * PERIOD, NO_HERALD), Run(SETUP + 6, 10**6, herald(7)))
    assert (master.success, slave.success) == (False, False)


def test_both_clicks_beyond_the_slaves_gate_set_the_bits_of_empty_slots() -> None:
    pair = linked_pair(patterns=[0b0011])
    master, slave = pair.run(Run(SETUP, 20 * PERIOD, herald(7)), Run(SETUP + 6, 10**6, NO_HERALD))
    assert (master.reason, slave.reason) == (0b0001, 0b1110)


def second_window(delay: int) -> tuple[Outcome, Outcome]:
    """The second of two windows; the slave's starts `delay` cycles after the master's."""
    pair = linked_pair()
    first, _ = pair.run(Run(SETUP, 10 * PERIOD, NO_HERALD), Run(SETUP + 6, 10**6, NO_HERALD))
    start = first.end + 1000
    return pair.run(Run(start, 10 * PERIOD, NO_HERALD), Run(start + delay, 10 * PERIOD, NO_HERALD))


@pytest.mark.parametrize("delay", [1, 2, 3, 4, 5, 30])
def test_slave_that_starts_after_its_master_plays_all_attempts(delay: int) -> None:
    master, slave = second_window(delay)
    assert slave.num_attempts == master.num_attempts >= 10


def test_window_of_no_time_plays_nothing() -> None:
    outcome = core_with(STANDALONE).run(SETUP, 0, herald(0))
    assert (outcome.reason, outcome.num_attempts, outcome.end - SETUP) == (TIMEOUT_REASON, 0, 2)


@pytest.mark.parametrize("delay", [-100, -4, -2])
def test_time_out_line_of_the_master_ends_a_slave_that_starts_first(delay: int) -> None:
    master, slave = second_window(delay)
    assert (slave.num_attempts, slave.reason) == (0, TIMEOUT_REASON)
    assert slave.end - slave.start <= 4
    # The master waits its window out alone.
    assert (master.num_attempts, master.reason) == (0, TIMEOUT_REASON)
    assert master.end - master.start == 10 * PERIOD + 2


@pytest.mark.parametrize("delay", [-1, 0])
def test_slave_that_starts_with_its_master_leaves_it_alone_for_one_attempt(delay: int) -> None:
    """The slave's ready line is up for a cycle before the time-out line ends its run."""
    master, slave = second_window(delay)
    assert (slave.num_attempts, slave.reason) == (0, TIMEOUT_REASON)
    assert master.num_attempts == 1


def test_equal_pauses_work_since_the_slave_ends_later() -> None:
    pair = linked_pair()
    starts = [SETUP, SETUP + 6]
    for _ in range(5):
        outcomes = pair.run(*(Run(start, 49 * PERIOD, NO_HERALD) for start in starts))
        assert [outcome.num_attempts for outcome in outcomes] == [49, 49]
        starts = [outcome.end + 500 for outcome in outcomes]


def test_slave_may_start_again_while_the_master_waits() -> None:
    pair = linked_pair()
    pair.run(Run(SETUP, 10 * PERIOD), Run(SETUP + 6, 10 * PERIOD))
    pair.slave.start(5000, 10 * PERIOD)
    pair.master.start(5010, 100 * PERIOD)
    lost = pair.slave.finish()
    assert lost.num_attempts == 0
    pair.slave.start(5050, 100 * PERIOD)
    pair.advance_to_end(10**6)
    assert pair.master.outcome is not None
    assert pair.slave.outcome is None
    assert pair.slave.finish().num_attempts == pair.master.outcome.num_attempts > 90


def test_events_of_a_pair_come_in_order() -> None:
    pair = linked_pair()
    pair.slave.start(SETUP + 100, 1000)
    with pytest.raises(ValueError, match="played already"):
        pair.master.start(SETUP, 1000)


# The gateware itself.

NUM_SCRIPTS = {1: 1500, 2: 1000}
"""Random scripts of a single core and of a linked pair."""
NUM_REPLAYED = 4
"""Scripts that are repeated in migen's own simulator, which takes some milliseconds a cycle."""


@pytest.fixture(scope="module")
def support() -> Any:
    """Benches of the gateware and of the model, and the scripts."""
    pytest.importorskip("migen", reason="needs migen")
    pytest.importorskip("entangler.phy", reason="needs entangler-core and ARTIQ's gateware")
    from tests.support import entangler_gateware, entangler_operations, entangler_scripts

    class Support:
        gateware = entangler_gateware.GatewareBench
        model = entangler_operations.ModelBench
        operation = entangler_operations.Operation
        script = staticmethod(entangler_scripts.random_script)

    return Support


def num_differences(support: Any, num_cores: int, num_scripts: int, seed: int) -> tuple[int, dict[str, int]]:
    """Scripts of which gateware and model show anything different, and what the runs came to."""
    random = Random(seed)
    gateware, model = support.gateware(num_cores), support.model(num_cores)
    num = 0
    seen = {"runs": 0, "heralds": 0, "unknown reasons": 0, "attempts": 0}
    start = 1
    for _ in range(num_scripts):
        operations, end = support.script(random, num_cores, start)
        expected, observed = gateware.play(operations, end), model.play(operations, end)
        ends = {(core, outcome.end) for core, outcome in model.ended}
        num += expected.without_replaced_runs(operations, ends) != observed.without_replaced_runs(
            operations, ends
        )
        for _, outcome in model.ended:
            if outcome.start >= start:
                seen["runs"] += 1
                seen["heralds"] += outcome.success
                seen["unknown reasons"] += outcome.success and outcome.reason == 0
                seen["attempts"] += outcome.num_attempts
        start = end
    return num, seen


@pytest.mark.gateware
@pytest.mark.parametrize("num_cores", [1, 2])
def test_model_shows_what_the_gateware_shows(support: Any, num_cores: int) -> None:
    num, seen = num_differences(support, num_cores, NUM_SCRIPTS[num_cores], seed=20 + num_cores)
    assert num == 0
    # The scripts do reach what they are meant for.
    assert seen["runs"] > NUM_SCRIPTS[num_cores]
    assert seen["heralds"] > 100
    assert seen["attempts"] > 3 * NUM_SCRIPTS[num_cores]
    assert num_cores == 1 or seen["unknown reasons"] > 20


@pytest.mark.gateware
@pytest.mark.parametrize("num_cores", [1, 2])
def test_compiled_gateware_is_what_migen_simulates(support: Any, num_cores: int) -> None:
    random, bench = Random(5), support.gateware(num_cores)
    bench.recording = []
    start = 1
    for _ in range(NUM_REPLAYED):
        operations, end = support.script(random, num_cores, start)
        bench.play(operations, end)
        start = end
    assert len(bench.recording) > 500
    assert bench.replay_in_migen() == 0


@pytest.mark.gateware
def test_counters_wrap_as_in_the_gateware(support: Any) -> None:
    """More than 16 384 attempts, and more than 16 384 cycles left at the end."""
    gateware, model = support.gateware(1), support.model(1)
    edges = InputEdges(4, [AttemptEdges(16_400, [(8, 1)])])
    registers = [
        (CONFIG, STANDALONE),
        (CYCLE_LENGTH, 2),
        (HERALDS, heralds_word([0b0010])),
        (TIMING + 5, 8 << 16 | 3),
    ]
    operations = [support.operation(1 + index, 0, *register) for index, register in enumerate(registers)]
    operations.append(support.operation(20, 0, RUN, 140_000, edges))
    operations += [support.operation(99_000 + address, 0, address) for address in range(0x20, 0x40)]
    assert gateware.play(operations, 99_100) == model.play(operations, 99_100)
    assert model.ended[0][1].num_attempts == 16_401


@pytest.mark.gateware
@pytest.mark.parametrize("patterns", [[0b0011], [0b0110, 0b0110], [1, 2, 4, 8]])
def test_words_are_those_of_the_driver(patterns: list[int]) -> None:
    """`entangler.driver`, its kernels called on the host."""
    driver = pytest.importorskip("entangler.driver", reason="needs entangler-core and ARTIQ")
    assert heralds_word(patterns) == driver.patterns_to_reg(patterns)
    written: dict[int, int] = {}

    class Channel:
        def write(self, address: int, data: int) -> None:
            written[address] = data

    def call(method: str, *arguments: Any) -> None:
        getattr(driver.Entangler, method).artiq_embedded.function(Channel(), *arguments)

    call("set_counter_patterns", 2, patterns)
    assert written == {COUNTER_PATTERNS + 2: counter_patterns_word(patterns)}
    for channel in range(TIMING, TIMING + 8):
        for times in ((0, 8), (63, 64), (1000, 20_000)):
            call("set_timing_mu", channel, *times)
            assert written[channel] == timing_word(channel, *times)


def shorten_skipped_attempts(patch: pytest.MonkeyPatch) -> None:
    """N + 3 for the attempts that the model skips."""
    patch.setattr(sequencer, "OVERHEAD", 3)


def leave_out_a_state(patch: pytest.MonkeyPatch) -> None:
    """N + 3 for every attempt: the trigger takes one cycle instead of two."""
    leave = sequencer.Sequencer._leave_idle

    def leave_later(self: sequencer.Sequencer, now: int) -> None:
        leave(self, now)
        self.state = sequencer.TRIGGER_AGAIN if self.state == sequencer.TRIGGER else self.state

    patch.setattr(sequencer.Sequencer, "_leave_idle", leave_later)


def widen_gates(patch: pytest.MonkeyPatch) -> None:
    """Gates that close 1 ns late."""
    set_gate = Detection.set_gate
    patch.setattr(
        Detection, "set_gate", lambda self, gate, start, stop: set_gate(self, gate, start, stop + 1)
    )


def forget_the_time_out_line(patch: pytest.MonkeyPatch) -> None:
    """A slave that does not see that its master's time is over."""
    driven = sequencer.Sequencer.driven_lines
    patch.setattr(sequencer.Sequencer, "driven_lines", lambda self: driven(self)._replace(timeout=False))


@pytest.mark.gateware
@pytest.mark.parametrize(
    ("num_cores", "spoil"),
    [
        (1, shorten_skipped_attempts),
        (1, leave_out_a_state),
        (2, leave_out_a_state),
        (1, widen_gates),
        (2, forget_the_time_out_line),
    ],
)
def test_comparison_catches_a_wrong_model(
    support: Any, monkeypatch: pytest.MonkeyPatch, num_cores: int, spoil: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """A control of the comparison itself: few scripts suffice to tell a wrong constant from a right one."""
    spoil(monkeypatch)
    num, _ = num_differences(support, num_cores, 60, seed=11)
    assert num >= 3
