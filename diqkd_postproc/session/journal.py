"""The journal of a session: every protocol message sent or received, durable before it takes effect.

An SQLite file beside the key store. It holds public frames only, but belongs to the party's private
folder: who can change it can make the party try a tag twice. Open, it is locked, so that a session runs in
one process at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from diqkd_postproc.protocol.errors import RemoteProtocolError, StorageError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.records.private_database import (
    create_database,
    open_database,
    storage_errors,
    transaction,
)
from diqkd_postproc.session.events import Persist
from diqkd_postproc.session.framing import FRAME_BYTES, PROTOCOL_VERSION, decode_frame
from diqkd_postproc.session.messages import MessageType, payload_limits

APPLICATION_ID = 0x44494B4A  # "DIKJ"
_SCHEMA = f"""
PRAGMA user_version={PROTOCOL_VERSION};
CREATE TABLE begin (epoch INTEGER NOT NULL);
CREATE TABLE frames (
    position INTEGER PRIMARY KEY, kind INTEGER NOT NULL UNIQUE, outgoing INTEGER NOT NULL,
    frame BLOB NOT NULL)
"""


def journal_path(key_store_path: Path, session_id: bytes) -> Path:
    """Name of the session's journal beside the key store."""
    return _journal_path(key_store_path, session_id.hex())


def _journal_path(key_store_path: Path, session_id: str) -> Path:
    return key_store_path.with_name(f"{key_store_path.name}.session-{session_id[:16]}")


@contextmanager
def idle_session(key_store_path: Path, session_id: str) -> Iterator[None]:
    """Keep a session from going on while the block runs; StorageError where it is running now.

    For whoever ends it for good: a session under way would take the next pads for its own.
    """
    path = _journal_path(key_store_path, session_id)
    if not os.path.lexists(path):
        yield
        return
    with closing(open_database(path, APPLICATION_ID, exclusive=True, timeout_s=1.0)):
        yield


class SessionJournal:
    """The messages of one session in the order in which they became durable."""

    def __init__(self, path: Path, parameters: ProtocolParameters, session_id: bytes, epoch: int = 0) -> None:
        """Open, or create with the key store's `epoch`.

        Raises StorageError if the file is damaged, of another session, or in use.
        """
        self.path = path
        if not os.path.lexists(path):
            create_database(path, _SCHEMA, APPLICATION_ID, {"INSERT INTO begin VALUES (?)": [(epoch,)]})
        self._connection = open_database(path, APPLICATION_ID, exclusive=True, timeout_s=1.0)
        try:
            self.epoch = self._read_epoch()
            self.entries = self._read(parameters, session_id)
        except BaseException:
            self.close()
            raise

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with storage_errors(self.path):
            return self._connection.execute(query).fetchall()

    def _read_epoch(self) -> int:
        """The key store's epoch when the session began."""
        ((version,),) = self._rows("PRAGMA user_version")
        if version != PROTOCOL_VERSION:
            raise StorageError(
                f"{self.path} is of a session by protocol version {version}, this program speaks "
                f"{PROTOCOL_VERSION}; end it with the version of diqkd that began it"
            )
        found = self._rows("SELECT epoch FROM begin WHERE typeof(epoch) = 'integer' AND epoch >= 0 LIMIT 2")
        if len(found) != 1:
            raise StorageError(f"{self.path} is damaged: the epoch is missing")
        return int(found[0][0])

    def _read(self, parameters: ProtocolParameters, session_id: bytes) -> tuple[Persist, ...]:
        most = max(greatest for _, greatest in payload_limits(parameters).values()) + FRAME_BYTES
        ((unfit,),) = self._rows(
            f"SELECT count(*) > {len(MessageType)} OR total(typeof(frame) != 'blob' "
            f"OR typeof(outgoing) != 'integer' OR length(frame) > {most}) > 0 FROM frames"
        )
        if unfit:
            raise StorageError(f"{self.path} is damaged: it holds what is no message")
        rows = self._rows("SELECT outgoing, frame FROM frames ORDER BY position")
        try:
            return tuple(
                Persist(
                    outgoing=bool(outgoing), message=decode_frame(frame, parameters, session_id), frame=frame
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
