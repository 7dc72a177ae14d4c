"""Running experiment files: lifecycle, devices, arguments, datasets, termination; clear errors."""

import textwrap

import pytest
from artiq.language.core import TerminationRequested

from diqkd_postproc.protocol.errors import ParameterError
from sim_devices.artiq_run import (
    DeviceDatabase,
    DeviceError,
    DeviceManager,
    load_experiment,
    parse_arguments,
    run_experiment,
)

DEVICE_DB = """
device_db = {
    "core": {"type": "local", "module": "sim_devices.engines.host.core", "class": "Core", "arguments": {}},
    "apparatus": {"type": "local", "module": "tests.support.fake_apparatus", "class": "Apparatus"},
    "ttl": {
        "type": "local", "module": "sim_devices.drivers.ttl", "class": "TTLOut",
        "arguments": {"channel": 0, "key": "ttl"},
    },
    "cooling": "light",
    "light": "ttl",
    "lost": "nowhere",
    "round": "about",
    "about": "round",
    "unimportable": {"type": "local", "module": "no.such.module", "class": "Any"},
    "classless": {"type": "local", "module": "sim_devices.drivers.ttl", "class": "TTLMaybe"},
    "misconfigured": {
        "type": "local", "module": "sim_devices.drivers.ttl", "class": "TTLOut", "arguments": {"chanel": 1},
    },
    "strange": {"type": "quantum"},
}
"""

EXPERIMENT = '''
from artiq.experiment import *

stages = []


class Pulses(EnvExperiment):
    """Pulses"""

    def build(self):
        self.setattr_device("core")
        self.setattr_device("cooling")
        self.setattr_device("scheduler")
        self.setattr_argument("num_pulses", NumberValue(3, min=1, max=10, precision=0, step=1, type="int"))
        self.setattr_argument("role", EnumerationValue(["alice", "bob"], default="alice"))
        self.setattr_argument("name", StringValue("7"))
        self.setattr_argument("dry", BooleanValue(False))
        self.setattr_argument("duration", NumberValue(default=1 * us, unit="us"))
        stages.append("build")

    def prepare(self):
        stages.append("prepare")

    def run(self):
        self.pulse()
        self.set_dataset("public", [], broadcast=True)
        self.append_to_dataset("public", 1)
        self.mutate_dataset("public", 0, 5)
        self.set_dataset("local", 2)
        assert self.get_dataset("local") == 2
        assert self.get_dataset("none", default=4) == 4
        stages.append((self.num_pulses, self.role, self.name, self.dry, self.duration, self.scheduler.rid))
        if self.scheduler.check_pause():
            self.scheduler.pause()

    @kernel
    def pulse(self):
        self.core.reset()
        for _ in range(self.num_pulses):
            self.cooling.pulse(self.duration)
            delay(1 * us)

    def analyze(self):
        stages.append("analyze")


class _Private(EnvExperiment):
    pass
'''


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Paths of an experiment and of a device_db; the apparatus of the latter is a fake one."""
    from tests.support import fake_apparatus

    class Apparatus(fake_apparatus.FakeApparatus):
        closed = 0

        def __init__(self, dmgr):
            super().__init__()

        def close(self):
            Apparatus.closed += 1

    monkeypatch.setattr(fake_apparatus, "Apparatus", Apparatus, raising=False)
    experiment, device_db = tmp_path / "pulses.py", tmp_path / "device_db.py"
    experiment.write_text(textwrap.dedent(EXPERIMENT))
    device_db.write_text(DEVICE_DB)
    return experiment, device_db


def stages_of_last_run():
    import sys

    return sys.modules["artiq_run_pulses"].stages


def test_lifecycle_arguments_and_datasets(files):
    experiment, device_db = files
    published = []
    arguments = parse_arguments(["num_pulses=4", "role=bob", "dry=true", "duration=2e-6"])
    run_experiment(
        experiment, "Pulses", device_db, arguments, lambda key, value: published.append((key, list(value)))
    )
    values = (4, "bob", "7", True, 2e-6, 0)
    assert stages_of_last_run() == ["build", "prepare", values, "analyze"]
    assert published == [("public", []), ("public", [1]), ("public", [5])]


def test_the_only_experiment_needs_no_name(files):
    assert load_experiment(files[0]).__name__ == "Pulses"


def test_termination_comes_through_and_closes_devices(files):
    from tests.support import fake_apparatus

    with pytest.raises(TerminationRequested):
        run_experiment(files[0], None, files[1], {}, stop_requested=lambda: True)
    assert stages_of_last_run()[-1] != "analyze"
    assert fake_apparatus.Apparatus.closed == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_pulses": 11}, "'num_pulses' is 11; the allowed range is 1 to 10"),
        ({"num_pulses": "many"}, "'num_pulses' cannot be 'many'"),
        ({"role": "eve"}, "'role' cannot be 'eve': choose one of alice, bob"),
        ({"dry": 1}, "'dry' cannot be 1"),
        ({"pulses": 1}, r"no argument 'pulses'; it has: dry, duration, name, num_pulses, role"),
    ],
)
def test_wrong_arguments(files, arguments, message):
    with pytest.raises(ParameterError, match=message):
        run_experiment(files[0], "Pulses", files[1], arguments)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("ttk", r"no device 'ttk' in .*device_db\.py; it has: about, apparatus, classless, cooling"),
        ("lost", r"no device 'nowhere' \(for which 'lost' stands\)"),
        ("round", "leads back to itself"),
        ("unimportable", r"'unimportable' in .*: cannot import module 'no\.such\.module'"),
        ("classless", "has no class 'TTLMaybe'"),
        ("misconfigured", "'misconfigured' in .*: TTLOut: .*chanel"),
        ("strange", "has type 'quantum'"),
    ],
)
def test_wrong_devices(files, device, message):
    manager = DeviceManager(DeviceDatabase(files[1]))
    with pytest.raises(DeviceError, match=message):
        manager.get(device)


def test_aliases_are_one_device(files):
    manager = DeviceManager(DeviceDatabase(files[1]))
    assert manager.get("cooling") is manager.get("ttl") is manager.get("light")
    assert manager.get_desc("cooling")["class"] == "TTLOut"


def test_missing_files_and_classes(files, tmp_path):
    with pytest.raises(ParameterError, match=r"none\.py not found"):
        run_experiment(tmp_path / "none.py", None, files[1], {})
    with pytest.raises(DeviceError, match="not found"):
        run_experiment(files[0], None, tmp_path / "none.py", {})
    with pytest.raises(ParameterError, match=r"no experiment 'Pulse'; pulses\.py has: Pulses"):
        load_experiment(files[0], "Pulse")
    empty = tmp_path / "empty.py"
    empty.write_text("")
    with pytest.raises(ParameterError, match="has: none"):
        load_experiment(empty)
    with pytest.raises(DeviceError, match="does not define"):
        DeviceDatabase(empty)


def test_arguments_on_the_command_line():
    assert parse_arguments(["a=1", "b=true", 'c="x"', "d=x=y", "e=[1, 2]", "f=-0.5"]) == {
        "a": 1,
        "b": True,
        "c": "x",
        "d": "x=y",
        "e": [1, 2],
        "f": -0.5,
    }
    with pytest.raises(ParameterError, match="KEY=VALUE"):
        parse_arguments(["role"])
