"""The stub of ARTIQ, by itself and against a real installation where there is one."""

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sim_devices import artiq_stub
from sim_devices.drivers import (
    ad9910,
    ad9912,
    cache,
    dma,
    edge_counter,
    entangler,
    fastino,
    ttl,
    urukul,
    zotino,
)
from sim_devices.engines.host import core
from tests.support.fake_apparatus import FakeDevices

needs_artiq = pytest.mark.skipif(artiq_stub.is_stub(), reason="needs a real ARTIQ installation")

STUB = Path(artiq_stub.__file__).parent
# Every module of the stub, so that none can be forgotten.
MODULES = tuple(
    sorted(
        ".".join(path.relative_to(STUB).with_suffix("").parts)
        for path in (STUB / "artiq").rglob("*.py")
        if path.name != "__init__.py"
    )
)

# Lists the public names of the stub in a process that cannot see a real ARTIQ: names of functions with
# their parameters, numbers with their values, classes with their methods.
LIST_STUB = """
import importlib, inspect, json, sys
from sim_devices import artiq_stub
sys.meta_path.insert(0, artiq_stub._StubFinder)
def parameters(function):
    found = inspect.signature(function).parameters.values()
    return [[p.name, p.default if type(p.default) in (int, float, str, bool) else None] for p in found]
def describe(item):
    if inspect.isclass(item):
        methods = {k: parameters(v) for k, v in vars(item).items() if inspect.isfunction(v) and k[0] != "_"}
        return {"methods": methods, "init": parameters(item.__init__) if "__init__" in vars(item) else None}
    if inspect.isfunction(item):
        return parameters(item)
    return item if type(item) in (int, float) else None
result = {}
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    names = getattr(module, "__all__", [n for n in vars(module) if n[0] != "_"])
    result[name] = {n: describe(getattr(module, n)) for n in names}
json.dump(result, sys.stdout)
"""


def parameters(function):
    """Names of a function's parameters with those defaults that are numbers or text."""
    found = inspect.signature(function).parameters.values()
    return [[p.name, p.default if type(p.default) in (int, float, str, bool) else None] for p in found]


@pytest.fixture(scope="module")
def stub_names():
    command = [sys.executable, "-c", LIST_STUB, *MODULES]
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def test_star_import_has_the_names_of_experiments(stub_names):
    wanted = """kernel portable rpc host_only delay delay_mu now_mu at_mu parallel sequential interleave
    HasEnvironment EnvExperiment Experiment NumberValue EnumerationValue StringValue BooleanValue PYONValue
    TInt32 TInt64 TFloat TBool TStr TList TTuple TNone us ms ns s MHz kHz Hz V dB TerminationRequested
    RTIOUnderflow RTIOOverflow"""
    assert not set(wanted.split()) - stub_names["artiq.experiment"].keys()
    assert stub_names["artiq.experiment"]["us"] == pytest.approx(1e-6)


def test_number_values(stub_names):
    from artiq.experiment import NumberValue

    assert NumberValue(3.0, precision=0, step=1, type="int").default() == 3
    assert type(NumberValue(3, precision=0, step=1).default()) is int
    assert type(NumberValue(3).default()) is float
    assert NumberValue(unit="ms").scale == 1e-3
    with pytest.raises(ValueError, match="int"):
        NumberValue(3, type="int")
    with pytest.raises(KeyError):
        NumberValue(3, unit="furlong")


def test_children_share_the_managers():
    from artiq.experiment import EnvExperiment, HasEnvironment

    class Child(HasEnvironment):
        def build(self, value):
            self.value = value
            self.setattr_device("ttl")

        def prepare(self):
            self.value += 1

    class Parent(EnvExperiment):
        def build(self):
            self.child = Child(self, 1)

    class Devices:
        def get(self, key):
            return key

    parent = Parent((Devices(), None, None, {}))
    parent.prepare()
    assert (parent.child.value, parent.child.ttl) == (2, "ttl")
    assert parent.child.kernel_invariants == {"ttl"}
    with pytest.raises(TypeError):
        parent.get_argument("late", None)


@needs_artiq
@pytest.mark.artiq
@pytest.mark.parametrize("name", MODULES)
def test_stub_agrees_with_artiq(stub_names, name):
    module = importlib.import_module(name)
    assert module.__file__ is not None and "artiq_stub" not in module.__file__
    for item_name, described in stub_names[name].items():
        item = getattr(module, item_name)
        if isinstance(described, int | float):
            assert item == described
        elif isinstance(described, list):
            assert parameters(item) == described, item_name
        elif described is not None:
            if described["init"] is not None:
                assert parameters(item.__init__) == described["init"], item_name
            for method, expected in described["methods"].items():
                assert parameters(getattr(item, method)) == expected, f"{item_name}.{method}"


def _drivers():
    """Simulated drivers, ready to use, with the real class of each."""
    devices = FakeDevices()
    devices.add(urukul.CPLD, "cpld", "spi")
    made = [
        devices.get("core"),
        devices.get("cpld"),
        devices.add(ttl.TTLOut, "ttl", 0),
        devices.add(ttl.TTLInOut, "line", 1),
        devices.add(ttl.TTLClockGen, "clock", 6),
        devices.add(edge_counter.EdgeCounter, "counter", 2),
        devices.add(ad9910.AD9910, "ad9910", 4, "cpld", pll_n=32),
        devices.add(ad9912.AD9912, "ad9912", 5, "cpld", pll_n=8),
        devices.add(fastino.Fastino, "fastino", 3),
        devices.add(zotino.Zotino, "zotino", "spi"),
        devices.add(dma.CoreDMA, "dma"),
        devices.add(cache.CoreCache, "cache"),
        devices.add(entangler.Entangler, "entangler", 4),
    ]
    made[3].output()
    return made


def _real_class(driver):
    module = type(driver).__module__.rpartition(".")[2]
    real = "entangler.driver" if module == "entangler" else f"artiq.coredevice.{module}"
    return getattr(pytest.importorskip(real), type(driver).__name__)


OURS = {"close", "run_end_hooks", "timeline", "transfer", "bus_busy", "trace"}


@needs_artiq
@pytest.mark.artiq
@pytest.mark.parametrize("driver", _drivers(), ids=lambda driver: type(driver).__name__)
def test_drivers_have_the_signatures_of_the_real_ones(driver):
    real = _real_class(driver)
    # arguments that came with ARTIQ 9 are there for ARTIQ 8 too, hence no equality
    simulated_init = iter(inspect.signature(type(driver).__init__).parameters)
    assert all(name in simulated_init for name in inspect.signature(real.__init__).parameters)
    methods = [name for name in dir(driver) if name[0] != "_" and inspect.isroutine(getattr(driver, name))]
    for name in set(methods) - OURS:
        expected = list(inspect.signature(getattr(real, name)).parameters)[1:]
        assert list(inspect.signature(getattr(driver, name)).parameters)[: len(expected)] == expected, name


def test_core_is_the_first_device():
    assert type(_drivers()[0]) is core.Core
