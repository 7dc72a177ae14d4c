"""Initial keys that this account has imported: each once, because its pads encrypt one message.

Kept are keyed fingerprints (HMAC-SHA256 under a random key of this account) of the first 256 bits, which are
the same whatever the parameters of the import. One private file in the folder of the epochs
(`epoch_witness`): the key, then the fingerprints, hexadecimal, one a line. Not recognised: a key that is
imported by another account or on another machine, or from a later bit on.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diqkd_postproc.files import locked, make_private_directory, open_private_file, replace_atomically
from diqkd_postproc.key_store.epoch_witness import state_directory
from diqkd_postproc.protocol.errors import StorageError

FILE_NAME = "initial_keys"
_FINGERPRINTED_BYTES = 32
_KEY_BYTES = 32


@contextmanager
def imported_once(initial_key: bytes, folder: Path | None = None) -> Iterator[None]:
    """Note an initial key while the block makes a store of it; forgotten again where the block raises.

    folder: None for `state_directory()`. Durable before the block, so that the key stays noted after a
    crash in it. Raises StorageError for a key that is noted already, or where the note cannot be kept.
    """
    path = (state_directory() if folder is None else folder) / FILE_NAME
    make_private_directory(path.parent)
    with locked(path):
        lines = _lines(path)
        fingerprint = _fingerprint(lines[0], initial_key)
        if fingerprint in lines[1:]:
            raise StorageError(
                f"this initial key was imported before by this account ({path}): its pads would encrypt two "
                "messages. Take a new one"
            )
        _write(path, [*lines, fingerprint])
    try:
        yield
    except BaseException:
        with locked(path):
            _write(path, [line for line in _lines(path) if line != fingerprint])
        raise


def _lines(path: Path) -> list[str]:
    """The key, then the fingerprints."""
    if not os.path.lexists(path):
        return [os.urandom(_KEY_BYTES).hex()]
    with open_private_file(path) as file:
        lines = file.read().decode(errors="replace").splitlines()
    if not lines or any(len(line) != 2 * _KEY_BYTES for line in lines):
        raise StorageError(
            f"{path}, which notes the imported initial keys, is damaged; move it away, and import no key "
            "again that was imported before"
        )
    return lines


def _fingerprint(key: str, initial_key: bytes) -> str:
    return hmac.new(key.encode(), initial_key[:_FINGERPRINTED_BYTES], hashlib.sha256).hexdigest()


def _write(path: Path, lines: list[str]) -> None:
    replace_atomically(path, "".join(f"{line}\n" for line in lines).encode())
