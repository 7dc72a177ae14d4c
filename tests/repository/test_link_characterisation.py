"""The characterisation run: both nodes as processes, outcomes shared, and no way to a key."""

import json
from pathlib import Path

import numpy as np
import pytest

from diqkd.cli import main
from diqkd_node.run.outcome_sharing import SharingCoordinator
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.records.sealed_record import DTYPES, RoundRecord
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.physics import constants
from sim_devices.physics.link import LinkModel
from tests.support.example_parameters import small_parameters
from tests.support.two_nodes import datasets, laboratory, run_both

NUM_ROUNDS = 1500


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which Alice's ion is lost once, Alice's experiment is stopped on the way and started again."""
    directory = tmp_path_factory.mktemp("characterisation")
    configuration = LaboratoryConfiguration(
        seed=11, link=LinkModel(success_probability=0.02), scheduled_faults=((1200, "alice_ion_loss"),)
    )
    with laboratory(configuration) as address:
        arguments = {"num_rounds": NUM_ROUNDS, "batch_rounds": 400}
        interrupted = run_both("link/link_characterisation", directory, address, 7, **arguments)
        assert "TerminationRequested" in interrupted["alice"][1]
        finished = run_both("link/link_characterisation", directory, address, **arguments)
    for code, output in finished.values():
        assert code == 0, output
        published = datasets(output)
        assert ("diqkd.node_state", "str", "finished") in published
        assert "diqkd.correlations" in {name for name, _, _ in published}
    return directory


def test_both_nodes_have_both_records(run: Path) -> None:
    for role, other in (("alice", "bob"), ("bob", "alice")):
        own = RoundRecord.read(run / role / "record.h5")
        received = RoundRecord.read(run / other / "peer_record.h5")
        assert own.role == received.role == role
        assert own.outcomes_are_shared and received.outcomes_are_shared
        assert own.parameters.key_bits == 0
        for name in DTYPES:
            np.testing.assert_array_equal(getattr(own, name), getattr(received, name))
    assert (run / "alice" / "probabilities.csv").read_bytes() == (
        run / "bob" / "probabilities.csv"
    ).read_bytes()


def test_the_link_is_found(run: Path) -> None:
    """S and Q of the laboratory within 5 standard errors (false alarm below 1e-6 each)."""
    result = json.loads((run / "alice" / "characterisation.json").read_text())
    score, error_rate = result["chsh_score"], result["qber"]
    assert abs(score["value"] - constants.CHSH_SCORE) < 5 * score["standard_error"]
    spread = (constants.QBER * (1 - constants.QBER) / error_rate["num_rounds"]) ** 0.5
    assert abs(error_rate["value"] - constants.QBER) < 5 * spread
    assert 0.4 < score["num_rounds"] / NUM_ROUNDS < 0.6
    assert {gap["reason"] for gap in result["gaps"]} == {"restarted", "ion lost"}
    assert (run / "alice" / "characterisation.png").read_bytes().startswith(b"\x89PNG")


def test_command_takes_one_lab_s_files(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(run / "alice" / name) for name in ("peer_record.h5", "record.h5")]
    assert main(["characterise", *files, "-o", str(tmp_path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (
        answer["chsh_score"] == json.loads((run / "bob" / "characterisation.json").read_text())["chsh_score"]
    )
    rows = (tmp_path / "probabilities.csv").read_text().splitlines()
    assert rows[0] == "x,y,a,b,count,probability,standard_error" and len(rows) == 21
    assert sum(int(row.split(",")[4]) for row in rows[1:]) == NUM_ROUNDS
    assert main(["characterise", files[0], files[0]]) == 2
    assert "both bob's" in capsys.readouterr().err


def test_the_planner_starts_from_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(run / "bob" / name) for name in ("peer_record.h5", "record.h5")]
    assert main(["plan", "--record", *files, "--margin", "0", "--rounds", "3e6", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["design_chsh_score"] == pytest.approx(plan["characterisation"]["chsh_score"])


def test_outcomes_of_a_key_run_are_not_shared() -> None:
    class Spool:
        parameters = small_parameters(400, key_bits=1)

    with pytest.raises(ParameterError, match="make a key of 1 bits: its outcomes are not shared"):
        SharingCoordinator(shared=None, spool=Spool(), link=None, herald_patterns=(3, 5, 10, 12))
