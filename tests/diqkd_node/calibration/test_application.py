"""Writing results into a configuration: what is refused, what is kept, what a crash leaves."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from diqkd.cli import main
from diqkd_node.calibration import application
from diqkd_node.calibration.application import apply_result, history
from diqkd_node.calibration.result import CalibrationResult, Finding, GoodnessOfFit, Quantity
from diqkd_node.configuration import NodeConfiguration
from diqkd_postproc.files import locked
from diqkd_postproc.protocol.errors import ParameterError, StorageError

CURVE = {"label": "", "x": [0, 1], "y": [0, 1]}
FIGURE = {
    "x_label": "x",
    "y_label": "y",
    "series": [CURVE | {"low": [0, 0.9], "high": [0.1, 1]}],
    "curves": [CURVE],
}


def result_file(
    directory: Path,
    settings: dict[str, Any],
    *,
    p_value: float = 0.4,
    error: float = 1e-9,
    time: str = "2026-05-01T10:00:00+00:00",
    role: str = "bob",
    quantity: str = "pi_time",
) -> Path:
    value = next(iter(settings.values()), 5e-6)
    finding = Finding(
        {quantity: Quantity(value if isinstance(value, float) else 1.0, error, "s")},
        GoodnessOfFit(30.0, 28, p_value),
        settings,
        FIGURE,
    )
    result = CalibrationResult(calibration="pi_pulse_time", role=role, time=time, finding=finding)
    path = directory / f"result_{len(list(directory.iterdir()))}.json"
    path.write_text(result.to_json(), encoding="utf-8")
    return path


def test_a_result_changes_its_settings_and_nothing_else(tmp_path: Path) -> None:
    configuration = tmp_path / "bob.json"
    configuration.write_text('{"amplitude_674": 0.4, "pi_time": 5.2e-6}')
    changes = apply_result(result_file(tmp_path, {"analysis.pi_time_qubit": 4.93e-6}), configuration)
    assert [(change.setting, change.before, change.after) for change in changes] == [
        ("analysis.pi_time_qubit", 5.2e-6, 4.93e-6)
    ]
    assert json.loads(configuration.read_text()) == {
        "analysis": {"amplitude": 0.4, "pi_time_qubit": 4.93e-6},
        "role": "bob",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bob.history.jsonl",
        "bob.json",
        "result_1.json",
    ]


def test_the_history_tells_what_changed_and_by_what(tmp_path: Path) -> None:
    configuration = tmp_path / "bob.json"
    apply_result(result_file(tmp_path, {"analysis.pi_time_qubit": 4.9e-6}), configuration)
    later = result_file(tmp_path, {"analysis.pi_time_qubit": 4.8e-6}, time="2026-05-02T10:00:00+00:00")
    apply_result(later, configuration)
    first, second = history(configuration)
    assert (first["before"], first["after"], second["before"]) == (5e-6, 4.9e-6, 4.9e-6)
    assert second["result"] == later.name
    assert first["digest_after"] == second["digest_before"]


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"analysis.pi_time_qubit": 5e-6}, {"p_value": 1e-6}, "fit is poor: its p-value is 1e-06"),
        ({"analysis.pi_time_qubit": 5e-6}, {"p_value": float("nan")}, "fit is poor"),
        ({"analysis.pi_time_qubit": 5e-2}, {}, "is outside"),
        ({"analysis.pi_time_qubit": -1.0}, {}, "is outside"),
        ({"analysis.pi_time_qubit": 5e-6}, {"error": 1e-6}, "uncertain by 20 %"),
        ({"analysis.frequency_qubit": 110e6}, {}, "would move by 2 MHz"),
        (
            {"analysis.frequency_qubit": 108.1e6},
            {"error": 2e4, "quantity": "frequency"},
            "uncertain by 20 kHz",
        ),
        ({"scrambling.time": 50e-6}, {}, "is outside"),
        ({"lock_check_rounds": 4}, {}, "edit the configuration by hand"),
        ({"analysis.pi_time_qubit": "5e-6"}, {}, "a valid number"),
    ],
)
def test_an_implausible_result_is_refused_and_changes_nothing(
    tmp_path: Path, settings: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    configuration = tmp_path / "bob.json"
    configuration.write_text('{"analysis": {"pi_time_qubit": 5.2e-6}}')
    path = tmp_path / "result.json"
    if options.get("p_value") != options.get("p_value"):  # NaN is no JSON; somebody wrote it by hand
        path = result_file(tmp_path, settings)
        path.write_text(path.read_text().replace("0.4", "NaN"))
    else:
        path = result_file(tmp_path, settings, **options)
    with pytest.raises(ParameterError, match=message):
        apply_result(path, configuration)
    assert configuration.read_text() == '{"analysis": {"pi_time_qubit": 5.2e-6}}'
    assert history(configuration) == []
    assert not list(tmp_path.glob(".*.tmp"))


def test_results_and_histories_with_the_names_of_a_flat_file_still_open(tmp_path: Path) -> None:
    configuration = tmp_path / "bob.json"
    configuration.write_text('{"pi_time": 5.2e-6, "lock_check_rounds": 3}')
    apply_result(result_file(tmp_path, {"pi_time": 4.9e-6}), configuration)
    assert NodeConfiguration.load(configuration, "bob").analysis.pi_time_qubit == 4.9e-6
    lines = tmp_path / "bob.history.jsonl"
    lines.write_text(lines.read_text().replace("analysis.pi_time_qubit", "pi_time"))
    assert history(configuration)[0]["setting"] == "analysis.pi_time_qubit"
    old = result_file(tmp_path, {"analysis.pi_time_qubit": 4.8e-6}, time="2026-04-01T10:00:00+00:00")
    with pytest.raises(ParameterError, match="old result"):
        apply_result(old, configuration)


def test_an_older_result_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    configuration = tmp_path / "bob.json"
    apply_result(result_file(tmp_path, {"analysis.pi_time_qubit": 4.9e-6}), configuration)
    old = result_file(tmp_path, {"analysis.pi_time_qubit": 4.8e-6}, time="2026-05-01T11:30:00+02:00")
    with pytest.raises(ParameterError, match="old result"):
        apply_result(old, configuration)


def test_another_roles_result_is_refused(tmp_path: Path) -> None:
    configuration = tmp_path / "alice.json"
    configuration.write_text('{"role": "alice"}')
    with pytest.raises(ParameterError, match="alice's, but this node is bob"):
        apply_result(result_file(tmp_path, {"analysis.pi_time_qubit": 4.9e-6}), configuration)


def test_a_failed_replacement_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = tmp_path / "bob.json"
    configuration.write_text("{}")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StorageError, match="No space left"):
        apply_result(result_file(tmp_path, {"analysis.pi_time_qubit": 4.9e-6}), configuration)
    assert configuration.read_text() == "{}"
    assert not list(tmp_path.glob(".*.tmp"))


def test_results_applied_at_the_same_time_are_all_there(tmp_path: Path) -> None:
    """By threads with a connection each, which exclude each other as processes do."""
    configuration = tmp_path / "bob.json"
    settings = {
        "analysis.pi_time_qubit": 4.9e-6,
        "analysis.pi_time_map": 4.8e-6,
        "analysis.pi_time_shelve": 4.7e-6,
        "readout.threshold": 12,
    }
    paths = [result_file(tmp_path, {name: value}) for name, value in settings.items()]
    with ThreadPoolExecutor(len(paths)) as pool:
        list(pool.map(lambda path: apply_result(path, configuration), paths))
    configured = NodeConfiguration.load(configuration, "bob")
    assert {name: configured.value(name) for name in settings} == settings
    entries = history(configuration)
    for earlier, later in pairwise(entries):
        assert later["digest_before"] == earlier["digest_after"]


def test_a_program_that_was_killed_holds_up_nobody(tmp_path: Path) -> None:
    """The holder of the lock ends without any clean-up, as by a power cut or SIGKILL."""
    configuration = tmp_path / "bob.json"
    holder = (
        "import os, pathlib, sys; from diqkd_postproc.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", holder, str(configuration)], check=False).returncode == 9
    assert apply_result(result_file(tmp_path, {"analysis.pi_time_qubit": 4.9e-6}), configuration)


def test_a_program_that_stays_at_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = tmp_path / "bob.json"
    configuration.write_text("{}")
    monkeypatch.setattr(application, "locked", lambda path: locked(path, timeout_s=0.0))
    path = result_file(tmp_path, {"analysis.pi_time_qubit": 4.9e-6})
    with (
        locked(configuration),
        pytest.raises(StorageError, match=r"another program has held bob\.json\.lock"),
    ):
        apply_result(path, configuration)
    (tmp_path / "bob.json.lock").mkdir()
    with pytest.raises(StorageError, match=r"cannot lock .*bob\.json"):
        apply_result(path, configuration)
    assert configuration.read_text() == "{}"


def test_a_torn_last_line_of_the_history_is_passed_over(tmp_path: Path) -> None:
    configuration = tmp_path / "bob.json"
    apply_result(result_file(tmp_path, {"analysis.pi_time_qubit": 4.9e-6}), configuration)
    with (tmp_path / "bob.history.jsonl").open("a") as file:
        file.write('{"time": "2026')
    assert len(history(configuration)) == 1


def test_the_command_applies_shows_and_remembers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configuration = str(tmp_path / "bob.json")
    path = str(result_file(tmp_path, {"analysis.pi_time_qubit": 4.9e-6}))
    assert main(["calibration", "apply", path, configuration, "--dry-run"]) == 0
    assert not (tmp_path / "bob.json").exists()
    assert main(["calibration", "apply", path, configuration, "--json"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed[printed.index("{") :])["changes"][0]["after"] == 4.9e-6
    assert main(["calibration", "history", configuration]) == 0
    assert main(["calibration", "show", path, "--plot", str(tmp_path / "figure.svg")]) == 0
    assert "pi time" in capsys.readouterr().out
    assert (tmp_path / "figure.svg").stat().st_size > 5000


def test_a_file_that_is_no_result_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"schema": 1, "finding": 3}')
    assert main(["calibration", "apply", str(path), str(tmp_path / "bob.json")]) == 2
    assert "other.json is no calibration result" in capsys.readouterr().err
