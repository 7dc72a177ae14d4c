"""Core of one node: what its kernel is answered at once is what the model plays, in every role."""

from collections.abc import Sequence
from random import Random

import pytest

from sim_devices.engines.entangler_core import (
    CONFIG,
    COUNTS,
    CYCLE_LENGTH,
    HERALDS,
    NUM_CYCLES,
    NUM_TRIGGERS,
    RTIO_STROBE_DELAY,
    STATUS,
    SUCCESS,
    TIME_REMAINING,
    TIMED_OUT,
    TIMEOUT_REASON,
    TIMESTAMPS,
    TIMING,
    Clicks,
    EntanglerCore,
    NodeCore,
    Window,
    heralds_word,
    timing_word,
)

PATTERNS = [0b0011, 0b0101, 0b1010, 0b1100]
MASTER, SLAVE, STANDALONE = 0b011, 0b001, 0b101
TRIGGER_NS = 664
PERIOD_MU = 1000
DURATION = 62_500


class Source:
    """Gives the clicks that a test puts in, one item a run."""

    def __init__(self) -> None:
        self.runs: list[Clicks | None] = []
        self.windows: list[Window] = []
        self.ends: list[tuple[int, bool]] = []

    def clicks(self, start_mu: int, window: Window) -> Clicks | None:
        self.windows.append(window)
        return self.runs.pop(0) if self.runs else None

    def end_run(self, end_mu: int, success: bool) -> None:
        self.ends.append((end_mu, success))


def node_core(config: int, length: int = 121, patterns: Sequence[int] = PATTERNS) -> tuple[NodeCore, Source]:
    source = Source()
    core = NodeCore(source)
    core.write(CONFIG, config)
    core.write(CYCLE_LENGTH, length)
    core.write(HERALDS, heralds_word(patterns))
    core.write(TIMING + 2, timing_word(TIMING + 2, 650, 700))
    for gate in range(TIMING + 4, TIMING + 8):
        core.write(gate, timing_word(gate, 20, 60))
    return core, source


def pair_at(attempt: int, own: Sequence[int] = (0, 1), delay_ns: int = 30) -> Clicks:
    """Station clicks of detectors 0 and 1, and those of this core's detectors `own`."""
    station = [(TRIGGER_NS + delay_ns, 0), (TRIGGER_NS + delay_ns + 5, 1)]
    return Clicks(attempt, [(TRIGGER_NS + delay_ns, detector) for detector in own], station)


@pytest.mark.parametrize("config", [MASTER, SLAVE, STANDALONE])
def test_an_attempt_takes_a_microsecond(config: int) -> None:
    core, source = node_core(config)
    source.runs = [pair_at(attempt) for attempt in (0, 1, 49, 480)]
    lasting = []
    for start in range(1_000_000, 5_000_000, 1_000_000):
        end, reason = core.run(start, DURATION)
        assert reason == 0b0001
        lasting.append(end - start)
    assert [later - lasting[0] for later in lasting] == [0, 1_000, 49_000, 480_000]
    assert source.windows[0].trigger_ns == TRIGGER_NS
    assert source.windows[0].patterns == tuple(PATTERNS)
    assert [success for _, success in source.ends] == [True] * 4


def test_a_run_ends_behind_the_lanes_of_the_rtio_core() -> None:
    core, source = node_core(STANDALONE)
    source.runs = [pair_at(7)]
    end, _ = core.run(1_000_000, DURATION)
    assert end - 1_000_000 == 8 * (8 * 125 + 2 + RTIO_STROBE_DELAY - 1)


def test_windows_end_with_the_attempt_under_way() -> None:
    core, source = node_core(MASTER)
    end, reason = core.run(1_000_000, DURATION)
    assert (source.windows[0].num_attempts, reason) == (500, TIMEOUT_REASON)
    assert 500_000 < end - 1_000_000 < 500_000 + PERIOD_MU
    assert source.ends == []


@pytest.mark.parametrize(("own", "reason"), [((0,), 0), ((), 0), ((0, 2), 0b0010), ((0, 1), 0b0001)])
@pytest.mark.parametrize("attempt", [0, 11])
def test_the_slaves_reason_is_its_own(own: Sequence[int], reason: int, attempt: int) -> None:
    core, source = node_core(SLAVE)
    source.runs = [pair_at(attempt, own)]
    assert core.run(1_000_000, DURATION)[1] == reason
    assert source.ends[0][1]
    assert core.read(STATUS, source.ends[0][0] + 1000) == SUCCESS


def test_the_masters_gates_decide() -> None:
    core, source = node_core(MASTER)
    source.runs = [pair_at(11, delay_ns=62)]
    assert core.run(1_000_000, DURATION) == (source.ends[0][0], TIMEOUT_REASON)
    assert not source.ends[0][1]


def test_without_a_trigger_nothing_is_seen() -> None:
    core, source = node_core(STANDALONE)
    core.write(TIMING + 2, timing_word(TIMING + 2, 2_000, 0))
    source.runs = [pair_at(11)]
    assert core.run(1_000_000, DURATION)[1] == TIMEOUT_REASON
    assert source.windows[0].trigger_ns is None
    assert core.read(NUM_TRIGGERS, 2_000_000) == 0


