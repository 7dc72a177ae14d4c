"""The segments of the current initial key in the ledger: two reusable seeds, four one-time pads, `node_link`.

A pad encrypts one message, once: `consume` commits, before it returns the pad, that it now belongs to one
session and one message. After a crash the same message may be sent again under the same pad; another one
never. In an encrypted store a pad is sealed to the number of its initial key too: an unused pad of an earlier
one, put back by whoever can write the file, does not open.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from diqkd_postproc.key_store.encryption import BlobSeal
from diqkd_postproc.key_store.errors import KeyReuseError
from diqkd_postproc.key_store.initial_key import NODE_LINK, PAD_BITS, PAD_NAMES, SEED_NAMES, SEGMENT_NAMES
from diqkd_postproc.key_store.ledger import Ledger
from diqkd_postproc.protocol.errors import (
    InsufficientKeyError,
    LocalProtocolError,
    ParameterError,
    StorageError,
)

UNUSED, RELEASED, SPENT = "unused", "released", "spent"
SCHEMA = """
CREATE TABLE segments (
    name TEXT PRIMARY KEY, num_bits INTEGER NOT NULL, bits BLOB NOT NULL, state TEXT NOT NULL,
    session_id TEXT, message_digest BLOB)
"""
INSERT = "INSERT INTO segments VALUES (?, ?, ?, ?, NULL, NULL)"


def _row(
    initial_key: int, name: str, num_bits: int, state: str, session_id: str | None, digest: bytes | None
) -> tuple[Any, ...]:
    """To what a segment's bits are sealed: its public columns, and a pad to the number of its initial key."""
    of_key = initial_key if name in PAD_NAMES else 0
    text = None if digest is None else bytes(digest).hex()
    return ("segments", of_key, name, num_bits, state, session_id, text)


def segment_rows(segments: Mapping[str, tuple[int, bytes]], blobs: BlobSeal) -> list[tuple[Any, ...]]:
    """Rows of a new store from `name -> (bits, packed bytes)`; ParameterError unless K0 is complete."""
    if set(segments) != set(SEGMENT_NAMES):
        raise ParameterError(f"a key store needs the segments {', '.join(SEGMENT_NAMES)}")
    for name, (num_bits, packed) in segments.items():
        if len(packed) != (num_bits + 7) // 8:
            raise ParameterError(f"segment {name}: {len(packed)} bytes cannot hold exactly {num_bits} bits")
    rows = []
    for name in SEGMENT_NAMES:
        num_bits, packed = segments[name]
        sealed = blobs.seal(bytes(packed), *_row(1, name, num_bits, UNUSED, None, None))
        rows.append((name, num_bits, sealed, UNUSED))
    return rows


class Segments:
    """The segments of an open store."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def row(self, name: str, columns: str) -> tuple[Any, ...]:
        """Columns of one segment; StorageError if there is no such segment.

        columns: SQL, of our own text only.
        """
        row = self._ledger.row(f"SELECT {columns} FROM segments WHERE name = ?", (name,))
        if row is None:
            raise StorageError(
                f"{self._ledger.path} has no segment {name}; segments are {', '.join(SEGMENT_NAMES)}"
            )
        return row

    def _bits(self, name: str) -> bytes:
        """A segment, packed."""
        num_bits, state, owner, digest, bits = self.row(
            name, "num_bits, state, session_id, message_digest, bits"
        )
        return self._ledger.unseal(bits, *_row(self._initial_key(), name, num_bits, state, owner, digest))

    def _update(
        self, name: str, packed: bytes, state: str, session_id: str | None, digest: bytes | None
    ) -> None:
        row = _row(self._initial_key(), name, self.num_bits(name), state, session_id, digest)
        sealed = self._ledger.seal(packed, *row)
        self._ledger.execute(
            "UPDATE segments SET bits = ?, state = ?, session_id = ?, message_digest = ? WHERE name = ?",
            (sealed, state, session_id, digest, name),
        )

    def _initial_key(self) -> int:
        """Number of the current initial key, from 1."""
        row = self._ledger.row("SELECT max(number) FROM initial_keys")
        if row is None or row[0] is None:
            raise self._ledger.damaged("the initial key has no name")
        return int(row[0])

    def num_bits(self, name: str) -> int:
        """Length of a segment, bits."""
        return int(self.row(name, "num_bits")[0])

    def peek_seed(self, name: str) -> bytes:
        """A reusable seed, packed.

        Big-endian, zero-padded to whole bytes. LocalProtocolError for a pad, which only `consume` returns.
        """
        if name not in SEED_NAMES:
            raise LocalProtocolError(
                f"{name} is not a reusable seed ({', '.join(SEED_NAMES)}); pads are consumed"
            )
        return self._bits(name)

    def node_link_key(self) -> bytes:
        """What authenticates the nodes' connection, packed; StorageError in a store that is older than it."""
        if NODE_LINK not in self.names:
            raise StorageError(
                f"{self._ledger.path} was made before initial keys had a segment for the nodes' connection; "
                "make a new initial key"
            )
        return self._bits(NODE_LINK)

    @property
    def names(self) -> tuple[str, ...]:
        """Segments of this store, in order; one of schema 2 has no `node_link`."""
        present = {str(row[0]) for row in self._ledger.rows("SELECT name FROM segments")}
        return tuple(name for name in SEGMENT_NAMES if name in present)

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
            state, owner, bound_to = self.row(name, "state, session_id, message_digest")
            bits = self._bits(name)
            if state == UNUSED:
                self._update(name, bits, RELEASED, session_id, message_digest)
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
        return bits

    def spend_pads(self, session_id: str) -> None:
        """Zero all pads for a session that made a key, inside the caller's transaction.

        Raises KeyReuseError where a pad was released to another session; then none is zeroed.
        """
        owners = self._ledger.rows("SELECT name, session_id FROM segments WHERE state != ?", (UNUSED,))
        if foreign := sorted(name for name, owner in owners if owner != session_id):
            raise KeyReuseError(f"{', '.join(foreign)} belong to another session; this one generates no key")
        for name in PAD_NAMES:  # what they were bound to is not needed any more, and depends on outcomes
            self._update(name, bytes(PAD_BITS // 8), SPENT, session_id, None)

    def replace_pads(self, pads: Mapping[str, bytes]) -> None:
        """Put the pads of a new initial key in place, inside the transaction that has given it its number."""
        for name, packed in pads.items():
            self._update(name, packed, UNUSED, None, None)

    def unsealed(self) -> list[bytes]:
        """All segments, as `Ledger.seal_anew` wants them."""
        return [self._bits(name) for name in self.names]

    def seal_again(self, values: list[bytes]) -> None:
        """Store all segments as the ledger seals now."""
        for name, packed in zip(self.names, values, strict=True):
            self._update(name, packed, *self.row(name, "state, session_id, message_digest"))

    def consumed_bits(self, names: tuple[str, ...]) -> int:
        """Bits of these segments that are no longer unused."""
        rows = [self.row(name, "num_bits, state") for name in names]
        return sum(num_bits for num_bits, state in rows if state != UNUSED)
