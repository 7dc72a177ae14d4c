"""Crash-safe export of the free bits of a generated key, each exported once.

Three steps: the free bits are reserved for this one file; the file is written durably; the bits are zeroed
in the store. After a crash the same call goes on with the same bits and the same file; another file is
refused until then. A file that is there before the export is never overwritten: it may be an earlier key.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from diqkd_postproc.files import replace_atomically
from diqkd_postproc.key_store.piece import EXPORT, Piece
from diqkd_postproc.key_store.pieces import GeneratedKeys
from diqkd_postproc.protocol.errors import StorageError


def export_free_bits(generated: GeneratedKeys, session_id: str, path: Path) -> int:
    """Move all free bits of the key of a session to a private file; returns how many.

    The file has them in order, packed big-endian and zero-padded. Raises StorageError where there are none,
    where the file exists already, or where an export to another file is not finished.
    """
    label_prefix = f"{EXPORT} to {path} "
    pieces = _reserved_for_export(generated, session_id)
    if any(not piece.label.startswith(label_prefix) for piece in pieces):
        begun = pieces[0].label.removeprefix(f"{EXPORT} to ").rpartition(" from ")[0]
        raise StorageError(f"an export of this key to {begun} was interrupted; export to that file first")
    if not pieces:
        if generated.available_bits([session_id]) and os.path.lexists(path):
            raise StorageError(f"{path} exists already; it is never overwritten, choose another name")
        generated.reserve_rest(session_id, lambda bit: f"{label_prefix}from bit {bit} of {session_id}")
        pieces = _reserved_for_export(generated, session_id)
    if not pieces:
        raise StorageError("no bit of this key is free: it was exported, delivered or reserved already")
    labels = [piece.label for piece in pieces]
    bits = np.concatenate([generated.peek(label, purpose=EXPORT) for label in labels])
    replace_atomically(path, np.packbits(bits).tobytes())
    generated.discard(labels, EXPORT)
    return int(bits.size)


def _reserved_for_export(generated: GeneratedKeys, session_id: str) -> list[Piece]:
    return [piece for piece in generated.reserved(EXPORT) if piece.session_id == session_id]
