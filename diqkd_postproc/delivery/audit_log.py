"""Audit log of key delivery: who got which key, when, one JSON object a line, and never a bit of a key.

Ids of keys, names of SAEs, sizes and outcomes are public within the node. What a client chose freely is
written as JSON and cut to a bounded length, so that it can neither forge a line nor fill the disk. A line is
handed to the operating system before the answer leaves: it survives the end of this process; only a power
cut can take the last lines, and the key store, which is synchronous, still knows what was issued.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from diqkd_postproc.files import check_private_file, create_private_file, storage_error

MAX_FIELD_CHARACTERS = 128
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_APPEND_FLAGS = (
    os.O_WRONLY
    | os.O_APPEND
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class AuditLog:
    """Append-only file of requests and their outcomes."""

    def __init__(self, path: Path) -> None:
        """Open or create; StorageError where the file or its folder is not private."""
        self._path = path
        if not os.path.lexists(path):
            os.close(create_private_file(path))
        check_private_file(path)
        try:
            self._descriptor = os.open(path, _APPEND_FLAGS)
        except OSError as error:
            raise storage_error("open", path, error) from None

    def write(
        self,
        action: str,
        outcome: str | int,
        *,
        sae: str = "",
        peer_sae: str = "",
        address: str = "",
        key_ids: Sequence[str] = (),
        size: int | None = None,
        reason: str = "",
    ) -> None:
        """Append one line.

        action: method of the API, or start and stop. outcome: HTTP status, or a word. sae, peer_sae: who
        requested, and the other SAE. size: bits of each key. Free text is cut to MAX_FIELD_CHARACTERS; empty
        members are left out. Raises StorageError where the line cannot be written whole.
        """
        entry: dict[str, object] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "action": action,
            "outcome": outcome,
        }
        texts = {"sae": sae, "peer_sae": peer_sae, "address": address, "reason": reason}
        entry |= {name: text[:MAX_FIELD_CHARACTERS] for name, text in texts.items() if text}
        if key_ids:
            entry["key_ids"] = list(key_ids)
        if size is not None:
            entry["size"] = size
        try:
            line = _ENCODER.encode(entry).encode() + b"\n"
            if os.write(self._descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise storage_error("write", self._path, error) from None

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
