"""Small protocol parameters for the storage tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from diqkd_postproc.protocol.parameters import ProtocolParameters
from tests.support.example_parameters import small_parameters


@pytest.fixture(scope="session")
def make_parameters() -> Callable[..., ProtocolParameters]:
    """`(num_rounds, test_numerator, test_bits)`, by default with three tests in eight rounds."""

    def make(num_rounds: int = 100, test_numerator: int = 3, test_bits: int = 3) -> ProtocolParameters:
        return small_parameters(num_rounds, test_numerator=test_numerator, test_bits=test_bits)

    return make
