"""Calibration experiments on a simulated node alone: they find what was planted there.

No laboratory runs. Tolerances are five standard errors: false alarm 6e-7 a value; the draws are seeded.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diqkd_node.calibration import application
from diqkd_node.calibration.experiment import CalibrationExperiment
from diqkd_node.calibration.fits.isolation_transient import settling_time
from diqkd_node.calibration.fits.readout_histogram import readout_errors
from diqkd_node.calibration.result import CalibrationResult
from diqkd_node.calibration.scan_data import ScanData
from diqkd_node.configuration.analysis import AnalysisParameters
from diqkd_postproc.protocol.errors import ParameterError
from sim_devices.apparatus.node_apparatus import NodeApparatus
from sim_devices.artiq_run import TerminationRequested, run_experiment
from tests.support.paths import ROOT

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
            ROOT / "repository" / "calibrations" / f"{name}.py",
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
    setting = f"analysis.pi_time_{transition}"
    assert list(result.finding.settings) == [setting]


@pytest.mark.parametrize("transition", ["map", "qubit", "shelve"])
def test_a_detuned_transition_is_found(calibrate: Calibrate, transition: str) -> None:
    resonance = AnalysisParameters().frequency_of(transition)
    truth = resonance + 11.7e3
    result = calibrate(
        "transition_frequency", "bob", {f"{transition}_frequency": truth}, transition=transition
    )
    assert_found(result, "frequency", truth, 300.0)
    assert abs(result.finding.settings[f"analysis.frequency_{transition}"] - truth) < 1500


def test_readout_threshold_and_its_error(calibrate: Calibrate) -> None:
    """The error is compared with the exact one of the planted rates at the threshold that was chosen."""
    bright, dark = 46.0, 2.4
    nature = {"bright_count_rate": bright / 250e-6, "dark_count_rate": dark / 250e-6}
    result = calibrate("readout_histogram", nature=nature, num_shots=2000)
    assert_found(result, "bright_mean", bright, 0.25)
    assert_found(result, "dark_mean", dark, 0.06)
    threshold = result.finding.settings["readout.threshold"]
    truth = sum(readout_errors(threshold, bright, dark, 250e-6)) / 2
    assert_found(result, "readout_error", truth, 1e-4)
    assert truth < 1e-3
    # Optical pumping leaves 0.2 %, the pulse 0.025 %.
    assert_found(result, "preparation_error", 2.25e-3, 2e-3)


@pytest.mark.parametrize(("role", "truth"), [("alice", 4.2e-3), ("bob", 7.5e-3)])
def test_coherence_time_is_the_published_one(calibrate: Calibrate, role: str, truth: float) -> None:
    result = calibrate("ramsey_coherence", role, {"qubit_frequency": 108.0e6 + 137.0}, num_shots=50)
    assert_found(result, "coherence_time", truth, 0.08 * truth)
    assert_found(result, "frequency", 108.0e6 + 137.0, 5.0)


@pytest.mark.parametrize(("role", "truth"), [("alice", 3.88e-6), ("bob", 6.70e-6)])
def test_scrambling_time_constant_is_the_published_one(calibrate: Calibrate, role: str, truth: float) -> None:
    result = calibrate("scrambling_time", role, num_shots=100)
    assert_found(result, "time_constant", truth, 0.06 * truth)
    assert result.finding.settings == {"scrambling.time": 100e-6}


def test_photons_arrive_when_they_were_planted(calibrate: Calibrate) -> None:
    nature = {"photon_delay": 31.4e-9, "photon_lifetime": 8.1e-9, "photon_probability": 0.04}
    # The gates of the entangler core count from an edge 12 ns after the pulse's switch.
    result = calibrate("photon_arrival", nature=nature, num_attempts=20_000, reference_delay=12e-9)
    assert_found(result, "delay", 19.4e-9, 0.2e-9)
    assert_found(result, "lifetime", 8.1e-9, 0.5e-9)
    assert_found(result, "photon_probability", 0.04, 2e-3)
    opens, closes = result.finding.settings["attempts.photon_window"]
    assert 16e-9 <= opens <= 19e-9
    assert 48e-9 <= closes <= 66e-9


def test_isolation_by_displacement(calibrate: Calibrate) -> None:
    nature = {"focus_radius_um": 0.71, "coupling_floor": 4e-3}
    result = calibrate("isolation_displacement", nature=nature, num_shots=1000)
    assert_found(result, "focus_radius", 0.71, 0.01)
    coupling = result.finding.quantities["isolated_coupling"]
    assert coupling.low is not None and coupling.high is not None
    assert coupling.low - 1e-3 < 4e-3 < coupling.high + 1e-3
    assert "not isolated" in result.finding.notes[0]


def test_a_bright_fibre_takes_the_time_to_read_it(calibrate: Calibrate) -> None:
    """Sixty photons a shot: reading those of three detectors takes far longer than the usual slack."""
    nature = {"station_count_rate": 3e5}
    result = calibrate("isolation_displacement", nature=nature, num_shots=600, num_points=6)
    assert_found(result, "focus_rate", 3e5, 6e3)


def test_isolation_against_time(calibrate: Calibrate) -> None:
    """Slower electrodes: the proposed settling time grows beyond the protocol's 30 us."""
    nature = {"electrode_time_constant": 40e-6}
    result = calibrate("isolation_transient", nature=nature, num_shots=8000)
    assert_found(result, "electrode_time_constant", 40e-6, 8e-6)
    truth = settling_time(1e-4, 3.0 / 0.62, 40e-6)
    assert_found(result, "settling_time", truth, 3e-6)
    assert result.finding.settings["isolation.settling_time"] > truth


