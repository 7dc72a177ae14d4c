"""Calibrations as compiled code find what the host engine finds: the same draws, the same counts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diqkd_node.calibration.result import CalibrationResult
from sim_devices.artiq_run import run_experiment
from sim_devices.engines.kasli import missing
from tests.support.paths import ROOT

NATURE = {"alice": {"qubit_pi_time": 5.6e-6, "electrode_time_constant": 24e-6, "photon_lifetime": 9e-9}}

pytestmark = [
    pytest.mark.artiq,
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]


def calibrate(
    name: str, engine: str, directory: Path, monkeypatch: pytest.MonkeyPatch, **arguments: Any
) -> CalibrationResult:
    pytest.importorskip("entangler.driver", reason="needs the entangler-core package")
    file = directory / "nature.json"
    file.write_text(json.dumps(NATURE))
    monkeypatch.setenv("DIQKD_NATURE", str(file))
    monkeypatch.setenv("DIQKD_NODE_SEED", "5")
    monkeypatch.setenv("DIQKD_LABORATORY", "127.0.0.1:1")
    datasets: dict[str, Any] = {}
    run_experiment(
        ROOT / "repository" / "calibrations" / f"{name}.py",
        None,
        ROOT / "device_db" / f"alice_{engine}.py",
        {"result_directory": str(directory / engine), **arguments},
        dataset_sink=datasets.__setitem__,
    )
    return CalibrationResult.load(Path(datasets[f"calibration.{name}.result_file"]))


@pytest.mark.parametrize(
    ("name", "arguments", "quantity"),
    [
        ("pi_pulse_time", {"num_points": 21, "num_shots": 40}, "pi_time"),
        ("scrambling_time", {"num_points": 12, "num_shots": 40}, "time_constant"),
        ("photon_arrival", {"num_attempts": 4000}, "lifetime"),
        ("isolation_transient", {"num_shots": 500}, "electrode_time_constant"),
    ],
)
def test_both_engines_find_the_same(
    name: str, arguments: dict[str, Any], quantity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, compiled = (
        calibrate(name, engine, tmp_path, monkeypatch, **arguments) for engine in ("sim", "compiled")
    )
    found, expected = compiled.finding.quantities[quantity], host.finding.quantities[quantity]
    # A difference of rounding may let a shot fall on the other side of a draw.
    assert abs(found.value - expected.value) < 0.2 * expected.standard_error
    counts = [np.array(result.finding.figure["series"][0]["y"]) for result in (host, compiled)]
    assert np.count_nonzero(np.abs(counts[0] - counts[1]) > 1e-12) <= 0.2 * counts[0].size
