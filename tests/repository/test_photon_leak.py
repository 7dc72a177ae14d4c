"""The leak experiment on a simulated node alone: it finds what was planted there."""

import json
from pathlib import Path
from typing import Any

import pytest

from diqkd_node.calibration.fits.photon_leak import DETECTION_EFFICIENCY
from diqkd_node.calibration.result import CalibrationResult
from sim_devices.artiq_run import run_experiment
from sim_devices.physics import constants
from tests.support.paths import ROOT

READOUT_TIME = 250e-6


@pytest.mark.parametrize(("role", "floor"), [("alice", 4e-4), ("bob", 1e-6)])
def test_planted_leak(role: str, floor: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 5 standard errors (false alarm 6e-7), of which the mapping's few percent are no part."""
    (tmp_path / "nature.json").write_text(json.dumps({role: {"coupling_floor": floor}}))
    monkeypatch.setenv("DIQKD_NATURE", str(tmp_path / "nature.json"))
    monkeypatch.setenv("DIQKD_NODE_SEED", "21")
    monkeypatch.setenv("DIQKD_LABORATORY", "127.0.0.1:1")
    datasets: dict[str, Any] = {}
    run_experiment(
        ROOT / "repository" / "calibrations" / "photon_leak.py",
        None,
        ROOT / "device_db" / f"{role}_sim.py",
        {"role": role, "result_directory": str(tmp_path), "num_shots": 4000},
        dataset_sink=datasets.__setitem__,
    )
    result = CalibrationResult.load(Path(datasets["calibration.photon_leak.result_file"]))
    leak = result.finding.quantities["leaked_photons"]
    connected = constants.STATION_COUNT_RATE * READOUT_TIME / DETECTION_EFFICIENCY
    assert abs(leak.value - floor * connected) < 5 * leak.standard_error + 0.03 * floor * connected
    assert (leak.low > 0) == (floor > 1e-5) and bool(result.finding.notes) == (floor > 1e-5)
    found = result.finding.quantities["photons_when_connected"]
    assert abs(found.value - connected) < 5 * found.standard_error + 0.03 * connected
    dark = result.finding.quantities["dark_clicks"]
    expected = constants.STATION_DARK_RATE * READOUT_TIME
    assert abs(dark.value - expected) < 5 * dark.standard_error + 0.03 * floor * connected
