"""What a node's devices and lines get to see does not depend on its secrets: RTIO traces of compiled kernels.

Two runs in lock-step have the same heralds and the same edges on every input, but other settings, tokens
and outcomes: their traces are equal but for the declared words. And in each window on which the order rests
(docs/order.md), relative to its start, the trace is one and the same whatever comes on any input: Alice's
from the herald to her token, in `ordered` to the end of her readout; Bob's from a test's strobe to the end of
his.

Declared are the synthesiser's words of the basis and the end of its pulse; the level of a line, which is sent
with its strobe; and, as it takes what comes, Alice's own gate and sample. Variants that break a rule show.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from artiq.experiment import TInt32, TInt64, at_mu, delay_mu, kernel, now_mu

from diqkd_node.sequence.rounds import NONE, ROUNDS, AliceLateType, AliceOrdered, BobLateType, BobOrdered
from diqkd_node.sequence.timebase import CYCLE_MU
from sim_devices.engines.kasli import missing
from tests.diqkd_node.sequence.test_node import PROTOCOLS, ROLES, TOKEN, US
from tests.sim_devices.engines.kasli.test_compiled_nodes import Coordinator
from tests.support import scripted_node

pytestmark = [
    pytest.mark.artiq,
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]

LEVEL, SENSITIVITY, SAMPLE = 0, 2, 3  # addresses of a TTL
NUM_BATCHES, BATCH_ROUNDS = 8, 8
LINES = ("ttl_token", "ttl_round_type", "ttl_setting")


class Event(NamedTuple):
    """An RTIO output."""

    time: int
    key: str
    address: int
    data: int


class Edges:
    """Random edges on an input, one in 15 us."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._times = [0]

    def first(self, start: int, stop: int) -> int:
        """The first from `start` to before `stop`, or -1."""
        if start - self._times[-1] > 1_000 * US:
            self._times = [start - 1]
        while self._times[-1] < stop:
            self._times.append(self._times[-1] + 1 + int(self._rng.exponential(15 * US)))
        time = self._times[bisect_left(self._times, start)]
        return time if time < stop else -1


class Apparatus(scripted_node.ScriptedApparatus):
    """Random inputs that depend on `inputs`, and outcomes that depend on `secret`."""

    def __init__(self, inputs: int, secret: int) -> None:
        super().__init__()
        self._inputs = inputs
        self.on_run = lambda call: 1 << _bits("run", inputs, call) % 4
        self.counts = lambda start, stop: (
            60 * (_bits("outcome", secret, start) & 1) if stop - start == 250 * US else 60
        )

    def first_edge_source(self, key: str) -> Callable[[int, int], int]:
        if not key.endswith("_strobe"):
            return super().first_edge_source(key)
        return Edges(np.random.default_rng(_bits(key, self._inputs))).first

    def level_source(self, key: str) -> Callable[[int], int]:
        return lambda time: _bits(key, self._inputs, time) & 1 if key in LINES else 1


def _bits(*values: object) -> int:
    return int.from_bytes(sha256(repr(values).encode()).digest()[:4], "little")


def draws(role: str, secret: int) -> list[list[int]]:
    """Alice's settings and tokens; Bob's settings, of types that every secret shares, and third tokens."""
    types = np.random.default_rng(1).integers(0, 2, (NUM_BATCHES, BATCH_ROUNDS))
    rng = np.random.default_rng([2, secret])
    settings, tokens = rng.integers(0, 2, (2, *types.shape))
    if role == "bob":
        settings = np.where(types == 1, settings, 2)
    return (settings | tokens * TOKEN).tolist()


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Coordinator, list[Event]]]:
    """What a node's coordinator has noted, and all its outputs, with these inputs and this secret."""
    pytest.importorskip("entangler.driver")
    core = pytest.importorskip("sim_devices.engines.kasli.core")
    make_channels = core.channels

    def run(
        role: str, protocol: str, inputs: int, secret: int, variant: type | None = None
    ) -> tuple[Coordinator, list[Event]]:
        events: list[Event] = []

        def recorded(*args: Any) -> dict[int, Any]:
            channels = make_channels(*args)
            for channel in channels.values():
                channel.output = _recording(channel.key, channel.output, events)
            return channels

        class Database(scripted_node.DeviceDatabase):
            def __init__(self, path: Path) -> None:
                super().__init__(path.with_name(path.name.replace("_sim", "_compiled")))

        with monkeypatch.context() as patch:
            patch.setattr(core, "channels", recorded)
            patch.setattr(scripted_node, "DeviceDatabase", Database)
            patch.setattr(scripted_node, "ScriptedApparatus", lambda: Apparatus(inputs, secret))
            if variant is not None:
                patch.setitem(ROUNDS, (role, protocol), variant)
            coordinator = Coordinator(*draws(role, secret))
            node, _ = scripted_node.make_node(role, coordinator, protocol, end_token=True)
            node.run_batches()
        return coordinator, events

    return run


def _recording(key: str, output: Callable[[int, int, int], None], events: list[Event]) -> Callable[..., None]:
    def record(address: int, data: int, time: int) -> None:
        events.append(Event(time, key, address, data))
        output(address, data, time)

    return record


def undeclared(event: Event) -> tuple[Any, ...] | None:
    """What has to be equal of an event; None for one that may be at any time."""
    time, key, address, data = event
    if key == "ttl_674" and data == 0:
        return None
    if address == LEVEL and (key == "spi_urukul0" or key in LINES):
        return time, key, address
    return event


