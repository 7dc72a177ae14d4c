"""Pieces of the generated keys: bits that are free, set aside or delivered.

A generated key is named by the session that made it, which both nodes know, never by a local number: Bob
can hold a key that Alice has not got. A *piece* is a range of its bits, [first_bit, first_bit + num_bits).
The pieces of a key tile it: no bit is in two, none is in no piece.

    available --take--> delivered                              (returned once, zeros in the file)
        |                   ^
        +--reserve_rest--> reserved --discard--> delivered     (an export, see `export`)

Changes are immediate transactions, all or nothing: processes that share the file never get overlapping
ranges, and a crash leaves the state before or after. Bits are returned when they have left the file: after a
crash in between they are lost, not issued twice.

The nodes need no agreement here: each takes from its own half of a key what it issues, and from the other's
what the other has issued (`delivery_halves`, `diqkd_postproc.delivery.key_ids`).

The first bits of every key are set aside when it is activated, by its length alone, hence alike on both
nodes (`set_aside`): sets of one-time pads for later sessions (`KeyStore.renew`), then the seed of the tags of
key ids (`delivery_seed`; reusable, never delivered).

A count of delivered bits that contradicts the pieces means a damaged or altered file, and nothing is
issued from it: zeros would pass for a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from diqkd_postproc.key_store import blocks
from diqkd_postproc.key_store.blocks import BLOCK_BITS, Bits, KeyBlocks
from diqkd_postproc.key_store.errors import KeyReuseError, UnknownPieceError
from diqkd_postproc.key_store.ledger import Ledger
from diqkd_postproc.key_store.piece import (
    AVAILABLE,
    DELIVERED,
    DELIVERY,
    DELIVERY_SEED,
    EXPORT,
    PADS,
    RESERVED,
    HeldKey,
    Piece,
    set_aside,
    set_aside_label,
)
from diqkd_postproc.protocol.errors import StorageError

SCHEMA = f"""
CREATE TABLE generated (
    number INTEGER PRIMARY KEY, initial_key INTEGER NOT NULL UNIQUE, session_id TEXT NOT NULL UNIQUE,
    num_bits INTEGER NOT NULL);
CREATE TABLE pieces (
    key INTEGER NOT NULL, first_bit INTEGER NOT NULL, num_bits INTEGER NOT NULL CHECK (num_bits > 0),
    state TEXT NOT NULL, purpose TEXT, label TEXT UNIQUE, PRIMARY KEY (key, first_bit)) WITHOUT ROWID;
