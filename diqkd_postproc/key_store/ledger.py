"""The open file of a key store: its transactions, its counter of changes, its public facts.

Several processes may hold one file open, so every change is one immediate transaction: what it reads cannot
change before it commits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diqkd_postproc.errors import StorageError
from diqkd_postproc.records.private_database import open_database, storage_errors, transaction

SCHEMA_VERSION = 2
APPLICATION_ID = 0x44494B53  # "DIKS"
SCHEMA = "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"


class Ledger:
    """One open key store file."""

    def __init__(self, path: Path) -> None:
        """Open an existing private file; StorageError if it is unsafe or of another kind or schema."""
        self.path = path
        self.connection: sqlite3.Connection = open_database(path, APPLICATION_ID)
        try:
            version = int(self.meta("schema_version"))
            if version != SCHEMA_VERSION:
                raise StorageError(f"{path} has schema {version}, this program reads {SCHEMA_VERSION}")
        except BaseException:
            self.close()
            raise

    @contextmanager
    def change(self) -> Iterator[None]:
        """One immediate transaction; what was done in it is on disk when the block has ended."""
        with transaction(self.connection, self.path):
            yield

    def advance_epoch(self) -> None:
        """Count one change, inside its transaction."""
        self.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE name = 'epoch'")

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        """Run one statement of a change."""
        with storage_errors(self.path):
            self.connection.execute(statement, values)

    def rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with storage_errors(self.path):
            return self.connection.execute(query, values).fetchall()

    def row(self, query: str, values: tuple[Any, ...] = ()) -> tuple[Any, ...] | None:
        """The first row of a query, None if there is none."""
        rows = self.rows(query, values)
        return rows[0] if rows else None

    def meta(self, name: str) -> str:
        """A public fact of the store; StorageError if it is not there."""
        row = self.row("SELECT value FROM meta WHERE name = ?", (name,))
        if row is None:
            raise StorageError(f"{self.path} is damaged: no {name}")
        return str(row[0])

    def damaged(self, what: str) -> StorageError:
        """The error of a file that contradicts itself."""
        return StorageError(
            f"{self.path} is damaged or was altered: {what}; nothing is issued from it; "
            "make a new initial key"
        )

    def close(self) -> None:
        """Close the file; nothing is pending between changes."""
        self.connection.close()
