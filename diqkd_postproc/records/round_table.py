"""The recorded rounds inside a round spool: contiguous chunks, plus losses and pauses.

A chunk is one row with one blob a column, of the dtypes in `sealed_record.DTYPES`, little-endian.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.protocol.errors import ParameterError, StorageError
from diqkd_postproc.protocol.roles import HERALD_PATTERNS
from diqkd_postproc.records.private_database import storage_errors
from diqkd_postproc.records.sealed_record import DTYPES

SCHEMA = """
CREATE TABLE rounds (
    first_round INTEGER PRIMARY KEY, num_rounds INTEGER NOT NULL, setting BLOB NOT NULL,
    outcome BLOB NOT NULL, round_type BLOB NOT NULL, herald_pattern BLOB NOT NULL,
    timestamp_mu BLOB NOT NULL, lost BLOB NOT NULL);
CREATE TABLE losses (first_round INTEGER NOT NULL, num_rounds INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE gaps (
    first_round INTEGER NOT NULL, reason TEXT NOT NULL, start_unix REAL NOT NULL, end_unix REAL NOT NULL)
"""

# Which byte values a column may hold, as tables over 0..255.
IS_BIT = np.arange(256) < 2
IS_PATTERN = np.isin(np.arange(256), HERALD_PATTERNS)
IS_PATTERN_OR_UNKNOWN = IS_PATTERN | (np.arange(256) == 0)


class RoundTable:
    """The rounds, losses and gaps of an open spool; writes happen inside the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path

    def num_rounds(self) -> int:
        """Rounds on disk; StorageError unless they are contiguous from 0."""
        end = 0
        for first, count in self._rows("SELECT first_round, num_rounds FROM rounds ORDER BY first_round"):
            if first != end:
                raise StorageError(f"{self._path} is damaged: rounds {end} to {first - 1} are missing")
            end += count
        return end

    def end(self) -> int:
        """Index after the last round on disk."""
        rows = self._rows("SELECT first_round + num_rounds FROM rounds ORDER BY first_round DESC LIMIT 1")
        return int(rows[0][0]) if rows else 0

    def insert(self, first_round: int, chunks: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        """Append chunks, each a column name -> (k,) array, as one row."""
        columns = [
            np.concatenate([chunk[name] for chunk in chunks]).astype(_on_disk(dtype))
            for name, dtype in DTYPES.items()
        ]
        self._connection.execute(
            "INSERT INTO rounds VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (first_round, columns[0].size, *(column.tobytes() for column in columns)),
        )

    def insert_loss(self, first_round: int, num_rounds: int, reason: str) -> None:
        """Note why rounds were lost."""
        self._connection.execute("INSERT INTO losses VALUES (?, ?, ?)", (first_round, num_rounds, reason))

    def insert_gap(self, first_round: int, reason: str, start_unix: float, end_unix: float) -> None:
        """Note a pause before `first_round`."""
        row = (first_round, reason, float(start_unix), float(end_unix))
        self._connection.execute("INSERT INTO gaps VALUES (?, ?, ?, ?)", row)

    def take_back(self, first_round: int) -> None:
        """Remove the rounds from `first_round` on, with what was noted of their losses."""
        names = tuple(DTYPES)
        held = self._rows(
            f"SELECT first_round, {', '.join(names)} FROM rounds "
            f"WHERE first_round < {int(first_round)} ORDER BY first_round DESC LIMIT 1"
        )
        self._connection.execute("DELETE FROM rounds WHERE first_round >= ?", (first_round,))
        self._connection.execute("DELETE FROM losses WHERE first_round >= ?", (first_round,))
        self._connection.execute(
            "UPDATE losses SET num_rounds = min(num_rounds, ? - first_round)", (first_round,)
        )
        if held:
            start, *blobs = held[0]
            count = first_round - start
            assignments = ", ".join(f"{name} = ?" for name in names)
            kept = [
                blob[: count * _on_disk(DTYPES[name]).itemsize]
                for name, blob in zip(names, blobs, strict=True)
            ]
            self._connection.execute(
                f"UPDATE rounds SET num_rounds = min(num_rounds, ?), {assignments} WHERE first_round = ?",
                (count, *kept, start),
            )

    def columns(self, names: Sequence[str], first_round: int = 0) -> dict[str, npt.NDArray[Any]]:
        """Rounds from `first_round` on of the named columns, name -> (k,) array of the dtype in DTYPES."""
        query = f"SELECT num_rounds, {', '.join(names)}, first_round FROM rounds"
        rows = self._rows(f"{query} WHERE first_round + num_rounds > {int(first_round)} ORDER BY first_round")
        skipped = max(0, first_round - rows[0][-1]) if rows else 0
        columns: dict[str, npt.NDArray[Any]] = {}
        for index, name in enumerate(names, start=1):
            on_disk = _on_disk(DTYPES[name])
            if any(len(row[index]) != row[0] * on_disk.itemsize for row in rows):
                raise StorageError(f"{self._path} is damaged: {name} has entries missing")
            joined = b"".join(row[index] for row in rows)
            columns[name] = np.frombuffer(joined, dtype=on_disk).astype(DTYPES[name])[skipped:]
        return columns

    def losses(self) -> list[dict[str, Any]]:
        """Lost rounds in order: first_round, num_rounds, reason."""
        rows = self._rows("SELECT first_round, num_rounds, reason FROM losses ORDER BY first_round")
        return [dict(zip(("first_round", "num_rounds", "reason"), row, strict=True)) for row in rows]

    def gaps(self) -> list[dict[str, Any]]:
        """Pauses in the order in which they were noted: first_round, reason, start_unix, end_unix."""
        names = ("first_round", "reason", "start_unix", "end_unix")
        rows = self._rows(f"SELECT {', '.join(names)} FROM gaps ORDER BY rowid")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _rows(self, query: str) -> list[Any]:
        with storage_errors(self._path):
            return self._connection.execute(query).fetchall()


def checked_column(name: str, values: npt.ArrayLike, allowed: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """One-dimensional uint8 copy of `values`, all allowed; ParameterError that quotes none of them."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ParameterError(f"{name} has shape {array.shape}, one entry a round is needed")
    if array.dtype != np.uint8 and array.size and not 0 <= array.min() <= array.max() <= 255:
        raise ParameterError(f"{name} has an entry that is not allowed")
    column = array.astype(np.uint8)
    if not allowed[column].all():
        raise ParameterError(f"{name} has an entry that is not allowed")
    return column


def _on_disk(dtype: npt.DTypeLike) -> np.dtype[Any]:
    return np.dtype(dtype).newbyteorder("<")