def windows(
    role: str, protocol: str, coordinator: Coordinator, events: list[Event]
) -> Iterator[tuple[Any, ...]]:
    """The trace of each round in its window: where its start lies in a coarse cycle, to which the
    synthesiser's words are aligned, and what follows at times relative to it."""
    sent = "ttl_token_strobe" if role == "alice" else "ttl_round_type_strobe"
    gates = [event.time for event in events if event.key == "pmt_counter" and event.data & 4]
    edges = [event.time for event in events if event[1:] == (sent, LEVEL, 1)]
    for stored in coordinator.rounds:
        start = stored.herald_mu
        edge = edges[bisect_left(edges, start)]
        stop = edge
        if role == "bob":
            level = [event.data for event in events if event[:3] == (edge - 2 * US, "ttl_round_type", LEVEL)]
            if level == [0]:
                continue
            start = edge
        if protocol == "ordered" or role == "bob":
            if stored.received == NONE:
                continue
            stop = gates[bisect_left(gates, edge)]
        window = sorted(event for event in events if start <= event.time <= stop)
        yield (
            start % CYCLE_MU,
            *(
                (part[0] - start, *part[1:])
                for event in window
                if (part := undeclared(event)) is not None
                and not (
                    event.key.startswith(LINES) and event.address in (SENSITIVITY, SAMPLE) and role == "alice"
                )
            ),
        )


def assert_one_a_phase(seen: list[tuple[Any, ...]]) -> None:
    """One trace for every place in a coarse cycle."""
    assert len(set(seen)) == len({phase for phase, *_ in seen})


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("role", ROLES)
def test_two_secrets_leave_one_trace(
    play: Callable[..., tuple[Coordinator, list[Event]]], role: str, protocol: str
) -> None:
    (first, trace), (second, other) = (play(role, protocol, 1, secret) for secret in (1, 2))
    assert [stored.outcome for stored in first.rounds] != [stored.outcome for stored in second.rounds]
    assert len(first.rounds) == len(second.rounds) > 30
    ours, theirs = ([part for event in events if (part := undeclared(event))] for events in (trace, other))
    assert ours == theirs
    assert trace != other


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("role", ROLES)
def test_no_edge_changes_what_a_window_shows(
    play: Callable[..., tuple[Coordinator, list[Event]]], role: str, protocol: str
) -> None:
    seen = [
        window for seed in (3, 4) for window in windows(role, protocol, *play(role, protocol, seed, seed))
    ]
    assert len(seen) > 30
    assert_one_a_phase(seen)
    assert {"ttl_674", "spi_urukul0", "pmt_counter"} <= {part[1] for part in seen[0][1:]}


class PulseFollowsType(AliceOrdered):
    """Alice's pulse a fixed time after the type's edge (docs/order.md)."""

    @kernel
    def play(self, t_herald: TInt64, pattern_index: TInt32, setting: TInt32, token: TInt32):
        self.analysis.map_qubit(t_herald)
        self.isolation.disconnect()
        delay_mu(self.lead_mu)
        self.used = True
        at_mu(self.token_line.send(token))
        self.round_type_line.receive(self.type_window_mu)
        self.received = self.round_type_line.bit
        if self.received != NONE:
            self.measure(t_herald, setting * self.received, 0)
            self.reconnect()
            self.fetch()
        else:
            self.reconnect()


class TokenFollowsOutcome(AliceLateType):
    """The token's time tells the outcome."""

    @kernel
    def play(self, t_herald: TInt64, pattern_index: TInt32, setting: TInt32, token: TInt32):
        self.analysis.map_qubit(t_herald)
        self.isolation.disconnect()
        self.used = True
        self.measure(t_herald, setting, 0)
        t_measured = now_mu()
        self.fetch()
        at_mu(t_measured + (1 + self.outcome) * self.processing_mu)
        t_token = self.token_line.send(token)
        at_mu(t_token)
        self.round_type_line.receive(self.type_window_mu)
        self.received = self.round_type_line.bit
        if self.received == 0:
            self.setting_line.send(setting)
        self.reconnect()


class PulseFollowsInput(BobOrdered):
    """Bob takes another token before he measures."""

    @kernel
    def play(self, t_herald: TInt64, pattern_index: TInt32, setting: TInt32, token: TInt32):
        if self.isolate_and_take_token(t_herald):
            self.announce(setting)
            self.token_line.receive(self.token_window_mu)
            self.measure(t_herald, setting, pattern_index)
            self.reconnect()
            self.fetch()


class WaitsForSettingInTests(BobLateType):
    """Bob waits for x' in tests as well."""

    @kernel
    def play(self, t_herald: TInt64, pattern_index: TInt32, setting: TInt32, token: TInt32):
        if self.isolate_and_take_token(t_herald):
            self.announce(setting)
            self.setting_line.receive(self.setting_window_mu)
            self.measure(t_herald, setting, pattern_index)
            self.reconnect()
            self.fetch()


@pytest.mark.parametrize(
    ("role", "protocol", "variant"),
    [
        ("alice", "ordered", PulseFollowsType),
        ("alice", "late-type", TokenFollowsOutcome),
        ("bob", "ordered", PulseFollowsInput),
        ("bob", "late-type", WaitsForSettingInTests),
    ],
)
def test_a_round_that_breaks_a_rule_shows(
    play: Callable[..., tuple[Coordinator, list[Event]]], role: str, protocol: str, variant: type
) -> None:
    seen = list(windows(role, protocol, *play(role, protocol, 3, 3, variant)))
    with pytest.raises(AssertionError):
        assert_one_a_phase(seen)
