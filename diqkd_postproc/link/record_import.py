"""Records out of data that two nodes of this package did not take: a table of x, y, a, b.

A table has a row a round and named columns: `x`, `y`, `a`, `b`, or one side's; of Alice alone also `t`, the
round type (1: test), which follows from y otherwise. `y` is 2 in key rounds (and 3 in those of `late-type`
with x = 1). `pattern` and `time_s` may be there; where they are not, the record has none. Outcomes follow the
record's convention: a key round agrees if a = b, a test is won if a xor b = x y.

Nothing tells how such a round came about: that its order was that of docs/order.md is for those who took the
data to say.
"""

from __future__ import annotations

import csv
import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.link.characterisation import TEST_BITS, characterisation_parameters
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import ROLES, is_test_round
from diqkd_postproc.records.sealed_record import SHARED_OUTCOMES, RoundRecord, undisturbed

MAX_FILE_BYTES = 1 << 30
COLUMNS = {"x": 1, "y": 3, "a": 1, "b": 1, "t": 1, "pattern": 15}
"""Largest value of each column of whole numbers."""

TIME = "time_s"
OF_ROLE = {"alice": ("x", "a"), "bob": ("y", "b")}

Table = dict[str, npt.NDArray[Any]]


def read_table(path: Path) -> Table:
    """Columns of a CSV file with a header, or of an npz file; (n,) uint8, and float64 for `time_s`.

    Raises ParameterError for anything else, naming file, column, row and value.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ParameterError(f"{path} is longer than {MAX_FILE_BYTES:,} bytes; split it")
        raw = _read_npz(path) if path.suffix == ".npz" else _read_csv(path)
    except OSError as error:
        raise ParameterError(f"cannot read {path}: {error.strerror or error}") from None
    unknown = sorted(raw.keys() - COLUMNS.keys() - {TIME})
    if unknown:
        raise ParameterError(
            f"{path} has the columns {', '.join(map(repr, unknown))}; known are {', '.join(COLUMNS)} and "
            f"{TIME}"
        )
    if len({len(column) for column in raw.values()}) != 1:
        raise ParameterError(f"{path}: the columns have different lengths")
    return {name: _checked(path, name, column) for name, column in raw.items()}


def _read_npz(path: Path) -> Table:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_FILE_BYTES:
                raise ParameterError(f"{path} unpacks to more than {MAX_FILE_BYTES:,} bytes; split it")
        with np.load(path, allow_pickle=False) as file:
            return {name: np.asarray(file[name]) for name in file.files}
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, NotImplementedError) as error:
        raise ParameterError(f"{path} is no npz file of plain arrays: {error}") from None


def _read_csv(path: Path) -> Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip().lower() for name in next(reader, [])]
            rows = [row for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ParameterError(f"{path} is no CSV text: {error}") from None
    if not rows or len(set(header)) != len(header):
        raise ParameterError(f"{path} needs a header of different names, such as x,y,a,b, and rows below it")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ParameterError(f"{path}, line {number}: {len(row)} values for {len(header)} columns")
    return {name: np.array(column) for name, column in zip(header, zip(*rows, strict=True), strict=True)}


def _checked(path: Path, name: str, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if column.ndim != 1 or not column.size:
        raise ParameterError(f"{path}: column {name} has shape {column.shape}, one value a round is needed")
    try:
        values = column.astype(np.float64)
    except (ValueError, TypeError):
        raise ParameterError(f"{path}: column {name} has values that are no numbers") from None
    wrong = ~np.isfinite(values)
    if name != TIME:
        wrong |= (values < 0) | (values > COLUMNS[name]) | (values != np.floor(values))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        allowed = "a finite number" if name == TIME else f"a whole number from 0 to {COLUMNS[name]}"
        raise ParameterError(f"{path}: {name} is {column[row]!s} in round {row}; it has to be {allowed}")
    return values if name == TIME else values.astype(np.uint8)


def records_of_table(
    table: Table, parameters: ProtocolParameters | None = None, source: str = ""
) -> dict[str, RoundRecord]:
    """Record of each side that the table has, by role.

    parameters: of a run that makes a key; None for a characterisation, whose outcomes are shared. source:
    where the table comes from, for the provenance. The run id follows from the public columns, so that two
    sides that import their own tables belong together if they have the same round types and source.

    Raises ParameterError where columns lack or do not fit, StorageError for rounds that break the rules of a
    record.
    """
    roles = [role for role in ROLES if all(name in table for name in OF_ROLE[role])]
    if not roles:
        raise ParameterError("the table needs x and a, or y and b, or all four")
    if "y" in table:
        types = is_test_round(table["y"]).astype(np.uint8)
        if "t" in table and (types != table["t"]).any():
            raise ParameterError("column t does not fit y: a test (t = 1) is a round with y = 0 or 1")
    elif "t" in table:
        types = table["t"]
    else:
        raise ParameterError("Alice's columns alone do not tell which rounds are tests: add a column t")
    num_rounds = types.size
    provenance: dict[str, Any] = {"imported_from": source}
    if parameters is None:
        if len(roles) == 1:
            raise ParameterError(
                "one side's columns are no characterisation, which compares the outcomes of both; give the "
                "parameters of the run that is to make a key"
            )
        most = (2**TEST_BITS - 1) / 2**TEST_BITS
        parameters = characterisation_parameters(num_rounds, min(most, max(1 - most, float(types.mean()))))
        provenance |= SHARED_OUTCOMES
    if num_rounds != parameters.num_rounds:
        raise ParameterError(
            f"the table has {num_rounds} rounds, the parameters say num_rounds={parameters.num_rounds}"
        )
    public = hashlib.sha256(f"{parameters.digest} {source}\n".encode() + types.tobytes())
    stamps = np.full(num_rounds, -1, dtype=np.int64)
    if TIME in table:
        stamps = np.rint(1e9 * (table[TIME] - table[TIME].min())).astype(np.int64)
    records: dict[str, RoundRecord] = {}
    for role in roles:
        setting, outcome = (table[name] for name in OF_ROLE[role])
        if role == "alice" and parameters.protocol == "ordered" and (setting > types).any():
            raise ParameterError("x is 1 in key rounds, where Alice's setting is overridden to 0")
        records[role] = RoundRecord(
            role=role,
            parameters=parameters,
            run_id=public.hexdigest()[:32],
            setting=setting,
            outcome=outcome,
            herald_pattern=table.get("pattern", np.zeros(num_rounds, dtype=np.uint8)),
            timestamp_mu=stamps,
            lost=np.zeros(num_rounds, dtype=np.uint8),
            attributes={"provenance": provenance},
            **undisturbed(types),
        )
    return records
