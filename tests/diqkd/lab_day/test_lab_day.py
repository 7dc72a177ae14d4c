"""A short lab day as a user runs it: it ends by itself, with all rounds, and calibrations find the drift."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from diqkd.cli import main
from diqkd.lab_day.evaluation import load
from diqkd.lab_day.figure import draw
from diqkd_node.unattended.calibration_graph import CALIBRATIONS, CalibrationGraph
from diqkd_node.unattended.decision_log import read_decisions
from sim_devices.physics.constants import TRANSITIONS
from sim_devices.physics.drift import Drift

HOURS, NUM_ROUNDS = 1.5, 3000
MAP = TRANSITIONS[0][0]


@pytest.fixture(scope="module")
def day(tmp_path_factory) -> Path:
    """Directory of a day with one calibration, that of a transition's frequency."""
    folder = tmp_path_factory.mktemp("day")
    frequency = next(item for item in CALIBRATIONS if item.name == "frequency_map")
    calibrations = folder / "calibrations.json"
    calibrations.write_text(CalibrationGraph([frequency]).to_json())
    command = ["lab-day", "--hours", str(HOURS), "--rounds", str(NUM_ROUNDS), "--seed", "7", "--json"]
    command += ["--herald-probability", "0.02", "--calibrations", str(calibrations)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main([*command, "--progress", "none", "--run-dir", str(folder / "run")]) == 0
    summary = json.loads(printed.getvalue())
    assert summary["num_rounds"] == NUM_ROUNDS and summary["lost_rounds"] < 30
    assert summary["num_calibrations"] >= 4 and summary["num_pauses"] >= 2
    return folder / "run"


def test_calibrations_follow_the_drift(day):
    """At the end of every calibration the configured frequency is the true one within six errors."""
    drift = Drift.from_json((day / "drift.json").read_text())
    start = min(entry["unix"] for entry in read_decisions(day / "alice"))
    offsets = []
    for role in ("alice", "bob"):
        for path in sorted((day / role / "calibrations").rglob("*.json")):
            finding = json.loads(path.read_text())["finding"]
            offsets.append(MAP - finding["settings"]["analysis.frequency_map"])
            assert finding["quantities"]["frequency"]["standard_error"] < 1000.0
        configured = json.loads((day / role / "node.json").read_text())["analysis"]["frequency_map"]
        done = [entry["unix"] for entry in read_decisions(day / role) if entry["event"] == "calibrated"]
        # The laboratory's clock is at most this far ahead of the pulses: the rounds that were granted.
        around = [drift.state(done[-1] - start + shift).frequency_offset for shift in (-400.0, 0.0, 60.0)]
        assert min(around) - 2000.0 < MAP - configured < max(around) + 2000.0
    assert np.ptp(offsets) > 500.0


def test_decisions_tell_the_story_in_order(day):
    for role in ("alice", "bob"):
        events = [entry["event"] for entry in read_decisions(day / role)]
        assert events[0] == "met" and events[-1] == "finish"
        assert events.count("resume") == events.count("propose") + events.count("agree")
        assert events.index("calibrated") < events.index("start")
        lines = (day / role / "decisions.log").read_text().splitlines()
        assert len(lines) == len(events)
    pauses = [
        [entry["reason"] for entry in read_decisions(day / role) if entry["event"] == "resume"]
        for role in ("alice", "bob")
    ]
    assert pauses[0] == pauses[1]


def test_the_evaluation_has_the_gaps_and_a_picture(day, tmp_path):
    evaluation = load(day)
    laser = [gap for gap in evaluation["gaps"] if gap["reason"].startswith("674")]
    assert sum(gap["end_s"] - gap["start_s"] for gap in laser) > 200.0  # of 270 s without it
    assert sorted(evaluation["times_s"]) == evaluation["times_s"]
    assert evaluation["rounds"][-1] == NUM_ROUNDS
    picture = draw(evaluation, tmp_path / "day.png", evaluation)
    assert picture.stat().st_size > 20_000
    assert (day / "day.png").stat().st_size > 20_000


def test_wrong_input_is_named_before_anything_starts(tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for options, message in (
        (["--hours", "0"], "hours=0.0"),
        (["--gamma", "1/3"], "gamma=1/3"),
        (["--run-dir", str(tmp_path / "full")], "is not empty"),
        (["--compare", str(tmp_path)], "holds no finished day"),
    ):
        assert main(["lab-day", "--run-dir", str(tmp_path / "new"), *options]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
