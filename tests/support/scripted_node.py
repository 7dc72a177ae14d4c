"""One node on the host engine: its apparatus answers by script, its coordinator takes notes."""

from collections.abc import Callable, Set
from typing import Any, NamedTuple

from artiq.experiment import EnvExperiment

from diqkd_node.configuration import NodeConfiguration
from diqkd_node.sequence.node import Node
from sim_devices.artiq_run import DeviceDatabase, DeviceManager
from sim_devices.engines.entangler_core import Clicks, ClickSource, NodeCore, Window
from tests.support.paths import ROOT

DIRECTORY = ROOT / "device_db"
WINDOW_ENDED = 0x3FFF
HERALDING_ATTEMPT = 99


class ScriptedApparatus:
    """Every window heralds, every handshake is answered, the ion is bright, unless a test changes that.

    Hooks `on_level`, `on_dds`, `on_run`, `counts`, `lock`, `strobe`, `handshake`, `clicks` may be replaced;
    `strobe` says for the strobe of a line whether its edge comes in a gate, `edge_delay_mu` when, `levels`
    what the line's level is then; `clicks` gives the pattern of the detectors in an attempt of a node without
    entangler core.
    """

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.levels = {"ttl_round_type": 1, "ttl_token": 1, "ttl_setting": 0}
        self.edge_delay_mu = 5000
        self.on_level: Callable[[str, int], None] = lambda key, level: None
        self.on_dds: Callable[[int], None] = lambda call: None
        self.on_run: Callable[[int], int] = lambda call: 1 << call % 4
        self.counts: Callable[[int, int], int] = lambda start, stop: 60
        self.lock: Callable[[int], int] = lambda time: 1
        self.strobe: Callable[[str], bool] = lambda key: True
        self.handshake: Callable[[], bool] = lambda: True
        self.clicks: Callable[[int], int] = lambda attempt: 0b0011
        self._gates: list[int] = []
        self._num_dds = -1

    def level_sink(self, key: str) -> Callable[..., None]:
        def set_level(time: int, level: int) -> None:
            self.on_level(key, level)
            self.events.append((key, time, level))

        return set_level

    def dac_sink(self, key: str) -> Callable[..., None]:
        return lambda *event: self.events.append((key, *event))

    def dds_sink(self, key: str) -> Callable[..., None]:
        def set_dds(*event: Any) -> None:
            if key == "dds_674":
                self._num_dds += 1
                self.on_dds(self._num_dds)
            self.events.append((key, *event))

        return set_dds

    def edge_source(self, key: str) -> Callable[[int, int], int]:
        return lambda start, stop: self.counts(start, stop)

    def first_edge_source(self, key: str) -> Callable[[int, int], int]:
        if key.startswith("apd"):
            return self._detector(int(key[3:]))

        closed = -1  # the last gate in which an edge came: there is one edge a gate

        def edge(start: int, stop: int) -> int:
            nonlocal closed
            if stop <= closed:
                return -1
            is_strobe = key.endswith("_strobe")
            answered = self.strobe(key) if is_strobe else self.handshake()
            closed = stop if answered else closed
            time = start + (self.edge_delay_mu if is_strobe else 5000)
            return time if answered and time < stop else -1

        return edge

    def _detector(self, number: int) -> Callable[[int, int], int]:
        def click(start: int, stop: int) -> int:
            if stop not in self._gates:
                self._gates.append(stop)
            clicked = self.clicks(self._gates.index(stop)) >> number & 1
            return start + 5 if clicked and stop - start > 20 else -1

        return click

    def level_source(self, key: str) -> Callable[[int], int]:
        return lambda time: self.lock(time) if key == "ttl_laser_lock" else self.levels.get(key, 1)

    def entangler_source(self, key: str) -> ClickSource:
        return ScriptedRuns(self)


class ScriptedRuns:
    """Clicks that give a run of the entangler core the reason that `ScriptedApparatus.on_run` says; 0, at a
    slave, is a herald of which it sees no pattern itself."""

    def __init__(self, apparatus: ScriptedApparatus) -> None:
        self._apparatus = apparatus
        self._num_runs = -1

    def attach(self, core: NodeCore) -> None:
        """Nothing depends on the core's registers here."""

    def clicks(self, start: int, window: Window) -> Clicks | None:
        self._num_runs += 1
        reason = self._apparatus.on_run(self._num_runs)
        if reason == WINDOW_ENDED:
            return None
        assert window.trigger_ns is not None
        pattern = window.patterns[max(reason.bit_length() - 1, 0)]
        edges = [(window.trigger_ns + 40, detector) for detector in range(4) if pattern >> detector & 1]
        return Clicks(HERALDING_ATTEMPT, edges if reason else [], edges)

    def dark_runs_ahead(self, start: int, window: Window, outputs: Set[str]) -> int:
        return 0  # the script may depend on the number of a run

    def skip_dark_runs(self, window: Window, num: int) -> None:
        """There are none."""

    def end_run(self, end: int, success: bool) -> None:
        """Nothing follows from it."""


class StoredRound(NamedTuple):
    """A round as the kernel stores it."""

    outcome: int
    received: int
    received_setting: int
    received_end: int
    pattern_index: int
    herald_mu: int
    edge_mu: int
    loss: int


class NotingCoordinator:
    """Gives the batches of draws it was made with, and keeps what the kernel reports."""

    def __init__(self, *batches: list[int]) -> None:
        self.batches = list(batches)
        self.rounds: list[StoredRound] = []
        self.ends: list[tuple[int, int]] = []
        self.abandoned: list[int] = []
        self.checks: list[tuple[int, int]] = []
        self.recoveries: list[tuple[bool, bool]] = []
        self.on_check: Callable[[int, int], int | None] = lambda done, condition: None
        self.recovers = lambda: True
        self.size = 0

    def begin_batch(self) -> list[int]:
        batch = self.batches.pop(0) if self.batches else []
        self.size = len(batch)
        return batch

    def store(self, count: int, *columns: Any) -> None:
        self.rounds += [
            StoredRound(*row) for row in zip(*(column[:count] for column in columns), strict=True)
        ]

    def check(self, done: int, condition: int) -> int:
        self.checks.append((done, condition))
        limit = self.on_check(done, condition)
        return self.size if limit is None else limit

    def end_batch(self, done: int, condition: int) -> None:
        self.ends.append((done, condition))

    def abandon_batch(self, done: int) -> None:
        self.abandoned.append(done)

    def wait_for_recovery(self, locked: bool, ion_present: bool) -> bool:
        self.recoveries.append((locked, ion_present))
        return self.recovers()


class Parent(EnvExperiment):
    """An experiment that only lends its managers."""

    def build(self) -> None:
        self.setattr_device("core")

    def run(self) -> None:
        """Nothing of its own."""


def make_node(
    role: str,
    coordinator: NotingCoordinator,
    protocol: str = "ordered",
    end_token: bool = False,
    **settings: Any,
) -> tuple[Node, ScriptedApparatus]:
    """A prepared node on simulated devices."""
    apparatus = ScriptedApparatus()
    database = DeviceDatabase(DIRECTORY / f"{role}_sim.py")
    devices = DeviceManager(database, {"apparatus": apparatus})
    parent = Parent((devices, None, None, {}))
    node = Node(parent, NodeConfiguration(role=role, **settings), coordinator, None, protocol, end_token)
    node.prepare()
    return node, apparatus
