"""What the lab day stands on: its experiments in a schedule, the greeting, the log of decisions."""

import threading

import pytest

from diqkd_node.unattended.calibration_graph import Calibration, CalibrationGraph
from diqkd_node.unattended.decision_log import DecisionLog, read_decisions
from diqkd_node.unattended.decisions import Note
from diqkd_node.unattended.pause_connection import PauseConnection
from diqkd_node.unattended.scheduled_work import HOLD_PRIORITY, ScheduledWork
from diqkd_postproc.protocol.errors import ParameterError, RemoteProtocolError
from tests.support.joined_connections import joined

GRAPH = CalibrationGraph([Calibration(name="a", file="a.py", max_age_s=60.0)])
OTHER = CalibrationGraph([Calibration(name="a", file="a.py", max_age_s=61.0)])


class Scheduler:
    """Keeps what is submitted; statuses are set by the test."""

    def __init__(self):
        self.expid = {
            "file": "lab_day.py",
            "class_name": None,
            "arguments": {},
            "log_level": 20,
            "repo_rev": "x",
        }
        self.schedule = {}
        self.terminated = []

    def submit(self, pipeline, expid, priority, due_date, flush):
        number = 7 + len(self.schedule)
        self.schedule[number] = {
            "expid": expid,
            "status": "pending",
            "priority": priority,
            "pipeline": pipeline,
        }
        return number

    def get_status(self):
        return dict(self.schedule)

    def request_termination(self, number):
        self.terminated.append(number)


def test_experiments_stand_beside_the_lab_day_and_are_found_again():
    scheduler = Scheduler()
    work = ScheduledWork(scheduler)
    number = work.submit("hold.py", "", {"role": "bob"}, HOLD_PRIORITY)
    entry = scheduler.schedule[number]
    # The revision and the log level are those of the lab day.
    assert entry["expid"] == scheduler.expid | {"file": "hold.py", "arguments": {"role": "bob"}}
    assert (entry["pipeline"], entry["priority"]) == ("main", HOLD_PRIORITY)
    scheduler.expid["file"] = "/home/lab/repository/lab_day.py"
    beside = scheduler.schedule[work.submit("hold.py", "", {}, 0)]["expid"]["file"]
    assert beside.replace("\\", "/") == "/home/lab/repository/hold.py"
    again = ScheduledWork(scheduler)
    assert again.find("hold.py", {"role": "bob"}) == number
    assert again.find("hold.py", {"role": "alice"}) is None
    assert again.find("key_generation.py", {}) is None


def test_an_experiment_is_followed_from_submission_to_its_end():
    scheduler = Scheduler()
    work = ScheduledWork(scheduler)
    number = work.calibrate(GRAPH["a"], {"role": "bob"})
    work.refresh()
    assert work.exists(number) and not work.started(number)
    scheduler.schedule[number]["status"] = "running"
    work.refresh()
    assert work.started(number)
    work.end(number)
    assert scheduler.terminated == [number]
    del scheduler.schedule[number]
    work.refresh()
    work.end(number)
    work.end(None)
    assert not work.exists(number) and scheduler.terminated == [number]


def test_an_experiment_can_be_ended_right_after_its_submission():
    """A hold that stayed would keep that of the next pause, and with it every calibration, from beginning."""
    scheduler = Scheduler()
    work = ScheduledWork(scheduler)
    number = work.submit("hold.py", "", {}, HOLD_PRIORITY)
    work.end(number)
    assert scheduler.terminated == [number]


def greet(*sides):
    """Both ends greet; what each returned or raised."""
    results = [None, None]
    connections = joined(PauseConnection)

    def one(index):
        try:
            results[index] = connections[index].greet(*sides[index])
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=one, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300.0)
    for connection in connections:
        connection.close()
    return results


def test_nodes_that_meet_again_count_pauses_from_the_larger_number():
    assert greet(("alice", GRAPH, 3), ("bob", GRAPH, 4)) == [4, 4]


@pytest.mark.parametrize(
    ("bob", "message"),
    [(("bob", OTHER, 0), "different calibrations"), (("alice", GRAPH, 0), "both nodes are alice")],
)
def test_nodes_that_do_not_belong_together_both_learn_it(bob, message):
    for error in greet(("alice", GRAPH, 0), bob):
        assert isinstance(error, ParameterError | RemoteProtocolError) and message in str(error)


def test_decisions_are_logged_for_people_and_programs(tmp_path):
    echoed = []
    with DecisionLog(tmp_path, "bob", echoed.append) as log:
        log.write(
            0.0, 12_345, Note("propose", "pause 1:\nfrequency", {"due": {"frequency": "old"}, "event": "x"})
        )
    with DecisionLog(tmp_path, "bob") as log:
        log.write(60.0, 12_345, Note("resume", "pause 1 is over"))
    with open(tmp_path / "decisions.jsonl", "a", encoding="utf-8") as file:
        file.write('{"unix": 61')
    entries = read_decisions(tmp_path)
    assert [entry["event"] for entry in entries] == ["propose", "resume"]
    assert entries[0]["due"] == {"frequency": "old"} and entries[0]["rounds"] == 12_345
    lines = (tmp_path / "decisions.log").read_text().splitlines()
    assert lines[0] == "1970-01-01 00:00:00  round    12,345  propose     pause 1: frequency"
    assert len(lines) == 2 and echoed == ["propose: pause 1: frequency"]
