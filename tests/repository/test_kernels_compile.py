"""Every kernel of every experiment, through the real ARTIQ compiler, for Kasli and Kasli-SoC.

Nothing is listed by hand: experiments are found in `repository/`, classes with kernels in `diqkd_node`, and
all their kernels are compiled as entry points, with arguments made up from their annotations; of a
calibration's scan only the whole, since its parts are the node's. A failure shows the compiler's own
diagnostic.
"""

import importlib
import inspect
import pkgutil
import runpy
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
from artiq.experiment import EnvExperiment, TBool, TFloat, TInt32, TInt64
from numpy import int32, int64

import diqkd_node
from diqkd_node.calibration.experiment import CalibrationExperiment
from diqkd_node.calibration.scan import Scan
from diqkd_node.configuration import NodeConfiguration
from diqkd_node.run.coordinator import Coordinator
from diqkd_node.sequence.node import Node
from diqkd_postproc.protocol.roles import ROLES
from tests.support.paths import ROOT

EXPERIMENTS = sorted((ROOT / "repository").rglob("*.py"))
HERALD_SOURCES = ("entangler", "ttl")
TARGETS = ("rv32g", "cortexa9")
PROTOCOLS = ("ordered", "late-type")

try:
    from artiq.language.environment import ProcessArgumentManager
    from artiq.master.worker_db import DeviceManager
except ImportError:
    DeviceManager = None

pytestmark = [
    pytest.mark.artiq,
    pytest.mark.skipif(DeviceManager is None, reason="needs a real ARTIQ installation"),
]


class Database:
    """The hardware database of a role, with a core device that compiles and never connects."""

    def __init__(self, role: str, target: str) -> None:
        self.data = runpy.run_path(str(ROOT / "device_db" / f"{role}.py"))["device_db"]
        self.data["core"]["arguments"] |= {"host": None, "target": target}

    def get_device_db(self) -> dict:
        return self.data

    def get(self, key: str, resolve_alias: bool = False):
        return self.data[key]


class Parent(EnvExperiment):
    def build(self) -> None:
        self.setattr_device("core")

    def run(self) -> None:
        pass


def device_manager(role: str, target: str) -> object:
    pytest.importorskip("entangler.driver", reason="needs the entangler-core package")
    scheduler = SimpleNamespace(rid=0, expid={})
    return DeviceManager(Database(role, target), {"scheduler": scheduler, "ccb": None})


def whole_node(
    role: str, herald_source: str, target: str, protocol: str = "ordered", end_token: bool = False
) -> Node:
    parent = Parent((device_manager(role, target), None, None, {}))
    configuration = NodeConfiguration(role=role, attempts={"source": herald_source})
    node = Node(parent, configuration, Coordinator.__new__(Coordinator), None, protocol, end_token)
    node.prepare()
    return node


def experiment_classes(path: Path) -> list[type]:
    """The experiments of a file."""
    return [
        value
        for value in runpy.run_path(str(path)).values()
        if isinstance(value, type) and issubclass(value, EnvExperiment) and value is not EnvExperiment
    ]


def scans(role: str, target: str) -> dict[str, Scan]:
    """The scan of every calibration, with the default arguments, by the file's name."""
    found = {}
    for path in EXPERIMENTS:
        for cls in experiment_classes(path):
            if issubclass(cls, CalibrationExperiment):
                arguments = ProcessArgumentManager({"role": role})
                calibration = cls((device_manager(role, target), None, arguments, {}))
                calibration.prepare()
                found[path.stem] = calibration.scan
    return found


def kernels_of(cls: type) -> list[str]:
    """Names of the methods that run on the core device."""
    found = []
    for name in dir(cls):
        record = getattr(inspect.getattr_static(cls, name), "artiq_embedded", None)
        if record is not None and record.core_name is not None:
            found.append(name)
    return found


def made_up_arguments(kernel) -> tuple:
    """One value for each annotated parameter."""
    values = {str(TInt32): int32(0), str(TInt64): int64(0), str(TFloat): 0.0, str(TBool): False}
    parameters = list(inspect.signature(kernel.artiq_embedded.function).parameters.values())[1:]
    return tuple(values[str(parameter.annotation)] for parameter in parameters)


def parts_of(root: object) -> dict[type, object]:
    """`root` and the `diqkd_node` objects below it, one of each class."""
    pending, parts = [root], {}
    while pending:
        owner = pending.pop()
        if type(owner) not in parts:
            parts[type(owner)] = owner
            pending += [
                part for part in vars(owner).values() if type(part).__module__.startswith("diqkd_node.")
            ]
    return parts


def compile_all(root: object) -> set[type]:
    """Compile every kernel of `root` and of the `diqkd_node` objects below it; their classes."""
    parts = parts_of(root)
    for cls, owner in parts.items():
        for name in kernels_of(cls):
            kernel = getattr(owner, name)
            _, binary, *_ = owner.core.compile(kernel, made_up_arguments(kernel), {})
            assert binary[:4] == b"\x7fELF", name
    return set(parts)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("herald_source", HERALD_SOURCES)
@pytest.mark.parametrize("role", ROLES)
def test_every_kernel_of_a_node_compiles(role: str, herald_source: str, target: str) -> None:
    assert Node in compile_all(whole_node(role, herald_source, target))


@pytest.mark.parametrize("end_token", [False, True])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("role", ROLES)
def test_the_batches_of_either_protocol_compile(
    role: str, protocol: str, target: str, end_token: bool
) -> None:
    node = whole_node(role, "entangler", target, protocol, end_token)
    _, binary, *_ = node.core.compile(node.run_batches, (), {})
    assert binary[:4] == b"\x7fELF"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_kernel_of_an_experiment_compiles(path: Path, role: str, target: str) -> None:
    """Kernels of the experiment class itself; those of its node are compiled above."""
    classes = experiment_classes(path)
    assert classes, f"{path} holds no experiment"
    for cls in classes:
        if not kernels_of(cls):
            continue
        arguments = ProcessArgumentManager({"role": role})
        experiment = cls((device_manager(role, target), None, arguments, {}))
        experiment.prepare()
        for name in kernels_of(cls):
            kernel = getattr(experiment, name)
            _, binary, *_ = experiment.core.compile(kernel, made_up_arguments(kernel), {})
            assert binary[:4] == b"\x7fELF", name


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("role", ROLES)
def test_the_scan_of_every_calibration_compiles(role: str, target: str) -> None:
    found = scans(role, target)
    assert found
    for name, scan in found.items():
        _, binary, *_ = scan.core.compile(scan.run, (), {})
        assert binary[:4] == b"\x7fELF", name


def test_no_class_with_kernels_is_left_out() -> None:
    """A class that neither role's node nor a calibration reaches would escape the tests above."""
    reached: set[type] = set()
    for role in ROLES:
        for herald_source, protocol in product(HERALD_SOURCES, PROTOCOLS):
            reached |= set(parts_of(whole_node(role, herald_source, "rv32g", protocol)))
        for scan in scans(role, "rv32g").values():
            reached |= set(parts_of(scan))
    covered = {base for cls in reached for base in cls.__mro__}
    for module in pkgutil.walk_packages(diqkd_node.__path__, "diqkd_node."):
        for cls in vars(importlib.import_module(module.name)).values():
            if isinstance(cls, type) and cls.__module__ == module.name and kernels_of(cls):
                assert cls in covered, f"{module.name}.{cls.__name__}"
