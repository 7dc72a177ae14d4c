from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import HERALD_PATTERNS
from diqkd_postproc.records.sealed_record import DTYPES, RoundRecord, undisturbed

RUN_ID = "a1" * 16


def make_record(parameters: ProtocolParameters, role: str, **changes: Any) -> RoundRecord:
    rng = np.random.default_rng(6)
    n = parameters.num_rounds
    round_type = rng.integers(0, 2, n).astype(np.uint8)
    bits = rng.integers(0, 2, n).astype(np.uint8)
    fields: dict[str, Any] = {
        "role": role,
        "parameters": parameters,
        "run_id": RUN_ID,
        "setting": bits * round_type
        if role == "alice"
        else np.where(round_type == 1, bits, 2).astype(np.uint8),
        "outcome": rng.integers(0, 2, n).astype(np.uint8),
        **undisturbed(round_type, rng.integers(0, 2, n).astype(np.uint8)),
        "herald_pattern": rng.choice(HERALD_PATTERNS, n).astype(np.uint8),
        "timestamp_mu": np.arange(n, dtype=np.int64) * 10**7,
        "lost": np.zeros(n, dtype=np.uint8),
        "attributes": {"provenance": {"artiq": "9"}, "gaps": [], "losses": []},
    }
    return RoundRecord(**{**fields, **changes})


@pytest.fixture
def parameters(make_parameters: Callable[..., ProtocolParameters]) -> ProtocolParameters:
    return make_parameters(40)


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_layout_of_schema_2(private_directory: Path, parameters: ProtocolParameters, role: str) -> None:
    record = make_record(parameters, role)
    path = private_directory / "record.h5"
    record.write(path)
    with h5py.File(path, "r") as file:
        setting = {"alice": "x", "bob": "y"}[role]
        assert set(file) == {*DTYPES, setting, "attributes_json"} - {"setting"}
        np.testing.assert_array_equal(file[setting][:], record.setting)
        assert file.attrs["schema_version"] == 2 and file.attrs["role"] == role
        assert ProtocolParameters.from_toml(file.attrs["parameters"]) == parameters
        assert file.attrs["parameters_digest"] == parameters.digest
    again = RoundRecord.read(path)
    assert again.same_as(record)
    for field in dataclasses.fields(record):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(record, field.name))
    with pytest.raises(ValueError, match="read-only"):
        again.outcome[0] = 1
    if os.name == "posix":
        path.chmod(0o640)
        with pytest.raises(StorageError, match="0640"):
            RoundRecord.read(path)


def replaced(name: str, index: int, value: int) -> Callable[[RoundRecord], dict[str, Any]]:
    def change(record: RoundRecord) -> dict[str, Any]:
        array = getattr(record, name).copy()
        array[index] = value
        return {name: array}

    return change


@pytest.mark.parametrize("role", ["alice", "bob"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced("outcome", 3, 2), "outcome is 0 or 1"),
        (replaced("round_type", 3, 2), "round_type is 0 or 1"),
        (replaced("setting", 3, 3), "fits the round type"),
        (replaced("herald_pattern", 3, 6), "one of the four"),
        (replaced("received_type", 3, 3), "received_type is 0, 1 or 2"),
        (replaced("token", 3, 2), "token is 0 or 1"),
        (replaced("received_token", 3, 3), "received_token is 0, 1 or 2"),
        (replaced("end_token", 3, 3), "end_token is"),
        (replaced("received_end_token", 3, 3), "received_end_token is"),
        (replaced("late_loss", 3, 2), "late_loss is 0 or 1"),
        (replaced("lost", 3, 2), "lost is 0 or 1"),
        (lambda r: {"lost": np.ones_like(r.lost), "late_loss": np.ones_like(r.lost)}, "0 in lost rounds"),
        (
            lambda r: {"round_type": 1 - r.round_type, "received_type": 1 - r.received_type},
            "fits the round type",
        ),
        (lambda r: {"outcome": r.outcome[:-1]}, r"shape \(39,\)"),
        (lambda r: {"timestamp_mu": r.timestamp_mu.astype(np.int32)}, "dtype int32"),
        (lambda r: {"role": "eve"}, "role 'eve'"),
        (lambda r: {"run_id": "A" * 32}, "lower-case"),
    ],
)
def test_impossible_contents_are_refused(
    parameters: ProtocolParameters,
    role: str,
    change: Callable[[RoundRecord], dict[str, Any]],
    message: str,
) -> None:
    record = make_record(parameters, role)
    with pytest.raises(StorageError, match=message):
        dataclasses.replace(record, **change(record))


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("schema", "other", "schema"),
        ("schema_version", 1, "schema 1.*rounds without tokens"),
        ("parameters", "num_rounds = ", "not a TOML file"),
        ("parameters_digest", "0" * 64, "digest"),
        ("run_id", "b2" * 16, "checksum"),
        ("role", "bob", "damaged"),
    ],
)
def test_changed_attributes_are_refused(
    private_directory: Path, parameters: ProtocolParameters, attribute: str, value: Any, message: str
) -> None:
    path = private_directory / "record.h5"
    make_record(parameters, "alice").write(path)
    with h5py.File(path, "r+") as file:
        file.attrs[attribute] = value
    with pytest.raises(StorageError, match=message):
        RoundRecord.read(path)


def test_every_truncation_is_refused(private_directory: Path, parameters: ProtocolParameters) -> None:
    path = private_directory / "record.h5"
    make_record(parameters, "alice").write(path)
    image = path.read_bytes()
    stride = 11
    for length in [*range(0, len(image) - 100, stride), *range(len(image) - 100, len(image))]:
        path.write_bytes(image[:length])
        with pytest.raises(StorageError, match="not a usable record"):
            RoundRecord.read(path)


def test_flipped_bits_are_refused_or_harmless(
    private_directory: Path, parameters: ProtocolParameters
) -> None:
    path = private_directory / "record.h5"
    record = make_record(parameters, "bob")
    record.write(path)
    image = path.read_bytes()
    rng = random.Random(9)
    num_refused = 0
    for _ in range(400):
        damaged = bytearray(image)
        position = rng.randrange(8 * len(image))
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            # A flip in an unused part of the file changes nothing.
            assert RoundRecord.read(path).same_as(record)
        except StorageError:
            num_refused += 1
    assert num_refused > 0


def test_every_flip_in_a_dataset_is_refused(private_directory: Path, parameters: ProtocolParameters) -> None:
    path = private_directory / "record.h5"
    record = make_record(parameters, "bob")
    record.write(path)
    image = path.read_bytes()
    for array in (record.setting, record.outcome, record.timestamp_mu):
        start = image.index(array.tobytes())
        for offset in range(array.nbytes):
            damaged = bytearray(image)
            damaged[start + offset] ^= 1
            path.write_bytes(damaged)
            with pytest.raises(StorageError):
                RoundRecord.read(path)


def test_other_files_are_refused(private_directory: Path) -> None:
    path = private_directory / "record.h5"
    for content in (b"", b"\x89HDF\r\n\x1a\n", b"x" * 5000):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(StorageError, match="not a usable record"):
            RoundRecord.read(path)
    with pytest.raises(StorageError, match="does not exist"):
        RoundRecord.read(private_directory / "nothing.h5")
