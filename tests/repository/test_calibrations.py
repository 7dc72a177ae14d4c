"""Calibration experiments on a simulated node alone: they find what was planted there.

No laboratory runs. Tolerances are five standard errors: false alarm 6e-7 a value; the draws are seeded.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diqkd_postproc.calibration.result import CalibrationResult
from diqkd_postproc.errors import ParameterError
from sim_devices.runner import TerminationRequested, run_experiment

ROOT = Path(__file__).parents[2]
Calibrate = Callable[..., CalibrationResult]


@pytest.fixture
def calibrate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calibrate:
    """Run an experiment on a node of a given nature; returns its result."""

    def run(
        name: str, role: str = "alice", nature: dict[str, Any] | None = None, **arguments: Any
    ) -> CalibrationResult:
        file = tmp_path / "nature.json"
        file.write_text(json.dumps({role: nature or {}}))
        monkeypatch.setenv("DIQKD_NATURE", str(file))
        monkeypatch.setenv("DIQKD_NODE_SEED", "20")
        monkeypatch.setenv("DIQKD_LABORATORY", "127.0.0.1:1")
        datasets: dict[str, Any] = {}
        run_experiment(
            ROOT / "repository" / f"{name}.py",
            None,
            ROOT / "device_db" / f"{role}_sim.py",
            {"role": role, "result_directory": str(tmp_path / "results"), **arguments},
            dataset_sink=datasets.__setitem__,
        )
        path = Path(datasets[f"calibration.{name}.result_file"])
        assert path.with_suffix(".png").stat().st_size > 5000
        return CalibrationResult.load(path)

    return run


def assert_found(result: CalibrationResult, name: str, truth: float, precision: float) -> None:
    """Within five standard errors of the truth, and these are no larger than `precision`."""
    quantity = result.finding.quantities[name]
    assert quantity.standard_error <= precision
    assert abs(quantity.value - truth) <= 5 * quantity.standard_error, quantity
    assert result.finding.goodness_of_fit.p_value > 1e-4


@pytest.mark.parametrize("transition", ["map", "qubit", "shelve"])
def test_pi_time_of_each_transition(calibrate: Calibrate, transition: str) -> None:
    truth = {"map": 4.6e-6, "qubit": 5.7e-6, "shelve": 7.1e-6}[transition]
    result = calibrate("pi_pulse_time", nature={f"{transition}_pi_time": truth}, transition=transition)
    assert_found(result, "pi_time", truth, 0.03e-6)
    setting = "pi_time" if transition == "qubit" else f"pi_time_{transition}"
    assert list(result.finding.settings) == [setting]


@pytest.mark.parametrize("transition", ["map", "qubit", "shelve"])
def test_a_detuned_transition_is_found(calibrate: Calibrate, transition: str) -> None:
    resonance = {"map": 94.0e6, "qubit": 108.0e6, "shelve": 71.6e6}[transition]
    truth = resonance + 11.7e3
    result = calibrate(
        "transition_frequency", "bob", {f"{transition}_frequency": truth}, transition=transition
    )
    assert_found(result, "frequency", truth, 300.0)
    assert abs(result.finding.settings[f"frequency_{transition}"] - truth) < 1500


def test_a_result_goes_into_the_configuration_if_asked(calibrate: Calibrate, tmp_path: Path) -> None:
    file = tmp_path / "alice.json"
    result = calibrate(
        "pi_pulse_time",
        nature={"qubit_pi_time": 5.4e-6},
        configuration_file=str(file),
        update_configuration=True,
    )
    assert json.loads(file.read_text())["pi_time"] == result.finding.settings["pi_time"]
    # What is configured now is where the next calibration starts.
    again = calibrate("pi_pulse_time", configuration_file=str(file))
    assert again.provenance["node_configuration"] == {"pi_time": result.finding.settings["pi_time"]}


def test_an_update_without_a_file_is_refused_before_the_scan(calibrate: Calibrate) -> None:
    with pytest.raises(ParameterError, match="configuration_file"):
        calibrate("pi_pulse_time", update_configuration=True)


def test_a_line_out_of_range_changes_nothing(calibrate: Calibrate, tmp_path: Path) -> None:
    """Far from the line every shot is bright, which a line of no contrast describes perfectly."""
    file = tmp_path / "alice.json"
    with pytest.raises(ParameterError, match="hardly anything to see"):
        calibrate(
            "transition_frequency",
            nature={"shelve_frequency": 71.6e6 + 3e6},
            transition="shelve",
            configuration_file=str(file),
            update_configuration=True,
        )
    assert not file.exists()


def test_a_scan_ends_between_points_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIQKD_NODE_SEED", "1")
    datasets: dict[str, Any] = {}
    with pytest.raises(TerminationRequested):
        run_experiment(
            ROOT / "repository" / "pi_pulse_time.py",
            None,
            ROOT / "device_db" / "alice_sim.py",
            {"result_directory": str(tmp_path)},
            dataset_sink=datasets.__setitem__,
            stop_requested=lambda: datasets.get("calibration.points_done", 0) >= 3,
        )
    assert datasets["calibration.points_done"] == 3
    assert list(tmp_path.iterdir()) == []
