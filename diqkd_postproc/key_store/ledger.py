"""The open file of a key store: its transactions, its counter of changes, its public facts.

Several processes may hold one file open, so every change is one immediate transaction: what it reads cannot
change before it commits. Before each change the file's epoch is compared with what this account has seen of
it (`epoch_witness`), its encryption with the one that was opened, and the content of an encrypted one with
its MAC, which the same transaction renews. A store without one was stripped of it or is older than schema 4.
"""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from diqkd_postproc.key_store.content import MAC, content_of
from diqkd_postproc.key_store.credentials import Credential, PassphrasePrompt
from diqkd_postproc.key_store.encryption import (
    BlobSeal,
    LockedBlobs,
    PlainBlobs,
    SealError,
    new_encryption,
    open_encryption,
)
from diqkd_postproc.key_store.epoch_witness import EpochWitness
from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.records.private_database import (
    DATABASE_ERRORS,
    database_error,
    open_database,
    transaction,
)

SCHEMA_VERSION = 4
READABLE_VERSIONS = (2, 3, 4)  # without `node_link`, with it, with a MAC where it is encrypted
APPLICATION_ID = 0x44494B53  # "DIKS"
SCHEMA = "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"


class Secrets(Protocol):
    """A table with a secret column, for `Ledger.seal_anew`."""

    def unsealed(self) -> list[bytes]:
        """All secret values, in a fixed order."""
        ...

    def seal_again(self, values: list[bytes]) -> None:
        """Store them as the ledger seals now, in the same order."""
        ...


