"""The sealed record of one node: all rounds of a finished run in one immutable, private HDF5 file.

Schema version 2 (docs/record_format.md). It holds the node's own settings and outcomes and public facts,
never the other node's outcomes. A reader checks everything before it believes anything: file mode, schema,
parameters and their digest, shapes, dtypes, value ranges, and a SHA-256 over the datasets, so that a
truncated or altered file is refused and never half read.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from diqkd_postproc.files import open_private_file, replace_atomically
from diqkd_postproc.protocol.errors import ParameterError, StorageError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import HERALD_PATTERNS, ROLES
from diqkd_postproc.records.columns import NONE, Columns, UInt8

RECORD_NAME = "record.h5"  # in the run directory of a node
SCHEMA_NAME = "diqkd round record"
SCHEMA_VERSION = 2

SHARED_OUTCOMES = {"outcomes": "shared"}
"""In the provenance of a record whose outcomes both nodes know: a characterisation, which makes no key."""

# Dataset dtypes; the setting is stored as `x` (Alice) or `y` (Bob).
DTYPES: dict[str, npt.DTypeLike] = {
    "setting": np.uint8,
    "outcome": np.uint8,
    "round_type": np.uint8,
    "received_type": np.uint8,
    "token": np.uint8,
    "received_token": np.uint8,
    "end_token": np.uint8,
    "received_end_token": np.uint8,
    "late_loss": np.uint8,
    "herald_pattern": np.uint8,
    "timestamp_mu": np.int64,
    "edge_mu": np.int64,
    "lost": np.uint8,
}

EXCHANGED = (
    "round_type",
    "received_type",
    "token",
    "received_token",
    "end_token",
    "received_end_token",
    "late_loss",
)
"""The columns T, T', r, r', e, e' and S of docs/order.md: equal in both records, and covered by every tag."""

# Column of a record -> columns of the journal, at Alice and at Bob, that hold it.
_JOURNAL_NAMES = {
    "round_type": ("peer_sent", "sent"),
    "received_type": ("received", "peer_received"),
    "token": ("sent", "peer_sent"),
    "received_token": ("peer_received", "received"),
    "end_token": ("peer_end_token", "end_token"),
    "received_end_token": ("end_token", "peer_end_token"),
}


def columns_of_record(role: str, journal: Columns) -> Columns:
    """Columns of the record from those of a node's journal."""
    side = ROLES.index(role)
    return {name: journal[_JOURNAL_NAMES[name][side] if name in _JOURNAL_NAMES else name] for name in DTYPES}


def setting_name(role: str) -> str:
    """Name of the setting's dataset: `x` for alice, `y` for bob."""
    return "x" if role == "alice" else "y"


