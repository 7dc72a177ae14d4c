"""SQLite files that hold secrets: durable commits, zeroed deletions, one vocabulary of errors.

Journal: TRUNCATE with `synchronous=FULL`. A write-ahead log would leave overwritten secrets in the main
file until a checkpoint; a rollback journal leaves none once the commit returns, because the journal with
the old pages is then empty. TRUNCATE also syncs the emptied journal, so that a commit that returned
survives a power cut (DELETE would need `synchronous=EXTRA` for that). `secure_delete=ON` writes zeros over
what is deleted. What the file system or a flash disk keeps of overwritten blocks is out of our reach.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from diqkd_postproc.files import (
    check_private_file,
    create_private_file,
    forbid_core_dumps,
    locked,
    storage_error,
    sync_directory,
)
from diqkd_postproc.protocol.errors import StorageError

BUSY_TIMEOUT_S = 10.0
_PRAGMAS = (
    "journal_mode=TRUNCATE",
    "synchronous=FULL",
    "secure_delete=ON",
    "temp_store=MEMORY",
    "trusted_schema=OFF",
)


DATABASE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite raises; the second where its message quotes what it takes for a table's name."""


def database_error(path: Path, error: Exception) -> StorageError:
    """What to raise for one of DATABASE_ERRORS. SQLite's messages quote no stored values.

    The message names the file, SQLite's reason and the remedy: full disk, lock, quota, rights, damage.
    """
    if isinstance(error, UnicodeDecodeError):
        return StorageError(f"{path}: the file is damaged or not one of ours")
    text = str(error)
    if "full" in text:
        remedy = "the disk is full; free space and go on, nothing that was acknowledged is lost"
    elif "locked" in text:
        remedy = "it is in use by another process; end that one first"
    elif "disk I/O" in text:  # what SQLite says of EFBIG, EDQUOT, EROFS and EIO alike
        remedy = (
            f"{text}; the disk is failing or read-only, or the file meets a limit of its size: check the "
            "disk, free space, check the quota, raise `ulimit -f`, and go on, nothing that was "
            "acknowledged is lost"
        )
    elif "readonly" in text or "unable to open" in text:
        remedy = (
            f"{text}; check the rights of the folder, that there is space, and that the disk is neither "
            "failing nor read-only, and go on"
        )
    else:
        remedy = f"{text}; the file is damaged or not one of ours"
    return StorageError(f"{path}: {remedy}")


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into StorageError."""
    try:
        yield
    except DATABASE_ERRORS as error:
        raise database_error(path, error) from None


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[sqlite3.Connection]:
    """One immediate transaction: committed when the block ends, rolled back when it raises.

    BEGIN IMMEDIATE takes the write lock at once, so that what the block reads cannot change before it
    commits. SQLite's errors become StorageError.
    """
    with storage_errors(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def create_database(
    path: Path | str,
    schema: str,
    application_id: int,
    rows: Mapping[str, Iterable[tuple[Any, ...]]] = MappingProxyType({}),
    complete: Callable[[sqlite3.Connection], None] = lambda connection: None,
) -> None:
    """Create a new private database, whole or not at all; an existing file is never overwritten.

    schema: statements separated by semicolons. rows: INSERT statement -> rows. complete: what depends on
    them, in the same transaction. The file gets its name when its content is on disk, so that a crash leaves
    at most a stray temporary file.
    """
    path = Path(path)
    journal = _journal_of(path)
    if os.path.lexists(path):
        raise _exists_already(path)
    if journal.exists() and journal.stat().st_size > 0:
        raise StorageError(
            f"{journal} is left of another file that is gone; restore that file or move both away"
        )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    os.close(create_private_file(temporary))
    try:
        connection = _connect(temporary, BUSY_TIMEOUT_S)
        try:
            with transaction(connection, path):
                for statement in schema.split(";"):
                    connection.execute(statement)
                for statement, values in rows.items():
                    connection.executemany(statement, values)
                complete(connection)
                connection.execute(f"PRAGMA application_id={application_id}")
        finally:
            connection.close()
        with locked(path):  # POSIX renames over a file that is there
            if os.path.lexists(path):
                raise _exists_already(path)
            temporary.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise storage_error("create", path, error) from None
    finally:
        with suppress(OSError):  # the first error is the one to raise
            remove_database(temporary)


def _exists_already(path: Path) -> StorageError:
    return StorageError(f"{path} exists already; it is never overwritten, choose another name")


def remove_database(path: Path) -> None:
    """Remove a database and its journal, as far as they exist."""
    path.unlink(missing_ok=True)
    _journal_of(path).unlink(missing_ok=True)


def _journal_of(path: Path) -> Path:
    return path.with_name(path.name + "-journal")


def open_database(
    path: Path | str, application_id: int, *, exclusive: bool = False, timeout_s: float = BUSY_TIMEOUT_S
) -> sqlite3.Connection:
    """Open a private database of the given kind; `exclusive` keeps every other process out until closed.

    timeout_s: how long to wait for another process's lock. Raises StorageError for a file that is missing,
    not private, of another kind or in use.
    """
    path = check_private_file(path)
    if os.path.lexists(_journal_of(path)):
        check_private_file(_journal_of(path))
    connection = _connect(path, timeout_s)
    try:
        with storage_errors(path):
            if exclusive:
                connection.execute("PRAGMA locking_mode=EXCLUSIVE")
                connection.execute("BEGIN EXCLUSIVE")
                connection.execute("COMMIT")
            (found,) = connection.execute("PRAGMA application_id").fetchone()
        if found != application_id:
            raise StorageError(f"{path} is not the expected kind of file (application id {found:#x})")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, timeout_s: float) -> sqlite3.Connection:
    forbid_core_dumps()
    with storage_errors(path):
        connection = sqlite3.connect(
            path.absolute().as_uri() + "?mode=rw",
            uri=True,
            timeout=timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
    return connection
