"""The pool of random bits inside a round spool: filled before the run, each bit taken out once.

Bits are a queue with two counters, filled and spent. Taking bits deletes the blocks that are used up and
zeroes the taken part of the last one, in the caller's transaction, together with what the bits are used for.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.records.private_database import storage_errors, transaction

BLOCK_BYTES = 4096
FILL_CHUNK_BYTES = 1 << 20

SCHEMA = """
CREATE TABLE pool_state (
    only INTEGER PRIMARY KEY CHECK (only = 0), filled_bits INTEGER NOT NULL, spent_bits INTEGER NOT NULL);
CREATE TABLE pool (block INTEGER PRIMARY KEY, first_bit INTEGER NOT NULL, bits BLOB NOT NULL);
INSERT INTO pool_state VALUES (0, 0, 0)
"""


class RandomPool:
    """Queue of unspent random bits in an open spool.

    Bits leave at the head, in order, and are overwritten with zeros in the transaction that takes them: no
    crash can give them out twice.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path

    def _counters(self) -> tuple[int, int]:
        """Bits filled and spent so far, from the file: an interrupt cannot leave a stale copy."""
        with storage_errors(self._path):
            filled, spent = self._connection.execute(
                "SELECT filled_bits, spent_bits FROM pool_state"
            ).fetchone()
        return int(filled), int(spent)

    @property
    def bits_available(self) -> int:
        """Unspent bits."""
        filled, spent = self._counters()
        return filled - spent

    def fill(self, read_bytes: Callable[[int], bytes], num_bytes: int) -> None:
        """Append `num_bytes` bytes of a source, 1 MiB a transaction.

        Raises StorageError where the source returns nothing or too much; the transactions before it stay.
        """
        while num_bytes > 0:
            data = read_bytes(min(num_bytes, FILL_CHUNK_BYTES))
            if not 0 < len(data) <= num_bytes:
                raise StorageError(f"the random source gave {len(data)} bytes, {num_bytes} were expected")
            blocks = range(0, len(data), BLOCK_BYTES)
            with transaction(self._connection, self._path) as connection:
                filled, _ = self._counters()
                connection.executemany(
                    "INSERT INTO pool (first_bit, bits) VALUES (?, ?)",
                    [(filled + 8 * start, data[start : start + BLOCK_BYTES]) for start in blocks],
                )
                connection.execute("UPDATE pool_state SET filled_bits = ?", (filled + 8 * len(data),))
            num_bytes -= len(data)

    def consume(self, num_bits: int) -> npt.NDArray[np.uint8]:
        """Take bits off the head, inside the caller's transaction: (num_bits,) uint8 of 0/1.

        Raises StorageError if the file lacks bits that it counts as available.
        """
        _, start = self._counters()
        end = start + num_bits
        taken = [np.empty(0, dtype=np.uint8)]
        cursor = self._connection.execute("SELECT block, first_bit, bits FROM pool ORDER BY block")
        rows = list(itertools.takewhile(lambda row: row[1] < end, cursor))
        cursor.close()
        for block, first_bit, packed in rows:
            bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8))
            low, high = max(start - first_bit, 0), min(end - first_bit, bits.size)
            taken.append(bits[low:high].copy())
            if high == bits.size:
                self._connection.execute("DELETE FROM pool WHERE block = ?", (block,))
            else:
                bits[:high] = 0
                self._connection.execute(
                    "UPDATE pool SET bits = ? WHERE block = ?", (np.packbits(bits).tobytes(), block)
                )
        self._connection.execute("UPDATE pool_state SET spent_bits = ?", (end,))
        drawn = np.concatenate(taken)
        if drawn.size != num_bits:
            raise StorageError(f"{self._path} is damaged: its pool lacks {num_bits - drawn.size} bits")
        return drawn