def test_a_result_goes_into_the_configuration_if_asked(calibrate: Calibrate, tmp_path: Path) -> None:
    file = tmp_path / "alice.json"
    result = calibrate(
        "pi_pulse_time",
        nature={"qubit_pi_time": 5.4e-6},
        configuration_file=str(file),
        update_configuration=True,
    )
    found = {"analysis": {"pi_time_qubit": result.finding.settings["analysis.pi_time_qubit"]}}
    assert json.loads(file.read_text()) == found | {"role": "alice"}
    # What is configured now is where the next calibration starts.
    again = calibrate("pi_pulse_time", configuration_file=str(file))
    assert again.provenance["node_configuration"] == found


def test_an_update_without_a_file_is_refused_before_the_scan(calibrate: Calibrate) -> None:
    with pytest.raises(ParameterError, match="configuration_file"):
        calibrate("pi_pulse_time", update_configuration=True)


def test_a_line_out_of_range_changes_nothing(calibrate: Calibrate, tmp_path: Path) -> None:
    """Far from the line every shot is bright, which a line of no contrast describes perfectly."""
    file = tmp_path / "alice.json"
    with pytest.raises(ParameterError, match="hardly anything to see"):
        calibrate(
            "transition_frequency",
            nature={"shelve_frequency": 119.2e6 + 3e6},
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
            ROOT / "repository" / "calibrations" / "pi_pulse_time.py",
            None,
            ROOT / "device_db" / "alice_sim.py",
            {"result_directory": str(tmp_path)},
            dataset_sink=datasets.__setitem__,
            stop_requested=lambda: datasets.get("calibration.points_done", 0) >= 3,
        )
    assert datasets["calibration.points_done"] == 3
    assert list(tmp_path.iterdir()) == []


def test_a_scan_ends_within_a_long_point_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIQKD_NODE_SEED", "1")
    datasets: dict[str, Any] = {}
    looks = iter(range(100))
    with pytest.raises(TerminationRequested):
        run_experiment(
            ROOT / "repository" / "calibrations" / "pi_pulse_time.py",
            None,
            ROOT / "device_db" / "alice_sim.py",
            {"result_directory": str(tmp_path), "num_points": 5, "num_shots": 1000},
            dataset_sink=datasets.__setitem__,
            stop_requested=lambda: next(looks) >= 1,
        )
    assert "calibration.points_done" not in datasets


def test_a_point_in_which_the_ion_was_lost_is_repeated(
    calibrate: Calibrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ion is lost after the first chunk of a point, whose other shots would all be dark."""
    apparatus: list[NodeApparatus] = []
    shots: list[int] = []
    make, store = NodeApparatus.__init__, ScanData.store

    def keep(self: NodeApparatus, *arguments: Any, **keywords: Any) -> None:
        make(self, *arguments, **keywords)
        apparatus.append(self)

    def lose(self: ScanData, point: int, count: int, num_values: int, values: list[int]) -> None:
        store(self, point, count, num_values, values)
        shots.append(count)
        if len(shots) == 1:
            apparatus[0].ion.lost = True

    monkeypatch.setattr(NodeApparatus, "__init__", keep)
    monkeypatch.setattr(ScanData, "store", lose)
    result = calibrate("pi_pulse_time", num_points=5, num_shots=600)
    assert not apparatus[0].ion.lost
    assert sum(shots) == (5 + 1) * 600
    assert result.finding.goodness_of_fit.p_value > 1e-6


def test_a_configuration_that_changed_in_the_queue_is_used(
    calibrate: Calibrate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calibration before this one writes the file after this one's `prepare`."""
    file = tmp_path / "node.json"
    file.write_text("{}")
    prepare = CalibrationExperiment.prepare

    def prepare_early(self: CalibrationExperiment) -> None:
        prepare(self)
        file.write_text(json.dumps({"analysis": {"frequency_qubit": 108.0e6 + 400.0}}))

    monkeypatch.setattr(CalibrationExperiment, "prepare", prepare_early)
    result = calibrate(
        "ramsey_coherence", configuration_file=str(file), num_shots=20, num_waits=12, transition="qubit"
    )
    assert result.provenance["node_configuration"] == {"analysis": {"frequency_qubit": 108.0e6 + 400.0}}
    # The fit reckons with the light that the scan played.
    assert_found(result, "frequency", 108.0e6, 20.0)


def test_what_was_found_is_in_use_when_the_next_experiment_begins(
    calibrate: Calibrate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ARTIQ begins the next one when this one's `run` ends, while it is still in `analyze`."""
    file = tmp_path / "node.json"
    in_use: list[dict[str, Any]] = []
    analyze = CalibrationExperiment.analyze

    def look(self: CalibrationExperiment) -> None:
        in_use.append(json.loads(file.read_text()) if file.exists() else {})
        analyze(self)

    monkeypatch.setattr(CalibrationExperiment, "analyze", look)
    result = calibrate("pi_pulse_time", configuration_file=str(file), update_configuration=True)
    found = {"pi_time_qubit": result.finding.settings["analysis.pi_time_qubit"]}
    assert in_use == [{"role": "alice", "analysis": found}]


def test_a_refused_result_can_be_looked_at(
    calibrate: Calibrate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "node.json"
    monkeypatch.setattr(application, "SMALLEST_P_VALUE", 1.1)
    with pytest.raises(ParameterError, match="the fit is poor"):
        calibrate("pi_pulse_time", configuration_file=str(file), update_configuration=True)
    assert not file.exists()
    (picture,) = (tmp_path / "results").glob("pi_pulse_time_*.png")
    assert picture.stat().st_size > 5000 and picture.with_suffix(".json").exists()
