"""Both nodes' processes in a laboratory whose slave now and then sees another pattern, or none."""

from pathlib import Path

import numpy as np
import pytest

from diqkd_postproc.records.sealed_record import RoundRecord
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.physics.link import LinkModel
from tests.support.example_parameters import small_parameters
from tests.support.two_nodes import laboratory, run_both

# Of the records: rounds, those whose patterns differ, and the same for labels that differ, outside 1 in 1e6.
CASES = [(4_000, 1e-3, (0, 16)), (400, 0.25, (60, 145))]


@pytest.mark.parametrize(("num_rounds", "label_mismatch", "differing"), CASES)
def test_no_round_is_lost_for_a_label(
    tmp_path: Path, num_rounds: int, label_mismatch: float, differing: tuple[int, int]
) -> None:
    small_parameters(num_rounds).save(tmp_path / "parameters.toml")
    configuration = LaboratoryConfiguration(
        seed=5, label_mismatch=label_mismatch, link=LinkModel(success_probability=0.01)
    )
    with laboratory(configuration) as address:
        ends = run_both(
            "key_generation",
            tmp_path,
            address,
            parameters_file=tmp_path / "parameters.toml",
            batch_rounds=500,
        )
    assert [code for code, _ in ends.values()] == [0, 0], ends
    alice, bob = (RoundRecord.read(tmp_path / role / "record.h5") for role in ("alice", "bob"))
    assert alice.outcome.size == bob.outcome.size == num_rounds
    assert not alice.attributes["losses"] and not bob.attributes["losses"]
    assert not alice.lost.any() and not bob.lost.any()
    np.testing.assert_array_equal(alice.round_type, bob.round_type)
    assert bob.herald_pattern.all()
    num_differing = np.count_nonzero(alice.herald_pattern != bob.herald_pattern)
    assert differing[0] <= num_differing <= differing[1]
    if num_differing > 20:
        assert np.count_nonzero(alice.herald_pattern == 0) > num_differing / 3
    # Key rounds differ with probability 1.44 %, whatever Alice's core saw.
    key = bob.round_type == 0
    num_wrong = (alice.outcome != bob.outcome)[key].sum()
    assert num_wrong <= 0.0144 * key.sum() + 6 * np.sqrt(0.0144 * key.sum()) + 3
