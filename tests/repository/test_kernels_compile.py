"""Every kernel of both nodes, through the real ARTIQ compiler for the core device's processor."""

import runpy
from pathlib import Path

import pytest

from diqkd_node.configuration import NodeConfiguration
from sim_devices import artiq_stub

artiq_stub.install()

from artiq.experiment import EnvExperiment  # noqa: E402

from diqkd_node.coordinator import Coordinator  # noqa: E402
from diqkd_node.node import Node  # noqa: E402

DIRECTORY = Path(__file__).parents[2] / "device_db"

try:
    from artiq.master.worker_db import DeviceManager
except ImportError:
    DeviceManager = None

pytestmark = [
    pytest.mark.artiq,
    pytest.mark.skipif(DeviceManager is None, reason="needs a real ARTIQ installation"),
]


class Database:
    def __init__(self, role: str) -> None:
        self.data = runpy.run_path(str(DIRECTORY / f"{role}.py"))["device_db"]
        # Without an address the core device driver compiles and does not connect.
        self.data["core"]["arguments"]["host"] = None

    def get_device_db(self) -> dict:
        return self.data

    def get(self, key: str, resolve_alias: bool = False):
        return self.data[key]


class Parent(EnvExperiment):
    def build(self) -> None:
        self.setattr_device("core")

    def run(self) -> None:
        pass


def node(role: str, **settings: str) -> tuple:
    pytest.importorskip("entangler.driver")
    parent = Parent((DeviceManager(Database(role)), None, None, {}))
    coordinator = Coordinator.__new__(Coordinator)
    result = Node(parent, NodeConfiguration(role=role, **settings), coordinator)
    result.prepare()
    return parent.core, result


@pytest.mark.parametrize("herald_source", ["entangler", "ttl"])
@pytest.mark.parametrize("role", ["alice", "bob"])
def test_the_run_compiles(role: str, herald_source: str) -> None:
    core, alone = node(role, herald_source=herald_source)
    _, binary, *_ = core.compile(alone.run_batches, (), {})
    assert binary[:4] == b"\x7fELF"


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_every_step_compiles_on_its_own(role: str) -> None:
    """A calibration may use any step alone; those that take no argument are entry points."""
    core, whole = node(role)
    steps = [value for value in vars(whole).values() if type(value).__module__.startswith("diqkd_node.")]
    compiled = []
    for step in [whole, *steps]:
        for name in dir(type(step)):
            function = getattr(step, name)
            record = getattr(function, "artiq_embedded", None)
            if record is None or record.core_name is None:
                continue
            if record.function.__code__.co_argcount == 1:
                core.compile(function, (), {})
                compiled.append(name)
    assert {"search", "synchronise", "disconnect", "reconnect", "detect", "scramble", "present"} <= set(
        compiled
    )
