"""A lab day under two real masters: hold and calibration pause the key run by their priorities alone."""

import json

import pytest

from diqkd.lab_day.run import NUM_PORTS
from diqkd_node.unattended.calibration_graph import CALIBRATIONS, CalibrationGraph
from diqkd_node.unattended.decision_log import read_decisions

pytestmark = pytest.mark.artiq


def test_a_lab_day_calibrates_pauses_and_finishes(masters, programs, parameters_file, tmp_path):
    frequency = next(item for item in CALIBRATIONS if item.name == "frequency_map")
    # Old after a few seconds, so that there is a pause within the 400 rounds, too.
    entry = json.loads(CalibrationGraph([frequency]).to_json())[0]
    entry["arguments"] = {"transition": "map", "num_points": 11, "num_shots": 20}
    entry |= {"max_age_s": 8.0, "duration_s": 100.0}
    calibrations = tmp_path / "calibrations.json"
    calibrations.write_text(json.dumps([entry]))
    port = programs.reserve(NUM_PORTS)
    rids = {
        role: master.submit(
            "lab_day.py",
            pipeline="lab_day",
            parameters_file=str(parameters_file),
            run_directory=str(tmp_path / role),
            configuration_file=str(tmp_path / f"{role}.json"),
            calibrations_file=str(calibrations),
            batch_rounds=50,
            poll_interval=0.1,
            peer_port=port,
        )
        for role, master in masters.items()
    }
    for role, master in masters.items():
        master.wait_until_done(rids[role], timeout_s=300.0)
        assert "ERROR" not in master.log, master.log[-3000:]
        assert master.schedule() == {}
        assert master.dataset("diqkd.rounds_done") == 400
        events = [entry["event"] for entry in read_decisions(tmp_path / role)]
        assert events[-1] == "finish" and "calibrated" in events, events
        assert events.index("calibrated") < events.index("start")
        assert (tmp_path / role / "record.h5").exists()


def test_the_pipeline_of_the_core_device_is_refused(masters):
    master = masters["alice"]
    master.wait_until_done(master.submit("lab_day.py"))
    assert "submit it to another, such as lab_day" in master.log
