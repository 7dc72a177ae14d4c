"""The simulated master against what `artiq_master` does with the same experiments."""

import threading
from pathlib import Path

import pytest

from sim_devices.artiq_master import SimulatedMaster, main

EXPERIMENTS = """
from artiq.experiment import *

class Diary(EnvExperiment):
    def build(self):
        self.setattr_device("scheduler")
        self.setattr_argument("name", StringValue("diary"))
        self.setattr_argument("submits", PYONValue([]))

    def note(self, what):
        self.set_dataset("diary", f"{self.name} {what}", broadcast=True)

    def run(self):
        self.note("begins")
        for name, priority in self.submits:
            expid = self.scheduler.expid | {"arguments": {"name": name}}
            self.scheduler.submit(expid=expid, priority=priority)
        if self.scheduler.check_pause():
            self.note("pauses")
            self.scheduler.pause()
        self.note("ends")

class Failing(Diary):
    def run(self):
        raise ValueError("as it must")

class Endless(Diary):
    def run(self):
        self.note("begins")
        while True:
            self.scheduler.pause()

class Ending(Diary):
    def run(self):
        others = [rid for rid in self.scheduler.get_status() if rid != self.scheduler.rid]
        for rid in others:
            self.scheduler.request_termination(rid)
        self.note(f"ended {len(others)}")
"""

READER = """
from artiq.experiment import *

class Reader(EnvExperiment):
    def run(self):
        seen, unseen = self.get_dataset("diary"), self.get_dataset("no diary", "nothing", archive=False)
        self.set_dataset("diary", f"read {seen} and {unseen}", broadcast=True)
"""


@pytest.fixture
def master(tmp_path: Path):
    (tmp_path / "diary.py").write_text(EXPERIMENTS)
    (tmp_path / "devices.py").write_text("device_db = {}\n")
    made = SimulatedMaster(tmp_path / "devices.py", lambda key, value: made.diary.append(value))
    made.diary = []
    return made


class Diary(list):
    """A list that sets an event when the first line is written."""

    def __init__(self, begun):
        super().__init__()
        self.begun = begun

    def append(self, line):
        super().append(line)
        self.begun.set()


def submit(master, tmp_path, class_name="Diary", pipeline="main", priority=0, **arguments):
    expid = {"file": str(tmp_path / "diary.py"), "class_name": class_name, "arguments": arguments}
    return master.submit(pipeline, expid, priority)


def test_higher_priorities_run_first_and_within_a_pause(master, tmp_path):
    submit(master, tmp_path, name="low", submits=[["same", 0], ["higher", 5], ["highest", 10]])
    master.run()
    assert master.diary == [
        *("low begins", "low pauses", "highest begins", "highest ends", "higher begins", "higher ends"),
        *("low ends", "same begins", "same ends"),
    ]
    assert master.failures == [] and master.status() == {}


def test_what_waits_runs_by_priority_then_in_order(master, tmp_path):
    for name, priority in (("a", 0), ("b", 1), ("c", 1), ("d", 0)):
        submit(master, tmp_path, name=name, priority=priority)
    # The first that runs has nobody above it; each is over before the next begins.
    master.run()
    assert [line for line in master.diary if "begins" in line] == [
        *("b begins", "c begins", "a begins", "d begins")
    ]


def test_pipelines_run_side_by_side_and_terminate_each_other(master, tmp_path):
    begun = threading.Event()
    master.diary = Diary(begun)
    submit(master, tmp_path, "Endless", name="endless")
    waiting = submit(master, tmp_path, name="never")
    thread = threading.Thread(target=master.run)
    thread.start()
    assert begun.wait(300.0)
    assert master.status()[waiting]["status"] == "pending"
    submit(master, tmp_path, "Ending", pipeline="other", name="ending")
    thread.join(300.0)
    assert not thread.is_alive()
    assert master.diary == ["endless begins", "ending ended 2"]
    assert master.failures == []


def test_a_failure_is_kept_and_does_not_stop_the_others(master, tmp_path):
    rid = submit(master, tmp_path, "Failing")
    submit(master, tmp_path, name="next", wrong=1)
    submit(master, tmp_path, name="last")
    master.run()
    assert [number for number, _ in master.failures] == [rid, rid + 1]
    assert "has no argument 'wrong'" in str(master.failures[1][1])
    assert master.diary == ["last begins", "last ends"]


def test_a_request_to_stop_reaches_every_experiment(tmp_path, master):
    begun = threading.Event()
    stopped = SimulatedMaster(tmp_path / "devices.py", lambda key, value: begun.set(), begun.is_set)
    submit(stopped, tmp_path, "Endless", pipeline="other", name="endless")
    submit(stopped, tmp_path, "Endless", name="endless too")
    stopped.run()
    assert stopped.status() == {} and stopped.failures == []


def test_datasets_of_one_experiment_are_read_by_another(master, tmp_path):
    (tmp_path / "reader.py").write_text(READER)
    submit(master, tmp_path, name="writer")
    master.submit("main", {"file": str(tmp_path / "reader.py")})
    master.run()
    assert master.diary == ["writer begins", "writer ends", "read writer ends and nothing"]


def test_as_a_program(tmp_path, master, capsys):
    command = ["--device-db", str(tmp_path / "devices.py"), str(tmp_path / "only.py")]
    (tmp_path / "only.py").write_text(EXPERIMENTS.split("class Failing")[0])
    assert main([*command, "name=me"]) == 0
    printed = capsys.readouterr()
    assert '{"dataset": "diary", "value": "me ends"}' in printed.err
    assert printed.out == '{"failures": []}\n'
    assert main([*command, "no_such=1"]) == 2
    assert "has no argument 'no_such'" in capsys.readouterr().err
