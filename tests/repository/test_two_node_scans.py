"""Scans of the link: both nodes as processes find what the laboratory has."""

import json
import math
from pathlib import Path

from two_nodes import laboratory, run_both

from diqkd_postproc.tomography_counts import TomographyCounts
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.physics import constants
from sim_devices.physics.link import LinkModel, fully_entangled_fraction, joint_state

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
