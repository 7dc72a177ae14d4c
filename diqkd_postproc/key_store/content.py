"""Canonical bytes of everything in a key store, for the MAC of an encrypted one.

All tables in the order of their names, each with all rows in the order of its first columns, then the schema
itself, because a trigger or a view would change what the store does. Every value is its storage class and its
bytes in hexadecimal; every row and every table comes with its length, so that no two contents agree.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

MAC = "mac"
_SCHEMA = "sqlite_master"
_SCHEMA_COLUMNS = ("name", "type", "tbl_name", "sql")


def content_of(connection: sqlite3.Connection) -> Iterator[bytes]:
    """Parts of the content, without the MAC itself; inside one transaction of the caller, for one state."""
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    tables = {
        str(name): tuple(
            str(column[1]) for column in connection.execute(f"PRAGMA table_info({_quoted(name)})")
        )
        for (name,) in names.fetchall()
    }
    for table, columns in {**tables, _SCHEMA: _SCHEMA_COLUMNS}.items():
        values = " || ',' || ".join(f"typeof({c}) || ':' || hex({c})" for c in map(_quoted, columns))
        order = ", ".join(map(_quoted, columns[:2]))
        kept = f"WHERE name IS NOT '{MAC}'" if table == "meta" else ""
        rows = connection.execute(f"SELECT {values} FROM {_quoted(table)} {kept} ORDER BY {order}").fetchall()
        yield _with_length(table.encode()) + b"%d\n" % len(rows)
        for (row,) in rows:
            yield _with_length(row.encode())


def _with_length(part: bytes) -> bytes:
    return b"%d:" % len(part) + part


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
