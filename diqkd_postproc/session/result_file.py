"""Result of a session, kept beside the key store so that a report can be written later.

A private JSON file, one a session. No secret bit is in it, but Bob's count of lost test rounds is: it was
never sent, and the proof does not pay for publishing it.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from diqkd_postproc.files import open_private_file, replace_atomically
from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.session.run import SessionResult

# Bob learns these once; a session that is run again on its journal does not compute them again.
_KNOWN_IN_FIRST_SESSION = ("num_losses", "decode_iterations")
_MAX_BYTES = 1 << 20


def result_path(key_store_path: Path, session_id: str) -> Path:
    """Name of the file of the session with this hexadecimal id."""
    return key_store_path.with_name(f"{key_store_path.name}.result-{session_id[:16]}.json")


def save_result(key_store_path: Path, result: SessionResult) -> Path:
    """Write the result, with what an earlier run of the same session had learnt; returns the file.

    A resumed session keeps its first `finished_unix`. Raises StorageError.
    """
    document = result.to_dict() | {"finished_unix": time.time()}
    earlier = load_result(key_store_path, result.session_id) or {}
    for name in _KNOWN_IN_FIRST_SESSION:
        if document[name] is None:
            document[name] = earlier.get(name)
    if result.resumed and "finished_unix" in earlier:
        document["finished_unix"] = earlier["finished_unix"]
    document["peer_confirmed"] |= earlier.get("peer_confirmed") is True
    path = result_path(key_store_path, result.session_id)
    replace_atomically(path, json.dumps(document, indent=2).encode())
    return path


def save_refusal(key_store_path: Path, session_id: str, reason: str) -> None:
    """Note that this side has ended the session because a tag was wrong: no message of the peer says so.

    reason: shown by the report; it names no secret. Replaces an earlier result of the session.
    """
    document = {"session_id": session_id, "refused": reason, "finished_unix": time.time()}
    replace_atomically(result_path(key_store_path, session_id), json.dumps(document, indent=2).encode())


def load_result(key_store_path: Path, session_id: str) -> dict[str, Any] | None:
    """The stored result, None if there is none; StorageError if it is damaged or of another session.

    Members as `SessionResult.to_dict`, with `finished_unix` (seconds); or `refused`, as `save_refusal`
    writes it.
    """
    path = result_path(key_store_path, session_id)
    if not os.path.lexists(path):
        return None
    with open_private_file(path) as stream:
        text = stream.read(_MAX_BYTES)
    try:
        document = json.loads(text)
    except ValueError:
        raise StorageError(f"{path} is damaged: not JSON; run `diqkd postprocess` again") from None
    if not isinstance(document, dict) or document.get("session_id") != session_id:
        raise StorageError(f"{path} is not the result of session {session_id}; run `diqkd postprocess` again")
    return document
