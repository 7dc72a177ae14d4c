"""The journal of a session: every protocol message sent or received, durable before it takes effect.

An SQLite file beside the key store. It holds public frames only, but belongs to the party's private
folder: who can change it can make the party try a tag twice. Open, it is locked, so that a session runs in
one process at a time.
"""

from __future__ import annotations

import os
from pathlib import Path

from diqkd_postproc.errors import RemoteProtocolError, StorageError
from diqkd_postproc.parameters import ProtocolParameters
from diqkd_postproc.records.private_database import (
    create_database,
    open_database,
    storage_errors,
    transaction,
)
from diqkd_postproc.session.events import Persist
from diqkd_postproc.session.framing import decode_frame

APPLICATION_ID = 0x44494B4A  # "DIKJ"
_SCHEMA = """
CREATE TABLE frames (
    position INTEGER PRIMARY KEY, kind INTEGER NOT NULL UNIQUE, outgoing INTEGER NOT NULL,
    frame BLOB NOT NULL)
"""


def journal_path(key_store_path: Path, session_id: bytes) -> Path:
    """Name of the session's journal beside the key store."""
    return key_store_path.with_name(f"{key_store_path.name}.session-{session_id.hex()[:16]}")


class SessionJournal:
    """The messages of one session in the order in which they became durable."""

    def __init__(self, path: Path, parameters: ProtocolParameters, session_id: bytes) -> None:
        """Open or create; raises StorageError if damaged, of another session, or in use."""
        self.path = path
        if not os.path.lexists(path):
            create_database(path, _SCHEMA, APPLICATION_ID)
        self._connection = open_database(path, APPLICATION_ID, exclusive=True, timeout_s=1.0)
        try:
            self.entries = self._read(parameters, session_id)
        except BaseException:
            self.close()
            raise

    def _read(self, parameters: ProtocolParameters, session_id: bytes) -> tuple[Persist, ...]:
        with storage_errors(self.path):
            rows = self._connection.execute("SELECT outgoing, frame FROM frames ORDER BY position").fetchall()
        try:
            return tuple(
                Persist(
                    outgoing=bool(outgoing),
                    message=decode_frame(bytes(frame), parameters, session_id),
                    frame=bytes(frame),
                )
                for outgoing, frame in rows
            )
        except RemoteProtocolError as error:
            raise StorageError(f"{self.path} is not a journal of this session: {error}") from None

    def append(self, entry: Persist) -> None:
        """Add one message; it is on disk when this returns. A second one of its type is refused."""
        with transaction(self._connection, self.path) as connection:
            connection.execute(
                "INSERT INTO frames (kind, outgoing, frame) VALUES (?, ?, ?)",
                (int(entry.message.type), int(entry.outgoing), entry.frame),
            )

    def close(self) -> None:
        """Release the file."""
        self._connection.close()
