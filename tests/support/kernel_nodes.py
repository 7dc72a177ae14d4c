"""Two real kernels against each other through the lines, with a coordinator that takes notes."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from artiq.experiment import EnvExperiment, TBool, TInt32, TList, TNone, rpc

from diqkd_node.configuration import NodeConfiguration
from diqkd_node.sequence.conditions import RUNNING
from diqkd_node.sequence.node import SETTING_BITS, Node
from diqkd_node.sequence.rounds import ROUNDS
from sim_devices.artiq_run import DeviceDatabase, DeviceManager
from tests.support.paths import ROOT

KEY, TEST, NONE = 0, 1, 2


@dataclass
class PlayedRound:
    """What a node's kernel has reported of a round; times in mu."""

    setting: int
    token: int
    outcome: int
    received: int
    received_setting: int
    received_end: int
    pattern_index: int
    t_herald: int
    t_edge: int
    loss: int


class Notes:
    """Coordinator of one node: gives one batch of draws, keeps what the kernel reports."""

    def __init__(self, batches: Sequence[Sequence[int]]) -> None:
        self.batches = [list(batch) for batch in batches]
        self.rounds: list[PlayedRound] = []
        self.draws: list[int] = []
        self.ends: list[tuple[int, int]] = []
        self.abandoned: list[int] = []
        self.recovers: Callable[[bool, bool], bool] = lambda locked, ion_present: True
        self.on_check: Callable[[int, int], int | None] = lambda done, condition: None

    def begin_batch(self) -> TList(TInt32):
        self.batch = self.batches.pop(0) if self.batches else []
        return self.batch

    @rpc(flags={"async"})
    def store(self, count, outcomes, received, settings, ends, patterns, heralds, edges, losses) -> TNone:
        columns = (outcomes, received, settings, ends, patterns, heralds, edges, losses)
        for row in zip(*(map(int, column[:count]) for column in columns), strict=True):
            draw = self.batch[len(self.rounds) - len(self.draws)]
            self.rounds.append(PlayedRound(draw & (1 << SETTING_BITS) - 1, draw >> SETTING_BITS, *row))

    def check(self, done, condition) -> TInt32:
        limit = self.on_check(int(done), int(condition))
        if limit is None:
            limit = len(self.batch) if condition == RUNNING else int(done)
        return limit

    def end_batch(self, done, condition) -> TNone:
        self.draws += self.batch[:done]
        self.ends.append((int(done), int(condition)))

    def abandon_batch(self, done) -> TNone:
        self.abandoned.append(int(done))

    def wait_for_recovery(self, locked, ion_present) -> TBool:
        return self.recovers(bool(locked), bool(ion_present))


class Parent(EnvExperiment):
    """An experiment that only lends its managers."""

    def build(self) -> None:
        self.setattr_device("core")

    def run(self) -> None:
        """Nothing of its own."""


class KernelNode:
    """A node on simulated devices (of the environment's laboratory), whose kernel plays batches of draws.

    :param round_class: in place of the one of `ROUNDS`
    """

    def __init__(
        self,
        role: str,
        *batches: Sequence[int],
        protocol: str = "ordered",
        end_token: bool = False,
        round_class: type | None = None,
        database: str = "sim",
        **settings: Any,
    ) -> None:
        self.role = role
        self.notes = Notes(batches)
        self.devices = DeviceManager(DeviceDatabase(ROOT / "device_db" / f"{role}_{database}.py"))
        self.apparatus = self.devices.get("apparatus")
        key = role, protocol
        usual = ROUNDS[key]
        ROUNDS[key] = round_class or usual
        try:
            self.node = Node(
                Parent((self.devices, None, None, {})),
                NodeConfiguration(role=role, **settings),
                self.notes,
                protocol=protocol,
                end_token=end_token,
            )
        finally:
            ROUNDS[key] = usual
        self.node.prepare()

    @property
    def rounds(self) -> list[PlayedRound]:
        return self.notes.rounds

    def run(self) -> None:
        """All batches."""
        self.node.run_batches()

    def close(self) -> None:
        self.devices.close_devices()


def draw(setting: int, token: int) -> int:
    """As the coordinator gives it to the kernel."""
    return setting | token << SETTING_BITS


def random_draws(role: str, num_rounds: int, seed: int, gamma: float = 13 / 256) -> list[int]:
    """Draws of a key run: Alice's x and r, Bob's y and e."""
    rng = np.random.default_rng([seed, role == "bob"])
    settings = rng.integers(0, 2, num_rounds)
    if role == "bob":
        settings = np.where(rng.random(num_rounds) < gamma, settings, 2)
    tokens = rng.integers(0, 2, num_rounds)
    return [draw(setting, token) for setting, token in zip(settings.tolist(), tokens.tolist(), strict=True)]


def run_together(*nodes: KernelNode, timeout: float = 120.0) -> None:
    """Run the kernels of both nodes in threads; an exception of one is raised once both have ended."""
    failures: list[BaseException] = []

    def run(node: KernelNode) -> None:
        try:
            node.run()
        except BaseException as error:
            failures.append(error)
        finally:
            node.close()

    threads = [threading.Thread(target=run, args=(node,), daemon=True) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
    if failures:
        raise failures[0]
    assert not any(thread.is_alive() for thread in threads)