@dataclass(frozen=True, eq=False)
class RoundRecord:
    """All rounds of one node; arrays are (n,), read-only, checked on construction (StorageError).

    setting: uint8, x in {0, 1} or y in {0, 1, 2, 3} as applied: in key rounds y = 2, or 2 + x' (`late-type`);
    outcome: uint8 of 0/1, 0 where lost; round_type: uint8, T, 1 = test, and received_type T', 2 where none
    came; token: uint8, Alice's r, and received_token r', 2 where none came; end_token and received_end_token:
    e and e' of Bob's optional third token; late_loss: uint8, 1 where Alice has no outcome; herald_pattern:
    uint8 APD pattern as this node's core saw it, 0 where unknown; timestamp_mu: int64 herald time of the
    node's own clock, and edge_mu of the edge that it received, -1 where there was none or it is unknown;
    lost: uint8, 1 = outcome unknown; attributes: provenance, gaps and losses (JSON-compatible, public).
    """

    role: str
    parameters: ProtocolParameters
    run_id: str
    setting: npt.NDArray[np.uint8] = field(repr=False)
    outcome: npt.NDArray[np.uint8] = field(repr=False)
    round_type: npt.NDArray[np.uint8] = field(repr=False)
    received_type: npt.NDArray[np.uint8] = field(repr=False)
    token: npt.NDArray[np.uint8] = field(repr=False)
    received_token: npt.NDArray[np.uint8] = field(repr=False)
    end_token: npt.NDArray[np.uint8] = field(repr=False)
    received_end_token: npt.NDArray[np.uint8] = field(repr=False)
    late_loss: npt.NDArray[np.uint8] = field(repr=False)
    herald_pattern: npt.NDArray[np.uint8] = field(repr=False)
    timestamp_mu: npt.NDArray[np.int64] = field(repr=False)
    edge_mu: npt.NDArray[np.int64] = field(repr=False)
    lost: npt.NDArray[np.uint8] = field(repr=False)
    attributes: dict[str, Any] = field(repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise StorageError(f"role {self.role!r} is not one of {', '.join(ROLES)}")
        check_run_id(self.run_id)
        for name, dtype in DTYPES.items():
            array = np.asarray(getattr(self, name))
            if array.shape != (self.parameters.num_rounds,) or array.dtype != np.dtype(dtype):
                raise StorageError(
                    f"dataset {name} has shape {array.shape} and dtype {array.dtype}, this run needs "
                    f"({self.parameters.num_rounds},) of {np.dtype(dtype)}"
                )
            array = np.ascontiguousarray(array)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        self._check_values()

    def _check_values(self) -> None:
        is_test, lost = self.round_type == 1, self.lost == 1
        ordered = self.parameters.protocol == "ordered"
        if self.role == "alice":
            applied = (self.received_type == 1) | (not ordered)
            setting_fits = self.setting <= applied
            late_loss_fits = self.late_loss == self.lost
        else:
            key_settings = (self.setting == 2) | ((self.setting == 3) & (not ordered))
            setting_fits = np.where(is_test, self.setting <= 1, key_settings)
            late_loss_fits = self.late_loss <= 1
        checks = {
            "round_type is 0 or 1": self.round_type <= 1,
            "received_type is 0, 1 or 2": self.received_type <= NONE,
            "token is 0 or 1": self.token <= 1,
            "received_token is 0, 1 or 2": self.received_token <= NONE,
            "end_token is 0 or 1, or 2 where Bob has none": self.end_token <= NONE,
            "received_end_token is 0, 1 or 2": self.received_end_token <= NONE,
            "lost is 0 or 1": self.lost <= 1,
            "late_loss is 0 or 1, and Alice's lost rounds": late_loss_fits,
            "outcome is 0 or 1, and 0 in lost rounds": self.outcome <= ~lost,
            f"{setting_name(self.role)} fits the round type": setting_fits,
            "herald_pattern is one of the four, or 0": np.isin(self.herald_pattern, (0, *HERALD_PATTERNS)),
        }
        for rule, holds in checks.items():
            if not holds.all():
                raise StorageError(f"{np.count_nonzero(~holds)} rounds break the rule: {rule}")

    @property
    def num_lost(self) -> int:
        """Rounds whose outcome is unknown and counts as 0."""
        return int(np.count_nonzero(self.lost))

    @property
    def exchanged(self) -> bytes:
        """The columns of `EXCHANGED`, two bits an entry: what every tag covers. Public after the run."""
        packed = [
            np.packbits(np.stack((getattr(self, name) >> 1, getattr(self, name) & 1))) for name in EXCHANGED
        ]
        return b"".join(column.tobytes() for column in packed)

    @property
    def outcomes_are_shared(self) -> bool:
        """Whether both nodes have the outcomes.

        Such records can be compared and never make a key.
        """
        provenance = self.attributes.get("provenance", {})
        return bool(SHARED_OUTCOMES.items() <= provenance.items())

    def content_digest(self) -> str:
        """SHA-256 over role, run, parameters, datasets and attributes, hexadecimal.

        It depends on secrets: kept inside the private file, never shown.
        """
        digest = hashlib.sha256(f"{self.role} {self.run_id} {self.parameters.digest}\n".encode())
        for name, dtype in DTYPES.items():
            digest.update(name.encode() + b"\n")
            digest.update(getattr(self, name).astype(np.dtype(dtype).newbyteorder("<"), copy=False).data)
        digest.update(_to_json(self.attributes).encode())
        return digest.hexdigest()

    def same_as(self, other: RoundRecord) -> bool:
        """Whether two records hold the same run, rounds and attributes."""
        return self.content_digest() == other.content_digest()

    def write(self, path: Path | str) -> None:
        """Write the HDF5 file atomically with mode 0600, in a directory of mode 0700.

        Raises StorageError where the directory is not private or the disk fails.
        """
        image = io.BytesIO()
        with h5py.File(image, "w") as file:
            file.attrs["schema"] = SCHEMA_NAME
            file.attrs["schema_version"] = SCHEMA_VERSION
            file.attrs["role"] = self.role
            file.attrs["run_id"] = self.run_id
            file.attrs["parameters"] = self.parameters.to_toml()
            file.attrs["parameters_digest"] = self.parameters.digest
            file.attrs["num_lost"] = self.num_lost
            file.attrs["content_sha256"] = self.content_digest()
            # A dataset: HDF5 attributes are limited to 64 KiB.
            file.create_dataset("attributes_json", data=np.bytes_(_to_json(self.attributes).encode()))
            for name in DTYPES:
                dataset = setting_name(self.role) if name == "setting" else name
                file.create_dataset(dataset, data=getattr(self, name))
        replace_atomically(path, image.getbuffer())

    @classmethod
    def read(cls, path: Path | str) -> RoundRecord:
        """Read a record and check it against its checksum and its parameters.

        Raises StorageError if it is missing, unsafe, damaged, altered, or not a record of this schema.
        """
        with open_private_file(path) as stream:
            try:
                if os.fstat(stream.fileno()).st_size == 0:
                    raise StorageError("the file is empty")
                with h5py.File(stream, "r") as file:
                    return cls._from_hdf5(file)
            except (StorageError, ParameterError) as error:
                raise StorageError(f"{path} is not a usable record: {error}") from None
            except Exception as error:  # h5py answers damaged metadata with many types
                raise StorageError(
                    f"{path} is not a usable record: damaged or truncated HDF5 ({type(error).__name__})"
                ) from None

    @classmethod
    def _from_hdf5(cls, file: Any) -> RoundRecord:
        attrs = file.attrs
        if attrs.get("schema") != SCHEMA_NAME or attrs.get("schema_version") != SCHEMA_VERSION:
            raise StorageError(
                f"schema {attrs.get('schema_version')}, this program reads {SCHEMA_VERSION}: rounds without "
                "tokens make no key here; use the version of diqkd that recorded them"
            )
        role = str(attrs["role"])
        parameters = ProtocolParameters.from_toml(attrs["parameters"])
        if attrs["parameters_digest"] != parameters.digest:
            raise StorageError("the parameters do not have the digest that was recorded with them")
        arrays: dict[str, Any] = {}
        for name, dtype in DTYPES.items():
            dataset = file[setting_name(role) if name == "setting" else name]
            if dataset.shape != (parameters.num_rounds,) or dataset.dtype != np.dtype(dtype):
                raise StorageError(f"dataset {name} has shape {dataset.shape} and dtype {dataset.dtype}")
            arrays[name] = dataset[:]
        attributes = json.loads(bytes(file["attributes_json"][()]))
        record = cls(
            role=role, parameters=parameters, run_id=str(attrs["run_id"]), attributes=attributes, **arrays
        )
        if record.content_digest() != attrs["content_sha256"]:
            raise StorageError("the datasets do not have the recorded checksum; the file was altered")
        return record


def undisturbed(round_type: UInt8, token: UInt8 | None = None) -> Columns:
    """Columns of rounds on whose lines nothing went wrong, (n,) each: everything sent came as it was sent.

    For records that come from elsewhere than two nodes: simulations, other people's data. token: Alice's r,
    by default zeros.
    """
    zeros = np.zeros_like(round_type)
    token = zeros if token is None else token
    return {
        "round_type": round_type,
        "received_type": round_type,
        "token": token,
        "received_token": token,
        "end_token": zeros,
        "received_end_token": np.full_like(round_type, NONE),
        "late_loss": zeros,
        "edge_mu": np.full(round_type.size, -1, dtype=np.int64),
    }


def check_run_id(run_id: str) -> str:
    """Raise StorageError unless `run_id` is 32 lower-case hexadecimal digits (128 bits)."""
    if len(run_id) != 32 or set(run_id) - set("0123456789abcdef"):
        raise StorageError(f"run id {run_id!r} is not 32 lower-case hexadecimal digits")
    return run_id


def _to_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True)
