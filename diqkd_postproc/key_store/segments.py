"""The segments of the current initial key in the ledger: two reusable seeds, four one-time pads.

A pad encrypts one message, once: `consume` commits, before it returns the pad, that it now belongs to one
session and one message. After a crash the same message may be sent again under the same pad; another one
never.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from diqkd_postproc.errors import InsufficientKeyError, LocalProtocolError, ParameterError, StorageError
from diqkd_postproc.initial_key import PAD_BITS, PAD_NAMES, SEED_NAMES, SEGMENT_NAMES
from diqkd_postproc.key_store.errors import KeyReuseError
from diqkd_postproc.key_store.ledger import Ledger

UNUSED, RELEASED, SPENT = "unused", "released", "spent"
SCHEMA = """
CREATE TABLE segments (
    name TEXT PRIMARY KEY, num_bits INTEGER NOT NULL, bits BLOB NOT NULL, state TEXT NOT NULL,
    session_id TEXT, message_digest BLOB)
"""
INSERT = "INSERT INTO segments VALUES (?, ?, ?, ?, NULL, NULL)"


def segment_rows(segments: Mapping[str, tuple[int, bytes]]) -> list[tuple[Any, ...]]:
    """Rows of a new store from `name -> (bits, packed bytes)`; ParameterError unless K0 is complete."""
    if set(segments) != set(SEGMENT_NAMES):
        raise ParameterError(f"a key store needs the segments {', '.join(SEGMENT_NAMES)}")
    for name, (num_bits, packed) in segments.items():
        if len(packed) != (num_bits + 7) // 8:
            raise ParameterError(f"segment {name}: {len(packed)} bytes cannot hold exactly {num_bits} bits")
    return [(name, segments[name][0], bytes(segments[name][1]), UNUSED) for name in SEGMENT_NAMES]


class Segments:
    """The segments of an open store."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def row(self, name: str, columns: str) -> tuple[Any, ...]:
        """Columns of one segment; StorageError if there is no such segment."""
        row = self._ledger.row(f"SELECT {columns} FROM segments WHERE name = ?", (name,))
        if row is None:
            raise StorageError(
                f"{self._ledger.path} has no segment {name}; segments are {', '.join(SEGMENT_NAMES)}"
            )
        return row

    def peek_seed(self, name: str) -> bytes:
        """A reusable seed, packed."""
        if name not in SEED_NAMES:
            raise LocalProtocolError(
                f"{name} is not a reusable seed ({', '.join(SEED_NAMES)}); pads are consumed"
            )
        return bytes(self.row(name, "bits")[0])

    def require_pads(self, session_id: str) -> None:
        """Raise InsufficientKeyError unless all four pads are unused or belong to this session."""
        rows = self._ledger.rows("SELECT name, state, session_id FROM segments")
        taken = [
            name
            for name, state, owner in rows
            if state == SPENT or (state == RELEASED and owner != session_id)
        ]
        if taken:
            raise InsufficientKeyError(
                f"{self._ledger.path}: {len(taken) * PAD_BITS} bits of one-time pads "
                f"({', '.join(sorted(taken))}) were consumed by an earlier session; take the next pads from "
                "a generated key with `diqkd keys next` at both nodes, or make a new initial key"
            )

    def consume(self, name: str, session_id: str, message_digest: bytes) -> bytes:
        """Bind a pad to one message and return it; see `KeyStore.consume`."""
        if name not in PAD_NAMES:
            raise LocalProtocolError(f"{name} is not a one-time pad ({', '.join(PAD_NAMES)})")
        if not message_digest:
            raise LocalProtocolError("a pad is bound to a message; its digest may not be empty")
        with self._ledger.change():
            state, owner, bound_to, bits = self.row(name, "state, session_id, message_digest, bits")
            if state == UNUSED:
                self._ledger.execute(
                    "UPDATE segments SET state = ?, session_id = ?, message_digest = ? WHERE name = ?",
                    (RELEASED, session_id, message_digest, name),
                )
                self._ledger.advance_epoch()
            elif (
                state == SPENT
                or owner != session_id
                or not hmac.compare_digest(bytes(bound_to), message_digest)
            ):
                raise KeyReuseError(
                    f"{name} was consumed already, for another message or session; it is never issued twice. "
                    "A new session needs new pads (`diqkd keys next`) or a new initial key"
                )
        return bytes(bits)

    def spend_pads(self, session_id: str) -> None:
        """Zero all pads for a session that made a key, inside the caller's transaction."""
        owners = self._ledger.rows("SELECT name, session_id FROM segments WHERE state != ?", (UNUSED,))
        if foreign := sorted(name for name, owner in owners if owner != session_id):
            raise KeyReuseError(f"{', '.join(foreign)} belong to another session; this one generates no key")
        for name in PAD_NAMES:
            self._ledger.execute(
                "UPDATE segments SET state = ?, session_id = ?, bits = zeroblob(length(bits)) WHERE name = ?",
                (SPENT, session_id, name),
            )

    def replace_pads(self, pads: Mapping[str, bytes]) -> None:
        """Put fresh pads in place of old ones, inside the caller's transaction."""
        for name, packed in pads.items():
            self._ledger.execute(
                "UPDATE segments SET state = ?, session_id = NULL, message_digest = NULL, bits = ? "
                "WHERE name = ?",
                (UNUSED, packed, name),
            )

    def consumed_bits(self, names: tuple[str, ...]) -> int:
        """Bits of these segments that are no longer unused."""
        rows = [self.row(name, "num_bits, state") for name in names]
        return sum(num_bits for num_bits, state in rows if state != UNUSED)
