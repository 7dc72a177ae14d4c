"""A parameter file cannot promise more than its theorem."""

from fractions import Fraction

import pytest

from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.security.certification import load_certified, require_certified


@pytest.fixture(scope="module")
def published():
    return DesignPoint(1_500_000, Fraction(13, 256), 2.64, 0.018).parameters()


def test_designed_parameters_pass(published, tmp_path):
    published.save(tmp_path / "parameters.toml")
    assert load_certified(tmp_path / "parameters.toml") == published


def test_shorter_keys_pass(published):
    require_certified(published.model_copy(update={"key_bits": published.key_bits - 1}))


@pytest.mark.parametrize(
    ("update", "named"),
    [
        ({"key_bits": 95_886}, "key_bits=95886"),
        ({"syndrome_bits": 296_518 + 100}, "key_bits=95885"),
        ({"omega_threshold": 0.825}, "key_bits=95885"),
        ({"soundness_error": 1e-11}, "key_bits=95885"),
        ({"num_rounds": 1_499_000}, "key_bits=95885"),
        ({"one_bit_error": 2e-16}, "one_bit_error=2e-16"),
    ],
)
def test_edited_files_are_refused(published, tmp_path, update, named):
    published.model_copy(update=update).save(tmp_path / "parameters.toml")
    with pytest.raises(ParameterError, match=named):
        load_certified(tmp_path / "parameters.toml")
