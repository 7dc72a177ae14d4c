"""Fixtures of the tests that start the real ARTIQ programs; skipped where ARTIQ is not installed."""

import pytest

from diqkd_postproc.protocol.parameters import ProtocolParameters
from tests.support.artiq_programs import Master, Programs, program


@pytest.fixture(scope="session", autouse=True)
def artiq_programs():
    """Skips everything here, with the reason, unless the ARTIQ programs are next to this interpreter."""
    for name in ("artiq_master", "artiq_client"):
        if program(name) is None:
            pytest.skip(f"needs a real ARTIQ installation: no program {name} next to this Python")


@pytest.fixture
def programs(tmp_path):
    """Starts programs and ends them after the test."""
    with Programs(tmp_path) as running:
        yield running


@pytest.fixture
def parameters_file(tmp_path):
    """Parameters of a campaign that takes seconds: 400 rounds, half of them tests, no key."""
    parameters = ProtocolParameters(
        num_rounds=400,
        test_numerator=128,
        test_bits=8,
        omega_threshold=0.8,
        syndrome_bits=300,
        key_bits=0,
        soundness_error=1e-10,
        one_bit_error=1e-15,
        design_chsh_score=2.64,
        design_qber=0.018,
    )
    path = tmp_path / "parameters.toml"
    parameters.save(path)
    return path


@pytest.fixture
def masters(programs):
    """Alice's and Bob's master, with one laboratory for both nodes."""
    laboratory = programs.start_laboratory()
    return {role: Master(programs, role, laboratory) for role in ("alice", "bob")}
