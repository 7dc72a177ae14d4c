"""Small protocol parameters and a private directory for the storage tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from diqkd_postproc.parameters import ProtocolParameters


def small_parameters(
    num_rounds: int = 100, test_numerator: int = 3, test_bits: int = 3
) -> ProtocolParameters:
    return ProtocolParameters(
        num_rounds=num_rounds,
        test_numerator=test_numerator,
        test_bits=test_bits,
        omega_threshold=0.8,
        syndrome_bits=1,
        key_bits=0,
        soundness_error=1e-10,
        one_bit_error=1e-12,
        design_chsh_score=2.64,
        design_qber=0.018,
    )


@pytest.fixture(scope="session")
def make_parameters() -> Callable[..., ProtocolParameters]:
    return small_parameters


@pytest.fixture
def private_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "private"
    directory.mkdir(mode=0o700)
    return directory