class Ledger:
    """One open key store file.

    marks_delivered_bits: whether the blocks of its generated keys do (`blocks`), from schema 4 on.
    """

    def __init__(
        self, path: Path, credential: Credential | None = None, witness_folder: Path | None = None
    ) -> None:
        """Open an existing private file.

        credential: what opens an encrypted store; without it only its public facts can be read, and nobody
        has verified them. A passphrase or key file that is given for a store without encryption is refused,
        a prompt does not ask then.
        witness_folder: where the epoch is noted, None for the account's folder (`epoch_witness`). Raises
        StorageError if the file is unsafe, of another kind or schema, or an old copy; WrongCredentialError
        (a StorageError) if the credential does not open it.
        """
        self.path = path
        self.connection: sqlite3.Connection = open_database(path, APPLICATION_ID)
        try:
            version = int(self.meta("schema_version"))
            if version not in READABLE_VERSIONS:
                raise StorageError(f"{path} has schema {version}, this program reads {READABLE_VERSIONS}")
            self.marks_delivered_bits = version >= 4
            self._witness = EpochWitness(self.meta("store_id"), witness_folder)
            self._refuse_old_copy()
            self._refuse_stripped()
            self._encryption = self._sealed_key()
            self._blobs = self._open_blobs(credential)
            if self.is_encrypted and not self.is_locked:
                with self._reading():
                    self._refuse_other_encryption()
                    self._verify()
                    self._verify_indices()
                    epoch = self.epoch
                self._witness.note(epoch, encrypted=True)
        except BaseException:
            self.close()
            raise

    def _open_blobs(self, credential: Credential | None) -> BlobSeal:
        if self._encryption is None:
            if credential is not None and not isinstance(credential, PassphrasePrompt):
                raise StorageError(
                    f"{self.path} is not encrypted, but a passphrase or key file was given for it. If you "
                    "have encrypted it, it was exchanged or altered: make a new initial key. If not, open it "
                    "without, or encrypt it with `diqkd keys passphrase --new-passphrase-file`"
                )
            return PlainBlobs()
        if credential is None:
            return LockedBlobs(self.path)
        try:
            return open_encryption(self._encryption, credential, self.meta("store_id"))
        except StorageError as error:
            raise type(error)(f"cannot open {self.path}: {error}") from None

    def _sealed_key(self) -> str | None:
        row = self.row("SELECT value FROM meta WHERE name = 'encryption'")
        return None if row is None else str(row[0])

    @property
    def is_encrypted(self) -> bool:
        """Whether its secret columns are."""
        return self._encryption is not None

    @property
    def is_locked(self) -> bool:
        """Whether it is encrypted and was opened without its credential."""
        return isinstance(self._blobs, LockedBlobs)

    @property
    def epoch(self) -> int:
        """Number of changes so far."""
        return int(self.meta("epoch"))

    def _refuse_old_copy(self) -> None:
        # In this order: an epoch is noted after it is in the file.
        seen = self._witness.seen()
        if (epoch := self.epoch) < seen:
            raise StorageError(
                f"{self.path} has seen {epoch} changes, but was seen with {seen} on this machine "
                f"({self._witness.path}): it is an old copy or a restored backup, and pads that look unused "
                "in it may be spent. Use the newest file, or make a new initial key"
            )

    def _refuse_stripped(self) -> None:
        if self._sealed_key() is None and self._witness.seen_encrypted():
            raise StorageError(
                f"{self.path} is not encrypted, but was when it was seen last on this machine "
                f"({self._witness.path}): it was exchanged or altered, and its bits may be anybody's choice. "
                "Use the right file, or make a new initial key"
            )

    def _refuse_other_encryption(self) -> None:
        if self._sealed_key() != self._encryption:
            raise StorageError(f"the passphrase or key file of {self.path} was changed; open it again")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One state of the file, whatever other processes commit meanwhile."""
        try:
            self.connection.execute("BEGIN")
            try:
                yield
            finally:
                self.connection.execute("ROLLBACK")
        except DATABASE_ERRORS as error:
            raise database_error(self.path, error) from None

    def _verify(self) -> None:
        """Compare the content of an encrypted store with its MAC, inside a transaction.

        Raises StorageError where they differ or there is none, LockedStoreError without the credential.
        """
        expected = self._blobs.mac(content_of(self.connection))
        if expected is None:
            return
        row = self.row("SELECT value FROM meta WHERE name = ?", (MAC,))
        if row is None and int(self.meta("schema_version")) < SCHEMA_VERSION:
            raise StorageError(
                f"{self.path} was encrypted before stores had a MAC over their content, so that nobody can "
                "tell whether it was altered; make a new initial key"
            )
        if row is None or not hmac.compare_digest(expected.encode(), str(row[0]).encode()):
            raise self.damaged("its content is not what its MAC was made of")

    def _verify_indices(self) -> None:
        """The MAC is over the rows; an altered index could still find another row than the one asked for."""
        if (found := self.row("PRAGMA integrity_check(1)")) != ("ok",):
            raise self.damaged(f"SQLite finds {found and found[0]}")

    def _renew_mac(self) -> None:
        if (mac := self._blobs.mac(content_of(self.connection))) is None:
            self.execute("DELETE FROM meta WHERE name = ?", (MAC,))
        else:
            self.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (MAC, mac))

    @contextmanager
    def change(self) -> Iterator[None]:
        """One immediate transaction; what was done in it is on disk when the block has ended.

        Raises StorageError where the file is an old copy, its encryption was changed or its content does not
        have its MAC, LockedStoreError without the credential; what the block raises rolls back.
        """
        with transaction(self.connection, self.path):
            self._refuse_old_copy()
            self._refuse_other_encryption()
            self._verify()
            before = self.connection.total_changes
            yield
            if self.connection.total_changes != before:
                self._renew_mac()
            epoch = self.epoch
        self._witness.note(epoch, self.is_encrypted)

    def advance_epoch(self) -> None:
        """Count one change, inside its transaction."""
        self.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE name = 'epoch'")

    def seal(self, plain: bytes, *row: object) -> bytes:
        """What to store of a secret value in the row with these public columns.

        row: name of the table and public columns, as for `unseal`. Raises LockedStoreError without the
        credential.
        """
        return self._blobs.seal(plain, *row)

    def unseal(self, stored: bytes, *row: object) -> bytes:
        """A stored secret value; StorageError if it does not belong to this row.

        Raises StorageError also where another process has changed the encryption since this file was opened,
        LockedStoreError without the credential.
        """
        # Outside a change, whose beginning has checked it, another process may have changed the encryption.
        if not self.connection.in_transaction:
            self._refuse_other_encryption()
        try:
            return self._blobs.open(stored, *row)
        except SealError as error:
            raise self.damaged(str(error)) from None

    def seal_anew(self, credential: Credential | None, secrets: Iterable[Secrets]) -> None:
        """Give the store a new key under `credential`, or none, and seal every secret value again.

        One transaction: after an error or a crash the store is as it was, under the earlier credential. That
        it is decrypted is noted before the commit: noted too early, it costs evidence; too late, the store.
        """
        store_id = self.meta("store_id")
        text, blobs = (None, PlainBlobs()) if credential is None else new_encryption(credential, store_id)
        before = self._blobs, self._encryption
        try:
            with self.change():
                opened = [(table, table.unsealed()) for table in secrets]
                self._blobs = blobs
                for table, values in opened:
                    table.seal_again(values)
                self.execute("DELETE FROM meta WHERE name = 'encryption'")
                if text is not None:
                    self.execute("INSERT INTO meta VALUES ('encryption', ?)", (text,))
                self.advance_epoch()
                self._encryption = text
                if text is None:
                    self._witness.note(self._witness.seen(), encrypted=False)
        except BaseException:
            self._blobs, self._encryption = before
            raise

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        """Run one statement of a change.

        Raises StorageError with the remedy for what SQLite raises (`database_error`).
        """
        try:
            self.connection.execute(statement, values)
        except DATABASE_ERRORS as error:
            raise database_error(self.path, error) from None

    def execute_for_all(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run one statement of a change for every row of values."""
        try:
            self.connection.executemany(statement, rows)
        except DATABASE_ERRORS as error:
            raise database_error(self.path, error) from None

    def rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        try:
            return self.connection.execute(query, values).fetchall()
        except DATABASE_ERRORS as error:
            raise database_error(self.path, error) from None

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
