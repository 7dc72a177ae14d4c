"""Scans of the link: both nodes as processes find what the laboratory has."""

import json
import math
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from diqkd_node.calibration.result import CalibrationResult
from diqkd_node.configuration import NodeConfiguration
from diqkd_postproc.link.tomography_counts import TomographyCounts
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.roles import HERALD_PATTERNS
from sim_devices.artiq_run import load_experiment, run_experiment
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.physics import constants
from sim_devices.physics.link import LinkModel, fully_entangled_fraction, joint_state
from tests.support.two_nodes import ROOT, laboratory, run_both

LABORATORY = LaboratoryConfiguration(seed=12, link=LinkModel(success_probability=0.02))


def test_tomography_finds_the_state(tmp_path: Path) -> None:
    """Phases within 5 standard errors, fidelities within 5 and half a percent that pulses and readout take
    (false alarm below 1e-5 for all eight together; the seed is fixed)."""
    arguments = {"num_rounds": 2000, "batch_rounds": 700, "num_resamples": 30}
    with laboratory(LABORATORY) as address:
        for code, output in run_both("link/tomography", tmp_path, address, **arguments).values():
            assert code == 0, output
    tables = [(tmp_path / role / "tomography_counts.csv").read_bytes() for role in ("alice", "bob")]
    assert tables[0] == tables[1]
    counts = TomographyCounts.read(tmp_path / "alice" / "tomography_counts.csv")
    assert counts.num_heralds == 2000
    result = json.loads((tmp_path / "alice" / "tomography.json").read_text())
    assert result["provenance"]["role"] == "alice"
    for pattern in HERALD_PATTERNS:
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
        for code, output in run_both("link/pattern_phases", tmp_path, address, own=own, **arguments).values():
            assert code == 0, output
    (path,) = (tmp_path / "alice").glob("pattern_phases_*.json")
    result = CalibrationResult.load(path)
    assert result.role == "bob"
    for pattern in HERALD_PATTERNS:
        phase = result.finding.quantities[f"phase_{pattern:04b}"]
        truth = constants.NOMINAL_PATTERN_PHASES[pattern]
        assert abs(math.remainder(phase.value - truth, 1)) < 5 * phase.standard_error
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    updated = json.loads(configuration.read_text())
    assert updated == {
        "role": "bob",
        "analysis": {"pattern_phase_turns": result.finding.settings["analysis.pattern_phase_turns"]},
    }


def test_only_bob_s_configuration_is_updated(tmp_path: Path) -> None:
    arguments = {"role": "alice", "run_directory": str(tmp_path), "update_configuration": True}
    with pytest.raises(ParameterError, match="for Bob's node"):
        run_experiment(
            ROOT / "repository" / "link" / "pattern_phases.py",
            None,
            ROOT / "device_db" / "alice_sim.py",
            arguments,
        )


def test_pattern_phases_are_configured_before_the_next_experiment_begins(tmp_path: Path) -> None:
    """ARTIQ begins that one when `run` has ended. The rounds are made here, without noise."""
    scan_class: Any = load_experiment(ROOT / "repository" / "link" / "pattern_phases.py")
    truth = constants.NOMINAL_PATTERN_PHASES
    phases = np.arange(8) / 8
    cells = [(index, pattern) for index in range(8) for pattern in HERALD_PATTERNS]
    chunk: dict[str, list[Any]] = {"pair": [], "alice_bright": [], "bob_bright": [], "herald_pattern": []}
    for index, pattern in cells:
        wins = round(100 * (1 + 0.9 * math.cos(math.tau * (phases[index] - truth[pattern]))) / 2)
        chunk["pair"] += [(0, index)] * 100
        chunk["herald_pattern"] += [pattern] * 100
        chunk["alice_bright"] += [True] * 100
        chunk["bob_bright"] += [False] * wins + [True] * (100 - wins)

    class Played(scan_class):
        def __init__(self) -> None:
            self.role, self.directory, self.phases, self.num_rounds = "bob", tmp_path, phases, 3200
            self.configuration = NodeConfiguration(role="bob")
            self.configuration_file, self.update_configuration = str(tmp_path / "node.json"), True
            self.scheduler = SimpleNamespace(rid=1, expid={})
            self.deletion, self.now = nullcontext(), lambda: 1.7e9
            self.chunks = [{name: np.array(values) for name, values in chunk.items()}]

        def get_device_db(self) -> dict[str, Any]:
            return {}

        def open_spool(self) -> Any:
            return nullcontext(SimpleNamespace(run_id="ab" * 16))

        def open_connection(self) -> Any:
            return SimpleNamespace(close=lambda: None)

        def acquire(self, *_: object) -> None: ...

        def make_node(self, coordinator: object = None) -> None: ...

    Played().run()
    configured = json.loads((tmp_path / "node.json").read_text())["analysis"]["pattern_phase_turns"]
    for found, pattern in zip(configured, HERALD_PATTERNS, strict=True):
        assert abs(math.remainder(found - truth[pattern], 1)) < 0.01
