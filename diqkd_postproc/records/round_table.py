"""Recorded rounds inside a round spool: contiguous chunks of columns, plus losses and pauses.

A chunk is one row with one blob a column, of the dtypes in `columns`, little-endian.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.records.columns import OWN, PEER, Columns, on_disk
from diqkd_postproc.records.private_database import storage_errors

SCHEMA = f"""
CREATE TABLE rounds (
    first_round INTEGER PRIMARY KEY, num_rounds INTEGER NOT NULL,
    {", ".join(f"{name} BLOB NOT NULL" for name in OWN)});
CREATE TABLE peer_rounds (
    first_round INTEGER PRIMARY KEY, num_rounds INTEGER NOT NULL,
    {", ".join(f"{name} BLOB NOT NULL" for name in PEER)});
CREATE TABLE losses (first_round INTEGER NOT NULL, num_rounds INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE gaps (
    first_round INTEGER NOT NULL, reason TEXT NOT NULL, start_unix REAL NOT NULL, end_unix REAL NOT NULL)
"""


class RoundTable:
    """The rounds, losses and gaps of an open spool; writes happen inside the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path

    def num_rounds(self, table: str = "rounds") -> int:
        """Rounds on disk of `rounds` or `peer_rounds`; StorageError unless contiguous from 0."""
        end = 0
        for first, count in self._rows(f"SELECT first_round, num_rounds FROM {table} ORDER BY first_round"):
            if first != end:
                raise StorageError(f"{self._path} is damaged: rounds {end} to {first - 1} are missing")
            end += count
        return end

    def end(self) -> int:
        """Index after the last round on disk."""
        rows = self._rows("SELECT first_round + num_rounds FROM rounds ORDER BY first_round DESC LIMIT 1")
        return int(rows[0][0]) if rows else 0

    def insert(self, first_round: int, chunks: Sequence[Columns]) -> None:
        """Append chunks of this node's columns as one row."""
        columns = [
            np.concatenate([chunk[name] for chunk in chunks]).astype(on_disk(dtype))
            for name, dtype in OWN.items()
        ]
        marks = ", ".join("?" * (2 + len(OWN)))
        self._connection.execute(
            f"INSERT INTO rounds VALUES ({marks})",
            (first_round, columns[0].size, *(column.tobytes() for column in columns)),
        )

    def insert_peer(self, first_round: int, columns: Columns) -> None:
        """Append what the other node's columns say of the rounds from `first_round` on."""
        blobs = [columns[name].astype(on_disk(dtype)).tobytes() for name, dtype in PEER.items()]
        self._connection.execute(
            f"INSERT INTO peer_rounds VALUES ({', '.join('?' * (2 + len(PEER)))})",
            (first_round, columns["peer_sent"].size, *blobs),
        )

    def insert_loss(self, first_round: int, num_rounds: int, reason: str) -> None:
        """Note why rounds were lost."""
        self._connection.execute("INSERT INTO losses VALUES (?, ?, ?)", (first_round, num_rounds, reason))

    def insert_gap(self, first_round: int, reason: str, start_unix: float, end_unix: float) -> None:
        """Note a pause before `first_round`."""
        row = (first_round, reason, float(start_unix), float(end_unix))
        self._connection.execute("INSERT INTO gaps VALUES (?, ?, ?, ?)", row)

    def columns(self, names: Sequence[str], first_round: int = 0) -> Columns:
        """Rounds from `first_round` on of named columns of `OWN` or of `PEER`, name -> (k,) array."""
        kinds = OWN if names[0] in OWN else PEER
        table = "rounds" if kinds is OWN else "peer_rounds"
        query = f"SELECT num_rounds, {', '.join(names)}, first_round FROM {table}"
        rows = self._rows(f"{query} WHERE first_round + num_rounds > {int(first_round)} ORDER BY first_round")
        skipped = max(0, first_round - rows[0][-1]) if rows else 0
        columns: Columns = {}
        for index, name in enumerate(names, start=1):
            dtype = on_disk(kinds[name])
            if any(len(row[index]) != row[0] * dtype.itemsize for row in rows):
                raise StorageError(f"{self._path} is damaged: {name} has entries missing")
            joined = b"".join(row[index] for row in rows)
            columns[name] = np.frombuffer(joined, dtype=dtype).astype(kinds[name])[skipped:]
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
