"""A lab day without the other node: what it leaves when it is ended, and when it needs nobody any more."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diqkd.demo.ports import reserved_ports
from diqkd.lab_day.run import NUM_PORTS
from diqkd_node.unattended.decision_log import read_decisions
from sim_devices.artiq_run import ArgumentManager, DatasetManager, TerminationRequested, load_experiment
from tests.support.example_parameters import small_parameters
from tests.support.paths import ROOT

FILE = ROOT / "repository" / "lab_day.py"
KEY_RUN, HOLD, CALIBRATION = 3, 4, 5


class Schedule:
    """The device "scheduler" of a lab day that finds what an earlier start has left; it is asked to end after
    so many looks."""

    rid, pipeline_name, priority = 6, "lab_day", 0

    def __init__(self, directory: Path, looks: int) -> None:
        self.expid = {"file": str(FILE), "class_name": None, "arguments": {}}
        self.looks = looks
        self.terminated: list[int] = []
        own = {"role": "alice", "configuration_file": str(directory / "node.json")}
        arguments = {
            KEY_RUN: ("key_generation.py", own | {"run_directory": str(directory)}),
            HOLD: ("hold.py", own),
            CALIBRATION: ("pi_pulse_time.py", own),
        }
        self.entries = {
            number: {"status": "running", "expid": {"file": file, "arguments": given}}
            for number, (file, given) in arguments.items()
        }

    def get_status(self) -> dict[int, Any]:
        return dict(self.entries)

    def check_pause(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def pause(self) -> None:
        raise TerminationRequested

    def request_termination(self, number: int) -> None:
        self.terminated.append(number)
        del self.entries[number]


class Devices:
    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def get_device_db(self) -> dict[str, Any]:
        return {}

    def get(self, name: str) -> Schedule:
        assert name == "scheduler"
        return self.schedule


@pytest.fixture
def port() -> Iterator[int]:
    """Port of a lab day for which nobody listens."""
    with reserved_ports(NUM_PORTS) as first:
        yield first


def lab_day(directory: Path, schedule: Schedule, port: int) -> Any:
    """Alice's lab day, prepared."""
    small_parameters(400).save(directory / "parameters.toml")
    arguments = {
        "parameters_file": str(directory / "parameters.toml"),
        "run_directory": str(directory),
        "configuration_file": str(directory / "node.json"),
        "peer_port": port,
    }
    managers = (Devices(schedule), DatasetManager(lambda key, value: None), ArgumentManager(arguments), {})
    experiment = load_experiment(FILE)(managers)
    experiment.prepare()
    return experiment


def test_a_lab_day_that_is_ended_while_it_waits_takes_its_key_run_with_it(tmp_path: Path, port: int) -> None:
    schedule = Schedule(tmp_path, looks=3)
    with pytest.raises(TerminationRequested):
        lab_day(tmp_path, schedule, port).run()
    assert schedule.terminated == [HOLD, KEY_RUN]
    assert [entry["event"] for entry in read_decisions(tmp_path)] == ["terminated"]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_lab_day_with_a_sealed_record_waits_for_nobody(tmp_path: Path, port: int, when: str) -> None:
    schedule = Schedule(tmp_path, looks=50)
    record = tmp_path / "record.h5"
    if when == "before":
        record.touch()
    else:
        check_pause = schedule.check_pause
        schedule.check_pause = lambda: record.touch() or check_pause()  # type: ignore[func-returns-value]
    lab_day(tmp_path, schedule, port).run()
    assert schedule.terminated == [HOLD]
    assert read_decisions(tmp_path)[-1]["event"] == "finish"
