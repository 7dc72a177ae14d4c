"""The bits of the generated keys, in blocks that keep their place in the file.

A block is written once and afterwards only overwritten by one of the same size, with delivered bits zero:
SQLite then changes it in place and leaves no copy behind. Each block counts its delivered bits, and from
schema 4 on has in its secret part which they are: bits | 1 where delivered, so that none is issued again
whatever the pieces say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.key_store.ledger import Ledger

BLOCK_BITS = 2048
SCHEMA = """
CREATE TABLE blocks (
    key INTEGER NOT NULL, block INTEGER NOT NULL, delivered_bits INTEGER NOT NULL, bits BLOB NOT NULL,
    UNIQUE (key, block))
"""
Bits = npt.NDArray[np.uint8]


class KeyBlocks:
    """Bits of the generated keys by key number and position; inside the caller's transaction.

    key: number of the key in the store. Read errors are StorageError: a block that is missing, shorter than
    the range needs, or sealed for another row.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def write(self, key: int, bits: Bits) -> None:
        """Store a new key, (l,) uint8 of 0/1.

        The last block is zero-padded to whole bytes; its length in bits is that of the key.
        """
        for start in range(0, bits.size, BLOCK_BITS):
            block, packed = start // BLOCK_BITS, np.packbits(bits[start : start + BLOCK_BITS]).tobytes()
            sealed = self._ledger.seal(self._with_delivered(packed), "blocks", key, block, 0)
            self._ledger.execute("INSERT INTO blocks VALUES (?, ?, 0, ?)", (key, block, sealed))

    def read(self, key: int, first_bit: int, num_bits: int) -> Bits:
        """(num_bits,) uint8 of 0/1."""
        parts = [np.empty(0, dtype=np.uint8)]
        for block, low, high in _blocks_of(first_bit, num_bits):
            bits, delivered, _ = self._block(key, block, high)
            self._refuse_delivered(delivered[low:high])
            parts.append(bits[low:high])
        return np.concatenate(parts)

    def take(self, key: int, first_bit: int, num_bits: int) -> Bits:
        """(num_bits,) uint8 of 0/1: bits that are being delivered, overwritten with zeros.

        The count of delivered bits of each block rises by as many; the caller checks it against the pieces
        before.
        """
        parts = [np.empty(0, dtype=np.uint8)]
        for block, low, high in _blocks_of(first_bit, num_bits):
            bits, delivered, count = self._block(key, block, high)
            self._refuse_delivered(delivered[low:high])
            parts.append(bits[low:high].copy())
            bits[low:high], delivered[low:high] = 0, 1
            count += high - low
            content = self._with_delivered(np.packbits(bits).tobytes(), np.packbits(delivered).tobytes())
            sealed = self._ledger.seal(content, "blocks", key, block, count)
            self._ledger.execute(
                "UPDATE blocks SET bits = ?, delivered_bits = ? WHERE key = ? AND block = ?",
                (sealed, count, key, block),
            )
        return np.concatenate(parts)

    def delivered_bits(self, key: int, first_bit: int, num_bits: int) -> int:
        """Bits that were zeroed in the blocks that a range touches, by the blocks' own count.

        Of whole blocks, also outside the range: 0 where there is none.
        """
        first, last = first_bit // BLOCK_BITS, (first_bit + num_bits - 1) // BLOCK_BITS
        row = self._ledger.row(
            "SELECT total(delivered_bits) FROM blocks WHERE key = ? AND block BETWEEN ? AND ?",
            (key, first, last),
        )
        return int(row[0]) if row else 0

    def _with_delivered(self, packed: bytes, delivered: bytes | None = None) -> bytes:
        """The secret part of a block: its bits, and which were delivered (None: none), both packed."""
        if not self._ledger.marks_delivered_bits:
            return packed
        return packed + (bytes(len(packed)) if delivered is None else delivered)

    def _refuse_delivered(self, delivered: Bits) -> None:
        if delivered.any():
            raise self._ledger.damaged("bits that were delivered are in a piece that was not")

    def _block(self, key: int, block: int, num_bits: int) -> tuple[Bits, Bits, int]:
        """Bits of a block, at least `num_bits`, which of them were delivered, and how many."""
        row = self._ledger.row(
            "SELECT bits, delivered_bits FROM blocks WHERE key = ? AND block = ?", (key, block)
        )
        if row is not None:
            packed = self._ledger.unseal(row[0], "blocks", key, block, row[1])
            bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8))
            delivered = np.zeros_like(bits)
            if self._ledger.marks_delivered_bits and bits.size % 16 == 0:
                bits, delivered = np.split(bits, 2)
            if bits.size >= num_bits:
                return bits, delivered, row[1]
        raise self._ledger.damaged("a part of a generated key is missing")

    def unsealed(self) -> list[bytes]:
        """All blocks, as `Ledger.seal_anew` wants them."""
        return [self._ledger.unseal(bits, *row) for bits, *row in self._rows()]

    def seal_again(self, values: list[bytes]) -> None:
        """Store all blocks as the ledger seals now."""
        for (_, *row), packed in zip(self._rows(), values, strict=True):
            self._ledger.execute(
                "UPDATE blocks SET bits = ? WHERE key = ? AND block = ?",
                (self._ledger.seal(packed, *row), row[1], row[2]),
            )

    def _rows(self) -> list[tuple[Any, ...]]:
        return self._ledger.rows(
            "SELECT bits, 'blocks', key, block, delivered_bits FROM blocks ORDER BY key, block"
        )


def _blocks_of(first_bit: int, num_bits: int) -> Iterator[tuple[int, int, int]]:
    """Each block of a range: its index, and which of its bits, from and to."""
    end = first_bit + num_bits
    for block in range(first_bit // BLOCK_BITS, (end - 1) // BLOCK_BITS + 1):
        start = block * BLOCK_BITS
        yield block, max(first_bit - start, 0), min(end - start, BLOCK_BITS)
