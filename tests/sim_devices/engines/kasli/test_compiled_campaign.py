"""The key generation experiment, whole, on both engines: the same record for the same laboratory.

Both nodes run as processes of their own, with a laboratory between them, once with interpreted and once with
compiled kernels. Laboratory and random number generators have the same seed, so settings, types, patterns
and outcomes must agree round by round. Times differ by what the engines document: the initialisation of the
synthesisers, which ARTIQ's drivers do in full, and the time that reading the counter takes.
"""

from pathlib import Path

import numpy as np
import pytest

from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.records.sealed_record import RoundRecord
from sim_devices.engines.kasli import missing
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from tests.support.two_nodes import laboratory, run_both

pytestmark = [
    pytest.mark.artiq,
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]

DATABASES = {"host": "sim", "compiled": "compiled"}


def run_campaign(directory: Path, engine: str, num_rounds: int, faults=()) -> dict[str, RoundRecord]:
    """Records of both nodes after a campaign."""
    directory.mkdir()
    parameters = ProtocolParameters(
        num_rounds=num_rounds,
        test_numerator=13,
        test_bits=8,
        omega_threshold=0.8,
        syndrome_bits=num_rounds // 2,
        key_bits=0,
        soundness_error=1e-10,
        one_bit_error=1e-15,
        design_chsh_score=2.64,
        design_qber=0.018,
    )
    parameters.save(directory / "parameters.toml")
    arguments = {
        "parameters_file": directory / "parameters.toml",
        "peer_timeout": 300.0,
        "stall_timeout": 300.0,
        "database": DATABASES[engine],
        "environment": {"DIQKD_QRNG_SEED": "12"},
    }
    with laboratory(LaboratoryConfiguration(seed=11, scheduled_faults=faults)) as address:
        for code, output in run_both("key_generation", directory, address, **arguments).values():
            assert code == 0, output
    return {role: RoundRecord.read(directory / role / "record.h5") for role in ("alice", "bob")}


@pytest.fixture(autouse=True)
def entangler_driver() -> None:
    pytest.importorskip("entangler.driver")


@pytest.mark.parametrize("num_rounds", [300, 10_000])
def test_both_engines_give_the_same_record(tmp_path: Path, num_rounds: int) -> None:
    host = run_campaign(tmp_path / "host", "host", num_rounds)
    compiled = run_campaign(tmp_path / "compiled", "compiled", num_rounds)
    for role in ("alice", "bob"):
        first, second = host[role], compiled[role]
        assert second.outcome.size == num_rounds
        for name in ("setting", "outcome", "round_type", "herald_pattern"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name), f"{role} {name}")
        difference = second.timestamp_mu - first.timestamp_mu
        # 54 ms of initialisation; then 0.1 us a reading of the counter, less than one reading a round
        assert 50_000_000 < difference[0] < 60_000_000
        assert 0 <= difference[-1] - difference[0] < 100 * num_rounds
        assert not first.attributes["losses"] and not second.attributes["losses"]
    np.testing.assert_array_equal(compiled["alice"].round_type, compiled["bob"].round_type)


def test_compiled_nodes_go_on_after_faults(tmp_path: Path) -> None:
    faults = ((70, "lock_loss"), (190, "alice_ion_loss"), (290, "bob_ion_loss"))
    records = run_campaign(tmp_path / "run", "compiled", 400, faults)
    alice, bob = records["alice"], records["bob"]
    assert alice.outcome.size == bob.outcome.size == 400
    # The slave's core sees another pattern once in 1700 heralds.
    assert np.count_nonzero(alice.herald_pattern != bob.herald_pattern) <= 3
    # a laser that locks again before a slow node has looked leaves no gap
    assert "ion lost" in {gap["reason"] for gap in bob.attributes["gaps"]}
