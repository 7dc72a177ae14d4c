"""Scans of the link: both nodes as processes find what the laboratory has."""

import json
import math
from pathlib import Path

import pytest
from two_nodes import ROOT, laboratory, run_both

from diqkd_postproc.calibration.result import CalibrationResult
from diqkd_postproc.errors import ParameterError
from diqkd_postproc.tomography_counts import TomographyCounts
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.physics import constants
from sim_devices.physics.link import LinkModel, fully_entangled_fraction, joint_state
from sim_devices.runner import run_experiment

LABORATORY = LaboratoryConfiguration(seed=12, link=LinkModel(success_probability=0.02))


def test_tomography_finds_the_state(tmp_path: Path) -> None:
    """Phases within 5 standard errors, fidelities within 5 and half a percent that pulses and readout take
    (false alarm below 1e-5 for all eight together; the seed is fixed)."""
    arguments = {"num_rounds": 2000, "batch_rounds": 700, "num_resamples": 30}
    with laboratory(LABORATORY) as address:
        for code, output in run_both("tomography", tmp_path, address, **arguments).values():
            assert code == 0, output
    tables = [(tmp_path / role / "tomography_counts.csv").read_bytes() for role in ("alice", "bob")]
    assert tables[0] == tables[1]
    counts = TomographyCounts.read(tmp_path / "alice" / "tomography_counts.csv")
    assert counts.num_heralds == 2000
    result = json.loads((tmp_path / "alice" / "tomography.json").read_text())
    assert result["provenance"]["role"] == "alice"
    for pattern in constants.HERALD_PATTERNS:
        found = result["patterns"][f"{pattern:04b}"]
        phase = found["phase_rad"]
        deviation = math.remainder(phase["value"] - constants.BELL_PHASES[pattern], math.tau)
        assert abs(deviation) < 5 * phase["standard_error"]
        fidelity = found["fidelity"]
        truth = fully_entangled_fraction(joint_state(pattern))
        assert abs(fidelity["value"] - truth) < 5 * fidelity["standard_error"] + 0.005
    assert (tmp_path / "alice" / "tomography.png").read_bytes().startswith(b"\x89PNG")


def test_pattern_phases_find_the_link_s_and_configure_bob(tmp_path: Path) -> None:
    """Phases within 5 standard errors (false alarm below 1e-5 for all four; the seed is fixed)."""
    configuration = tmp_path / "bob.json"
    with laboratory(LABORATORY) as address:
        arguments = {"num_rounds": 1600, "num_phases": 8, "batch_rounds": 800}
        own = {"bob": {"configuration_file": configuration, "update_configuration": True}}
        for code, output in run_both("pattern_phases", tmp_path, address, own=own, **arguments).values():
            assert code == 0, output
    (path,) = (tmp_path / "alice").glob("pattern_phases_*.json")
    result = CalibrationResult.load(path)
    assert result.role == "bob"
    for pattern in constants.HERALD_PATTERNS:
        phase = result.finding.quantities[f"phase_{pattern:04b}"]
        truth = constants.NOMINAL_PATTERN_PHASES[pattern]
        assert abs(math.remainder(phase.value - truth, 1)) < 5 * phase.standard_error
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    updated = json.loads(configuration.read_text())
    assert updated == {"role": "bob", "pattern_phase_turns": result.finding.settings["pattern_phase_turns"]}


def test_only_bob_s_configuration_is_updated(tmp_path: Path) -> None:
    arguments = {"role": "alice", "run_directory": str(tmp_path), "update_configuration": True}
    with pytest.raises(ParameterError, match="for Bob's node"):
        run_experiment(
            ROOT / "repository" / "pattern_phases.py", None, ROOT / "device_db" / "alice_sim.py", arguments
        )
