"""Pieces of the generated keys: bits that are free, set aside or delivered.

A generated key is named by the session that made it, which both nodes know, never by a local number: Bob
can hold a key that Alice has not got. A *piece* is a range of its bits, [first_bit, first_bit + num_bits).
The pieces of a key tile it: no bit is in two, none is in no piece.

    available --reserve--> reserved --deliver--> delivered     (returned once, zeros in the file)
        ^                     |  |
        +--------free---------+  +----discard--> delivered     (zeros in the file, never returned)

Every method is one immediate transaction, all or nothing: processes that share the file never get
overlapping ranges, and a crash leaves the state before or after. `deliver` commits before it returns the
bits: after a crash in between they are lost, not issued twice. Reserved pieces survive a restart.

Agreement between the nodes: one reserves ranges (`reserve`, under public unique labels) and sends them to the
other, which applies the same ranges (`apply_reservations`) or refuses because bits are not free; only then
is anything delivered. Nodes that reserve at the same time avoid each other by working from opposite ends of
the keys (`from_end`). Where the peer may have heard of a reservation that came to nothing, `discard` it;
`free` is for one that surely never left this node.

The first bits of every key are set aside when it is activated, by its length alone, hence alike on both
nodes (`set_aside`): sets of one-time pads for later sessions (`KeyStore.renew`), then the authentication key
of the exchanges between the nodes' key delivery services (`delivery_seed`; reusable, never delivered).

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
    side_by_side,
)
from diqkd_postproc.protocol.errors import InsufficientKeyError, ParameterError, StorageError

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
        """The reserved or delivered piece of this name, None if there is none.

        label: unique in the store. A free range has no name.
        """
        found = self._named("label = ?", label)
        return found[0] if found else None

    def reserved(self, purpose: str = DELIVERY) -> tuple[Piece, ...]:
        """Reserved pieces for a purpose, the oldest key first.

        After a restart these are the ones to deliver, discard or free.
        """
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

    def reserve(
        self,
        num_bits: int,
        labels: Sequence[str],
        *,
        purpose: str = DELIVERY,
        sessions: Sequence[str] | None = None,
        from_end: bool = False,
    ) -> tuple[Piece, ...]:
        """Set aside one piece of `num_bits` bits for every label, in order; all or none.

        sessions: only from the keys of these sessions (those that the peer has too). from_end: take the last
        free bits instead of the first. Raises InsufficientKeyError where the keys have not as many free
        ranges of this length, KeyReuseError where a label is taken.
        """
        if num_bits < 1:
            raise ParameterError(f"a piece of {num_bits} bits was requested; it needs at least 1")
        with self._ledger.change():
            places = self._free_places(num_bits, len(labels), sessions, from_end)
            pieces = tuple(
                Piece(
                    session_id=session_id,
                    first_bit=first_bit,
                    num_bits=num_bits,
                    label=label,
                    purpose=purpose,
                )
                for (session_id, first_bit), label in zip(places, labels, strict=True)
            )
            self._cut_out(pieces)
            self._ledger.advance_epoch()
        return pieces

    def _free_places(
        self, num_bits: int, count: int, sessions: Sequence[str] | None, from_end: bool
    ) -> list[tuple[str, int]]:
        """Session and first bit of the first (or last) `count` free ranges of this length, side by side."""
        order = "DESC" if from_end else "ASC"
        rows = self._ledger.rows(  # by the index: there are few free pieces, however many were delivered
            "SELECT session_id, first_bit, pieces.num_bits FROM pieces JOIN generated ON key = number "
            "WHERE state = ? AND purpose IS NULL AND pieces.num_bits >= ? "
            f"ORDER BY key {order}, first_bit {order}",
            (AVAILABLE, num_bits),
        )
        places: list[tuple[str, int]] = []
        for session_id, low, size in rows:
            if sessions is None or session_id in sessions:
                last = low + size - num_bits
                fitting = range(last, low - 1, -num_bits) if from_end else range(low, last + 1, num_bits)
                places += [(session_id, first_bit) for first_bit in fitting[: count - len(places)]]
        if len(places) < count:
            raise InsufficientKeyError(
                f"{self._ledger.path}: of {count} pieces of {num_bits} free bits there are {len(places)} "
                f"({self.available_bits(sessions)} bits are free in all); request less, or make a new key"
            )
        return places

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

    def apply_reservations(self, pieces: Sequence[Piece]) -> None:
        """Set aside the very ranges that the peer has reserved; all or none.

        A piece that is reserved here already with the same range, label and purpose is left as it is.
        Raises UnknownPieceError for a key that this node does not have or a range outside it, KeyReuseError
        where a bit of a range is not free or a label is taken.
        """
        with self._ledger.change():
            new = [piece for piece in pieces if self.find(piece.label) != piece]
            if new:
                self._cut_out(new)
                self._ledger.advance_epoch()

    def _cut_out(self, pieces: Sequence[Piece]) -> None:
        """Split the free ranges around new reserved pieces, in any order."""
        labels: set[str] = set()
        for piece in pieces:
            if not piece.label:
                raise ParameterError("a piece needs a label, a public unique name")
            if piece.label in labels or self.find(piece.label) is not None:
                raise KeyReuseError(f"the label {piece.label!r} names a piece already; choose a new one")
            labels.add(piece.label)
        for neighbours in side_by_side(pieces):
            self._cut_out_together(neighbours)

    def _cut_out_together(self, pieces: Sequence[Piece]) -> None:
        """Split one free range around pieces that lie side by side, in order."""
        first_bit, end = pieces[0].first_bit, pieces[-1].end
        number, start, stop = self._free_range(pieces[0].session_id, first_bit, end - first_bit)
        rests = ((start, first_bit), (end, stop))
        self._ledger.execute("DELETE FROM pieces WHERE key = ? AND first_bit = ?", (number, start))
        self._ledger.execute_for_all(
            _INSERT,
            [
                *((number, p.first_bit, p.num_bits, RESERVED, p.purpose, p.label) for p in pieces),
                *((number, low, high - low, AVAILABLE, None, None) for low, high in rests if high > low),
            ],
        )

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

    def deliver(self, labels: Sequence[str], *, purpose: str = DELIVERY) -> tuple[bytes, ...]:
        """The bits of reserved pieces, packed big-endian and zero-padded; gone from the file on return.

        All or none. Raises UnknownPieceError for a label that names no piece of this purpose, KeyReuseError
        for one that was delivered before.
        """
        with self._ledger.change():
            bits = self.consume(labels, purpose)
            self._ledger.advance_epoch()
        return tuple(np.packbits(piece).tobytes() for piece in bits)

    def discard(self, labels: Sequence[str], *, purpose: str = DELIVERY) -> None:
        """Zero reserved pieces without returning them; errors as `deliver`."""
        self.deliver(labels, purpose=purpose)

    def free(self, labels: Sequence[str], *, purpose: str = DELIVERY) -> None:
        """Return reserved pieces to the free bits, joined with free neighbours; all or none.

        Only for pieces that surely never left this node: the peer must not have heard of them. Raises as
        `deliver`.
        """
        with self._ledger.change():
            for label in labels:
                piece = self._reserved_piece(label, purpose)
                number, _ = self._key(piece.session_id)
                start, stop = piece.first_bit, piece.end
                neighbours = self._ledger.rows(
                    "SELECT first_bit, num_bits FROM pieces WHERE key = ? AND state = ? "
                    "AND (first_bit = ? OR first_bit + num_bits = ?)",
                    (number, AVAILABLE, stop, start),
                )
                for low, size in neighbours:
                    start, stop = min(start, low), max(stop, low + size)
                self._ledger.execute(
                    "DELETE FROM pieces WHERE key = ? AND first_bit >= ? AND first_bit < ?",
                    (number, start, stop),
                )
                self._ledger.execute(_INSERT, (number, start, stop - start, AVAILABLE, None, None))
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

        Only for secrets that may be used again, such as `delivery_seed`. Raises as `deliver`.
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
        if size:
            self._ledger.execute(_INSERT, (number, 0, size, AVAILABLE, None, None))
        first_bit = 0
        for index, (purpose, num_bits) in enumerate(set_aside(size)):
            label = set_aside_label(purpose, session_id, index if purpose == PADS else 0)
            piece = Piece(
                session_id=session_id, first_bit=first_bit, num_bits=num_bits, label=label, purpose=purpose
            )
            self._cut_out([piece])
            first_bit += num_bits

    def consume(self, labels: Sequence[str], purpose: str) -> list[Bits]:
        """Reserved pieces, zeroed from here on, inside the caller's transaction: (num_bits,) uint8 each.

        Raises KeyReuseError for a piece that is named twice or was delivered before, UnknownPieceError for
        one that is not reserved for this purpose.
        """
        if len(set(labels)) != len(labels):
            raise KeyReuseError("a piece is named twice; it is never issued twice")
        pieces = [self._reserved_piece(label, purpose) for label in labels]
        bits: dict[str, Bits] = {}
        for neighbours in side_by_side(pieces):
            number, _ = self._key(neighbours[0].session_id)
            start, stop = neighbours[0].first_bit, neighbours[-1].end
            self._check_delivered_bits(number, start, stop - start)
            taken = self._blocks.take(number, start, stop - start)
            self._ledger.execute(
                "UPDATE pieces SET state = ? WHERE key = ? AND first_bit >= ? AND first_bit < ?",
                (DELIVERED, number, start, stop),
            )
            bits |= {p.label: taken[p.first_bit - start : p.end - start] for p in neighbours}
        return [bits[label] for label in labels]

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
