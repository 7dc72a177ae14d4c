"""Parameter files: what is written is read back, and a bad path is an error of storage."""

from pathlib import Path

import pytest

from diqkd_postproc.protocol.errors import ParameterError, StorageError
from diqkd_postproc.protocol.parameters import ProtocolParameters

PARAMETERS = ProtocolParameters(
    num_rounds=1_500_000,
    test_numerator=13,
    test_bits=8,
    omega_threshold=0.825538,
    syndrome_bits=296_517,
    key_bits=95_884,
    soundness_error=1e-10,
    one_bit_error=1e-16,
    design_chsh_score=2.64,
    design_qber=0.018,
)

DIGEST = "3c2b7adff3c1cd932a1411cf4eb3f189ccff1afeba2a597ccc58db3c265e1816"
"""Of these parameters before there was a field `max_late_losses`."""


def test_limit_of_the_published_run() -> None:
    # 1.5e6 * 13/256 * (1 - 0.825538) = 13289.1...: 13 289 losses pass, 13 290 do not (SI S4, step 8).
    assert PARAMETERS.max_losses == 13_289


def test_a_file_is_read_back(tmp_path: Path) -> None:
    PARAMETERS.save(tmp_path / "parameters.toml")
    read = ProtocolParameters.load(tmp_path / "parameters.toml")
    assert read == PARAMETERS
    assert read.digest == PARAMETERS.digest


def test_bad_paths(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        PARAMETERS.save(tmp_path / "missing" / "parameters.toml")
    with pytest.raises(ParameterError, match="cannot read"):
        ProtocolParameters.load(tmp_path / "parameters.toml")


def test_no_voided_rounds_are_not_written() -> None:
    """The digest is that of a file from before there was `max_late_losses`."""
    assert "max_late_losses" not in PARAMETERS.to_toml() and PARAMETERS.digest == DIGEST
    some = PARAMETERS.model_copy(update={"max_late_losses": 3})
    assert "max_late_losses = 3\n" in some.to_toml() and b"\nmax_late_losses=3\n" in some.canonical()
    assert ProtocolParameters.from_toml(some.to_toml()) == some != PARAMETERS
    with pytest.raises(ParameterError, match="max_late_losses=1500000 is not below num_rounds"):
        ProtocolParameters.from_toml(PARAMETERS.to_toml() + "max_late_losses = 1500000\n")


@pytest.mark.parametrize(
    ("field", "value"),
    [("test_numerator", 256), ("syndrome_bits", 1_500_000), ("design_chsh_score", 2.83), ("num_rounds", 0)],
)
def test_a_value_out_of_range_is_named(field: str, value: float) -> None:
    text = "\n".join(
        f"{field} = {value}" if line.startswith(f"{field} ") else line
        for line in PARAMETERS.to_toml().splitlines()
    )
    with pytest.raises(ParameterError, match=field):
        ProtocolParameters.from_toml(text)