CREATE INDEX pieces_by_state ON pieces (state, purpose, key, first_bit);
{blocks.SCHEMA}
"""
_INSERT = "INSERT INTO pieces VALUES (?, ?, ?, ?, ?, ?)"


class GeneratedKeys:
    """The generated keys of an open store: `KeyStore.generated`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._blocks = KeyBlocks(ledger)

    @property
    def blocks(self) -> KeyBlocks:
        """Where the bits are."""
        return self._blocks

    def held(self) -> tuple[HeldKey, ...]:
        """Every generated key, the oldest first, with its bits by state.

        Raises StorageError if the pieces of a key do not add up to it.
        """
        rows = self._ledger.rows(
            "SELECT session_id, generated.num_bits, total((state = ?1) * pieces.num_bits), "
            "total((state = ?2) * pieces.num_bits), total((state = ?3) * pieces.num_bits) "
            "FROM generated LEFT JOIN pieces ON key = number GROUP BY number ORDER BY number",
            (AVAILABLE, RESERVED, DELIVERED),
        )
        for _, size, *counts in rows:
            if sum(counts) != size:
                raise self._ledger.damaged("the pieces of a generated key do not add up to it")
        return tuple(
            HeldKey(session_id=name, num_bits=size, available=int(a), reserved=int(r), delivered=int(d))
            for name, size, a, r, d in rows
        )

    def available_bits(self, sessions: Sequence[str] | None = None) -> int:
        """Free bits of all keys, or of the keys of these sessions.

        Pieces that are set aside do not count. StorageError as `held`.
        """
        return sum(key.available for key in self.held() if sessions is None or key.session_id in sessions)

    def find(self, label: str) -> Piece | None:
        """The piece that was set aside under this name, None if there is none.

        label: unique in the store. What is free or was taken has no name.
        """
        found = self._named("label = ?", label)
        return found[0] if found else None

    def reserved(self, purpose: str) -> tuple[Piece, ...]:
        """Pieces that are set aside for a purpose, the oldest key first."""
        return self._named("state = ? AND purpose = ?", RESERVED, purpose)

    def _named(self, condition: str, *values: str) -> tuple[Piece, ...]:
        rows = self._ledger.rows(
            "SELECT session_id, first_bit, pieces.num_bits, label, purpose, state FROM pieces "
            f"JOIN generated ON key = number WHERE {condition} ORDER BY number, first_bit",
            values,
        )
        return tuple(
            Piece(session_id=key, first_bit=at, num_bits=size, label=label, purpose=purpose, state=state)
            for key, at, size, label, purpose, state in rows
        )

    def reserve_rest(self, session_id: str, label_of: Callable[[int], str]) -> None:
        """Set aside every free range of a key for export.

        label_of: gives the label of a range from its first bit. Raises UnknownPieceError where the session
        has no key here.
        """
        with self._ledger.change():
            number, _ = self._key(session_id)
            rows = self._ledger.rows(
                "SELECT first_bit FROM pieces WHERE key = ? AND state = ?", (number, AVAILABLE)
            )
            for (first_bit,) in rows:
                self._ledger.execute(
                    "UPDATE pieces SET state = ?, purpose = ?, label = ? WHERE key = ? AND first_bit = ?",
                    (RESERVED, EXPORT, label_of(first_bit), number, first_bit),
                )
            self._ledger.advance_epoch()

    @contextmanager
    def change(self) -> Iterator[None]:
        """One transaction around calls of `take`: all or nothing, on disk when the block has ended."""
        with self._ledger.change():
            before = self._ledger.connection.total_changes
            yield
            if self._ledger.connection.total_changes != before:
                self._ledger.advance_epoch()

    def lengths(self) -> tuple[tuple[str, int], ...]:
        """Session and length in bits of every generated key, the oldest first."""
        return tuple(self._ledger.rows("SELECT session_id, num_bits FROM generated ORDER BY number"))

    def free_ranges(self) -> tuple[tuple[str, int, int], ...]:
        """Session, first bit and end of every free range, the oldest key first."""
        return tuple(
            self._ledger.rows(
                "SELECT session_id, first_bit, first_bit + pieces.num_bits FROM pieces "
                "JOIN generated ON key = number WHERE state = ? AND purpose IS NULL ORDER BY key, first_bit",
                (AVAILABLE,),
            )
        )

    def read_free(self, session_id: str, first_bit: int, num_bits: int) -> Bits:
        """(num_bits,) uint8 of 0/1: free bits that stay where they are. Raises as `take`."""
        number, _, _ = self._free_range(session_id, first_bit, num_bits)
        return self._read(number, first_bit, num_bits)

    def take(self, session_id: str, first_bit: int, num_bits: int) -> Bits:
        """(num_bits,) uint8 of 0/1: free bits that are delivered with this, inside `change`.

        They are zeros in the file from its end on. A call that raises changes nothing: UnknownPieceError for
        a range outside a key that is here, KeyReuseError where a bit of it is not free.
        """
        number, start, stop = self._free_range(session_id, first_bit, num_bits)
        self._check_delivered_bits(number, first_bit, num_bits)
        bits = self._blocks.take(number, first_bit, num_bits)
        end = first_bit + num_bits
        # Without a label, neighbours are joined: rows do not grow in number with the keys that have left.
        neighbours = self._ledger.rows(
            "SELECT first_bit, first_bit + num_bits FROM pieces WHERE key = ?1 AND state = ?2 AND "
            "label IS NULL AND (first_bit = ?4 OR first_bit = (SELECT max(first_bit) FROM pieces "
            "WHERE key = ?1 AND first_bit < ?3) AND first_bit + num_bits = ?3)",
            (number, DELIVERED, first_bit, end),
        )
        joined = [(first_bit, end), *neighbours]
        low, high = min(one for one, _ in joined), max(other for _, other in joined)
        self._ledger.execute_for_all(
            "DELETE FROM pieces WHERE key = ? AND first_bit = ?",
            [(number, at) for at in (start, *(one for one, _ in neighbours))],
        )
        free = [(one, other) for one, other in ((start, first_bit), (end, stop)) if other > one]
        self._ledger.execute_for_all(
            _INSERT,
            [
                (number, low, high - low, DELIVERED, DELIVERY, None),
                *((number, one, other - one, AVAILABLE, None, None) for one, other in free),
            ],
        )
        return bits

    def _free_range(self, session_id: str, first_bit: int, num_bits: int) -> tuple[int, int, int]:
        """Number of the key, first bit and end of the free range that these bits are in."""
        number, size = self._key(session_id)
        end = first_bit + num_bits
        if not 0 <= first_bit < end <= size:
            raise UnknownPieceError(
                f"{num_bits} bits from bit {first_bit} on are no range of the {size} bits of session "
                f"{session_id}"
            )
        around = self._ledger.row(  # the piece that holds bit `first_bit`, as pieces tile the key
            "SELECT first_bit, first_bit + num_bits, state FROM pieces WHERE key = ? AND first_bit <= ? "
            "ORDER BY first_bit DESC LIMIT 1",
            (number, first_bit),
        )
        start, stop, state = around or (0, 0, None)
        if state != AVAILABLE or stop < end:
            raise KeyReuseError(
                f"of the {num_bits} bits from bit {first_bit} on of session {session_id} some are reserved "
                "or delivered already; they are never issued twice"
            )
        return number, start, stop

    def _key(self, session_id: str) -> tuple[int, int]:
        """Number and length of the key of a session."""
        row = self._ledger.row("SELECT number, num_bits FROM generated WHERE session_id = ?", (session_id,))
        if row is None:
            raise UnknownPieceError(f"{self._ledger.path} has no key of session {session_id}")
        return row[0], row[1]

    def discard(self, labels: Sequence[str], purpose: str) -> None:
        """Zero pieces that were set aside, all or none.

        Raises UnknownPieceError for a label that names no piece of this purpose, KeyReuseError for one that
        was delivered before.
        """
        with self._ledger.change():
            for label in labels:
                self.consume(label, purpose)
            self._ledger.advance_epoch()

    def delivery_seed(self, session_id: str) -> bytes:
        """Hash seed of the exchanges of key delivery: DELIVERY_SEED_BITS set aside, never delivered.

        Raises UnknownPieceError where this session has no key here, or one too short to set any aside.
        """
        return np.packbits(
            self.peek(set_aside_label(DELIVERY_SEED, session_id), purpose=DELIVERY_SEED)
        ).tobytes()

    def peek(self, label: str, *, purpose: str) -> Bits:
        """Bits of a reserved piece that stays reserved: (num_bits,) uint8 of 0/1.

        Only for secrets that may be used again, such as `delivery_seed`. Raises as `discard`.
        """
        piece = self._reserved_piece(label, purpose)
        number, _ = self._key(piece.session_id)
        return self._read(number, piece.first_bit, piece.num_bits)

    def whole(self, session_id: str) -> Bits:
        """A key of which nothing was delivered: (l,) uint8 of 0/1.

        Raises StorageError otherwise, UnknownPieceError where the session has no key here.
        """
        number, size = self._key(session_id)
        (held,) = (key for key in self.held() if key.session_id == session_id)
        if held.delivered:
            raise StorageError(
                f"{held.delivered} of the {size} bits of the key of session {session_id} have left "
                f"{self._ledger.path}: it cannot be shown whole"
            )
        return self._read(number, 0, size)

    def agrees_with(self, session_id: str, bits: Bits) -> bool:
        """Whether the key of a session is this one, as far as it is still held.

        bits: (l,) uint8 of 0/1. Delivered bits are zeros in the file and are not compared.
        """
        number, size = self._key(session_id)
        if size != bits.size:
            return False
        rows = self._ledger.rows(
            "SELECT first_bit, num_bits FROM pieces WHERE key = ? AND state != ?", (number, DELIVERED)
        )
        return all(np.array_equal(self._read(number, at, n), bits[at : at + n]) for at, n in rows)

    def add(self, initial_key: int, session_id: str, bits: Bits) -> None:
        """Store the key of a session with its set-aside pieces, inside the caller's transaction.

        initial_key: number of the initial key that made it, from 1. bits: (l,) uint8 of 0/1. Raises
        StorageError where the session or initial key has made one already.
        """
        self._ledger.execute(
            "INSERT INTO generated (initial_key, session_id, num_bits) VALUES (?, ?, ?)",
            (initial_key, session_id, int(bits.size)),
        )
        number, size = self._key(session_id)
        self._blocks.write(number, bits)
        first_bit = 0
        for index, (purpose, num_bits) in enumerate(set_aside(size)):
            label = set_aside_label(purpose, session_id, index if purpose == PADS else 0)
            self._ledger.execute(_INSERT, (number, first_bit, num_bits, RESERVED, purpose, label))
            first_bit += num_bits
        if first_bit < size:
            self._ledger.execute(_INSERT, (number, first_bit, size - first_bit, AVAILABLE, None, None))

    def consume(self, label: str, purpose: str) -> Bits:
        """(num_bits,) uint8 of 0/1: a piece that was set aside, zeroed from here on.

        Inside the caller's transaction. Raises as `discard`.
        """
        piece = self._reserved_piece(label, purpose)
        number, _ = self._key(piece.session_id)
        self._check_delivered_bits(number, piece.first_bit, piece.num_bits)
        self._ledger.execute("UPDATE pieces SET state = ? WHERE label = ?", (DELIVERED, label))
        return self._blocks.take(number, piece.first_bit, piece.num_bits)

    def _reserved_piece(self, label: str, purpose: str) -> Piece:
        piece = self.find(label)
        if piece is None or piece.purpose != purpose:
            raise UnknownPieceError(f"{self._ledger.path} has no piece {label!r} reserved for {purpose}")
        if piece.state == DELIVERED:
            raise KeyReuseError(f"piece {label!r} was delivered already; it is never issued twice")
        return piece

    def _read(self, number: int, first_bit: int, num_bits: int) -> Bits:
        self._check_delivered_bits(number, first_bit, num_bits)
        return self._blocks.read(number, first_bit, num_bits)

    def _check_delivered_bits(self, number: int, first_bit: int, num_bits: int) -> None:
        """Compare the counts of the blocks of a range with the pieces; StorageError where they differ."""
        low = first_bit // BLOCK_BITS * BLOCK_BITS
        high = -(-(first_bit + num_bits) // BLOCK_BITS) * BLOCK_BITS
        rows = self._ledger.rows(  # from the piece that holds bit `low` on, as pieces tile the key
            "SELECT first_bit, num_bits FROM pieces WHERE key = ?1 AND state = ?2 AND first_bit < ?4 AND "
            "first_bit >= (SELECT max(first_bit) FROM pieces WHERE key = ?1 AND first_bit <= ?3)",
            (number, DELIVERED, low, high),
        )
        delivered = sum(max(0, min(start + size, high) - max(start, low)) for start, size in rows)
        if delivered != self._blocks.delivered_bits(number, first_bit, num_bits):
            raise self._ledger.damaged("the count of delivered bits contradicts the pieces")
