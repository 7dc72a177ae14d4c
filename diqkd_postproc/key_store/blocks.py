"""The bits of the generated keys, in blocks that keep their place in the file.

A block is written once and afterwards only overwritten by one of the same size, with delivered bits zero:
SQLite then changes it in place and leaves no copy behind. Each block counts its delivered bits.
"""

from __future__ import annotations

from collections.abc import Iterator

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
    """Bits of the generated keys by key number and position; inside the caller's transaction."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def write(self, key: int, bits: Bits) -> None:
        """Store a new key, (l,) uint8 of 0/1."""
        for start in range(0, bits.size, BLOCK_BITS):
            packed = np.packbits(bits[start : start + BLOCK_BITS]).tobytes()
            self._ledger.execute("INSERT INTO blocks VALUES (?, ?, 0, ?)", (key, start // BLOCK_BITS, packed))

    def read(self, key: int, first_bit: int, num_bits: int) -> Bits:
        """(num_bits,) uint8 of 0/1."""
        parts = [bits[low:high] for _, bits, low, high in self._parts(key, first_bit, num_bits)]
        return np.concatenate([np.empty(0, dtype=np.uint8), *parts])

    def zero(self, key: int, first_bit: int, num_bits: int) -> None:
        """Overwrite bits that are being delivered."""
        for block, bits, low, high in self._parts(key, first_bit, num_bits):
            bits[low:high] = 0
            self._ledger.execute(
                "UPDATE blocks SET bits = ?, delivered_bits = delivered_bits + ? WHERE key = ? AND block = ?",
                (np.packbits(bits).tobytes(), high - low, key, block),
            )

    def delivered_bits(self, key: int, first_bit: int, num_bits: int) -> int:
        """Bits that were zeroed in the blocks that a range touches, by the blocks' own count."""
        first, last = first_bit // BLOCK_BITS, (first_bit + num_bits - 1) // BLOCK_BITS
        row = self._ledger.row(
            "SELECT total(delivered_bits) FROM blocks WHERE key = ? AND block BETWEEN ? AND ?",
            (key, first, last),
        )
        return int(row[0]) if row else 0

    def _parts(self, key: int, first_bit: int, num_bits: int) -> Iterator[tuple[int, Bits, int, int]]:
        """Each block of a range: its index, its bits, and which of them the range covers."""
        end = first_bit + num_bits
        for block in range(first_bit // BLOCK_BITS, (end - 1) // BLOCK_BITS + 1):
            row = self._ledger.row("SELECT bits FROM blocks WHERE key = ? AND block = ?", (key, block))
            start = block * BLOCK_BITS
            low, high = max(first_bit - start, 0), min(end - start, BLOCK_BITS)
            bits = np.unpackbits(np.frombuffer(row[0] if row else b"", dtype=np.uint8))
            if bits.size < high:
                raise self._ledger.damaged("a part of a generated key is missing")
            yield block, bits, low, high