def test_registers_after_a_herald() -> None:
    core, source = node_core(MASTER)
    source.runs = [None, pair_at(20)]
    core.run(1_000_000, DURATION)
    end, _ = core.run(2_000_000, DURATION)
    assert core.read(STATUS, end + 1_000) == SUCCESS
    assert core.read(NUM_CYCLES, end + 2_000) == core.read(NUM_TRIGGERS, end + 3_000) == 21
    assert core.read(TIMESTAMPS, end + 4_000) == TRIGGER_NS + 30
    assert core.read(TIMESTAMPS + 4, end + 5_000) == TRIGGER_NS
    assert [core.read(COUNTS + index, end + 6_000 + 100 * index) for index in range(4)] == [1, 1, 0, 0]
    remaining = core.read(TIME_REMAINING, end + 8_000)
    assert remaining - core.read(TIME_REMAINING, end + 16_000) == 1_000
    assert core.read(STATUS, end + 600_000) == SUCCESS | TIMED_OUT


def test_timestamps_outlive_the_windows_without_clicks() -> None:
    """The run with the clicks is never played: it is followed by others before anything is read."""
    core, source = node_core(SLAVE)
    source.runs = [pair_at(20, own=(3,))]
    for start in (1_000_000, 2_000_000, 3_000_000):
        end, _ = core.run(start, DURATION)
    assert core.read(TIMESTAMPS + 3, end + 1_000) == TRIGGER_NS + 30
    assert core.read(COUNTS + 3, end + 2_000) == 0


def test_counters_wrap_at_14_bits() -> None:
    core, source = node_core(MASTER)
    source.runs = [pair_at(16_390)]
    end, reason = core.run(1_000_000, 10**7)
    assert reason == 0b0001
    assert core.read(NUM_CYCLES, end + 1_000) == core.read(NUM_TRIGGERS, end + 2_000) == 7
    assert end - 1_000_000 > 16_390_000


def test_a_listed_0000_heralds_without_clicks() -> None:
    core, source = node_core(MASTER, patterns=[0b0011, 0])
    for start in (1_000_000, 2_000_000):
        end, reason = core.run(start, DURATION)
        assert reason == 0b1110
        assert end - start < 2 * PERIOD_MU
    assert core.read(STATUS, 3_000_000) == SUCCESS | TIMED_OUT
    assert len(source.ends) == 2


def test_reset_keeps_the_role_only() -> None:
    core, _ = node_core(MASTER)
    core.run(1_000_000, DURATION)
    core.reset()
    assert not core.ready
    assert core.read(NUM_CYCLES, 2_000_000) == 0
    with pytest.raises(RuntimeError, match="set_config"):
        core.run(3_000_000, DURATION)


@pytest.mark.parametrize("config", [MASTER, SLAVE, STANDALONE])
@pytest.mark.parametrize("seed", range(4))
def test_answers_are_those_of_the_model(config: int, seed: int) -> None:
    """Random windows, clicks, gates and cycles; a read after a run plays it in the model and compares."""
    random = Random(seed)
    core, source = node_core(config)
    now, num_heralds = 1_000_000, 0
    for _ in range(150):
        if random.random() < 0.2:
            length = random.randint(20, 300)
            core.write(CYCLE_LENGTH, length)
            core.write(TIMING + 2, timing_word(TIMING + 2, 8 * random.randint(0, length // 2), 4000))
        duration = random.randint(0, 5_000)
        now = core.run(now, duration)[0] + 100_000
        window = source.windows[-1]
        if window.num_attempts:
            trigger_ns = window.trigger_ns or 0
            clicks = [
                [
                    (min(trigger_ns + random.randint(0, 80), window.cycle_ns - 1), random.randrange(4))
                    for _ in range(random.randint(1, 3))
                ]
                for _ in range(2)
            ]
            source.runs = [Clicks(random.randrange(window.num_attempts), *clicks)]
            now, reason = core.run(now, duration)
            num_heralds += reason != TIMEOUT_REASON
        core.read(STATUS, now + 1_000)
        now += 100_000
    assert num_heralds > 5


def test_the_check_catches_a_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    core, source = node_core(SLAVE)
    monkeypatch.setattr("sim_devices.engines.entangler_core.node_core.OVERHEAD", 3)
    source.runs = [pair_at(11)]
    end, _ = core.run(1_000_000, DURATION)
    with pytest.raises(RuntimeError, match="in the model"):
        core.read(STATUS, end + 1_000)


def test_a_core_alone_is_the_model() -> None:
    """Standalone, against the core itself, which the gateware tests compare."""
    core, _ = node_core(STANDALONE)
    model = EntanglerCore(RTIO_STROBE_DELAY)
    model.write(CONFIG, STANDALONE, 0)
    model.write(CYCLE_LENGTH, 121, 1)
    assert core.run(8_000, 5_000) == (8 * model.run(1_000, 5_000).end, TIMEOUT_REASON)
