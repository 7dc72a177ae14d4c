"""Private note beside a record, naming the one session that its outcomes are for.

The proof is about one session a record. A second one with another initial key, say after an abort, would
reveal the same syndrome under other tags and could extract a second key from the same outcomes: together they
are not secret. The note is made when both sides have agreed, before anything that depends on the record is
sent, and the same session may go on as often as it needs to.
"""

from __future__ import annotations

import os
from pathlib import Path

from diqkd_postproc.files import open_private_file, replace_atomically
from diqkd_postproc.protocol.errors import ParameterError

_MAX_BYTES = 128


def claim_path(record_path: Path) -> Path:
    """Name of the note beside a record."""
    return record_path.with_name(f"{record_path.name}.session")


def claim_record(record_path: Path, session_id: str) -> None:
    """Note the session; ParameterError if the record belongs to another one, StorageError if it fails.

    Idempotent for the same session. session_id: hexadecimal. The note is a private file, durable when this
    returns.
    """
    path = claim_path(record_path)
    if os.path.lexists(path):
        with open_private_file(path) as file:
            owner = file.read(_MAX_BYTES).decode(errors="replace")
        if owner != session_id:
            raise ParameterError(
                f"{record_path} was post-processed in session {owner[:32]!r} already, this is session "
                f"{session_id}; a record serves one session, whatever became of it. Acquire another"
            )
    else:
        replace_atomically(path, session_id.encode())
