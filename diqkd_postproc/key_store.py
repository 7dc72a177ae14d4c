"""The ledger of shared secret bits: what K0 was made of, what has been spent, what was generated.

K0 = extractor_seed | hash_seed | pad_ec | pad_a | pad_b | pad_f (SI S4). Seeds are reusable, because the
extractor is strong and every hash is encrypted. A pad encrypts one message, once: `consume` commits, before
it returns the pad, that it now belongs to one session and one message. After a crash the same message may
be sent again under the same pad; another one never. After `activate` the pads are zeros and
K1 = K0 without the pads | generated key.

Several processes may hold the store open: every change is one immediate transaction. `epoch` counts the
changes, so that a restored backup shows. Python cannot wipe memory; zeroing concerns the file only.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.balance_sheet import BalanceRow, BalanceSheet
from diqkd_postproc.errors import InsufficientKeyError, LocalProtocolError, ParameterError, StorageError
from diqkd_postproc.initial_key import (
    PAD_BITS,
    PAD_NAMES,
    SEED_NAMES,
    SEGMENT_NAMES,
    segment_sizes,
    segments_of,
)
from diqkd_postproc.parameters import ProtocolParameters
from diqkd_postproc.records.private_database import (
    create_database,
    open_database,
    remove_database,
    storage_errors,
    transaction,
)
from diqkd_postproc.records.private_files import write_atomically

SCHEMA_VERSION = 1
APPLICATION_ID = 0x44494B53  # "DIKS"
UNUSED, RELEASED, SPENT = "unused", "released", "spent"

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE segments (
    name TEXT PRIMARY KEY, num_bits INTEGER NOT NULL, bits BLOB NOT NULL, state TEXT NOT NULL,
    session_id TEXT, message_digest BLOB);
CREATE TABLE generated (
    number INTEGER PRIMARY KEY, session_id TEXT NOT NULL UNIQUE, num_bits INTEGER NOT NULL,
    bits BLOB NOT NULL)
"""


class KeyReuseError(InsufficientKeyError):
    """A one-time pad was asked for a second message: it stays locked, and a new initial key is needed."""


class KeyStore:
    """One party's store of shared secret bits, a private SQLite file."""

    def __init__(self, path: Path | str) -> None:
        """Open an existing store; same as `KeyStore.open`."""
        self.path = Path(path)
        self._connection = open_database(self.path, APPLICATION_ID)
        try:
            version = int(self._meta("schema_version"))
            if version != SCHEMA_VERSION:
                raise StorageError(f"{self.path} has schema {version}, this program reads {SCHEMA_VERSION}")
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path | str, parameters: ProtocolParameters | None = None) -> KeyStore:
        """Open a store; with `parameters`, refuse one that was made for another protocol run."""
        store = cls(path)
        if parameters is not None and store.parameters_digest != parameters.digest:
            made_for = store.parameters_digest
            store.close()
            raise StorageError(
                f"{path} was made for parameters {made_for[:16]}, this run has {parameters.digest[:16]}; "
                "use the parameter file that the key was made with, or make a new initial key"
            )
        return store

    @classmethod
    def create(
        cls,
        path: Path | str,
        segments: Mapping[str, tuple[int, bytes]],
        parameters: ProtocolParameters,
        key_id: str,
    ) -> KeyStore:
        """Create a store from `name -> (bits, packed bytes)`; every segment of K0 has to be there.

        The store keeps the digest of `parameters` and the name of their proof. `key_id` is a random public
        name that both copies of one K0 share, so that a session with a store of another pair is refused
        before a pad is spent.
        """
        if set(segments) != set(SEGMENT_NAMES):
            raise ParameterError(f"a key store needs the segments {', '.join(SEGMENT_NAMES)}")
        for name, (num_bits, packed) in segments.items():
            if len(packed) != (num_bits + 7) // 8:
                raise ParameterError(
                    f"segment {name}: {len(packed)} bytes cannot hold exactly {num_bits} bits"
                )
        meta = {
            "schema_version": str(SCHEMA_VERSION),
            "parameters_digest": parameters.digest,
            "proof": parameters.proof_label,
            "proof_status": parameters.proof_status,
            "key_id": key_id,
            "epoch": "0",
        }
        rows: dict[str, Iterable[tuple[Any, ...]]] = {
            "INSERT INTO meta VALUES (?, ?)": meta.items(),
            "INSERT INTO segments VALUES (?, ?, ?, ?, NULL, NULL)": [
                (name, segments[name][0], bytes(segments[name][1]), UNUSED) for name in SEGMENT_NAMES
            ],
        }
        create_database(path, _SCHEMA, APPLICATION_ID, rows)
        return cls(path)

    @classmethod
    def import_initial_key(
        cls,
        path: Path | str,
        parameters: ProtocolParameters,
        initial_key: bytes,
        key_id: str,
        seed_bits: int | None = None,
    ) -> KeyStore:
        """Create a store from a K0 that the parties share already: its segments in order, without padding.

        Raises InsufficientKeyError where `initial_key` is too short; bits beyond the last segment are unused.
        """
        segments = segments_of(initial_key, segment_sizes(parameters, seed_bits))
        return cls.create(path, segments, parameters, key_id)

    @classmethod
    def create_pair(
        cls,
        alice_path: Path | str,
        bob_path: Path | str,
        parameters: ProtocolParameters,
        read_bytes: Callable[[int], bytes],
        seed_bits: int | None = None,
    ) -> tuple[KeyStore, KeyStore]:
        """Create Alice's and Bob's stores with one fresh K0; a trusted courier then parts the files."""
        num_bytes = (sum(segment_sizes(parameters, seed_bits).values()) + 7) // 8
        initial_key = read_bytes(num_bytes)
        if len(initial_key) != num_bytes:
            raise InsufficientKeyError(
                f"the random source gave {len(initial_key)} bytes, an initial key needs {num_bytes}"
            )
        key_id = secrets.token_hex(16)
        alice = cls.import_initial_key(alice_path, parameters, initial_key, key_id, seed_bits)
        try:
            return alice, cls.import_initial_key(bob_path, parameters, initial_key, key_id, seed_bits)
        except BaseException:
            alice.close()
            remove_database(Path(alice_path))
            raise

    @property
    def parameters_digest(self) -> str:
        """Digest of the parameters for which K0 was sized."""
        return self._meta("parameters_digest")

    @property
    def key_id(self) -> str:
        """Public random name of this K0, equal in both stores of a pair."""
        return self._meta("key_id")

    @property
    def epoch(self) -> int:
        """Number of changes so far; public. It never decreases, so a restored backup is behind its peer."""
        return int(self._meta("epoch"))

    def segment_bits(self, name: str) -> int:
        """Length of a segment, bits."""
        return int(self._segment(name, "num_bits")[0])

    def segment_state(self, name: str) -> str:
        """`unused`, `released` (a pad bound to one message) or `spent` (zeroed); seeds stay `unused`."""
        return str(self._segment(name, "state")[0])

    def peek_seed(self, name: str) -> bytes:
        """A reusable seed, packed; its length in bits is `segment_bits(name)`."""
        if name not in SEED_NAMES:
            raise LocalProtocolError(
                f"{name} is not a reusable seed ({', '.join(SEED_NAMES)}); pads are consumed"
            )
        return bytes(self._segment(name, "bits")[0])

    def require_pads(self, session_id: str | bytes) -> None:
        """Raise InsufficientKeyError unless all four pads are unused or belong to this session."""
        session_id = _session_name(session_id)
        with storage_errors(self.path):
            rows = self._connection.execute("SELECT name, state, session_id FROM segments").fetchall()
        taken = [
            n for n, state, owner in rows if state == SPENT or (state == RELEASED and owner != session_id)
        ]
        if taken:
            raise InsufficientKeyError(
                f"{self.path}: {len(taken) * PAD_BITS} bits of one-time pads ({', '.join(sorted(taken))}) "
                "were consumed by an earlier session; a new session needs a new initial key"
            )

    def consume(self, name: str, session_id: str | bytes, message_digest: bytes | str) -> bytes:
        """Bind a pad to one message and return it; the binding is on disk before the pad is returned.

        Asked again for the same session and message it returns the same pad (a message may be sent again
        after a crash); for any other it raises KeyReuseError.
        """
        if name not in PAD_NAMES:
            raise LocalProtocolError(f"{name} is not a one-time pad ({', '.join(PAD_NAMES)})")
        digest = message_digest.encode() if isinstance(message_digest, str) else bytes(message_digest)
        session_id = _session_name(session_id)
        if not digest:
            raise LocalProtocolError("a pad is bound to a message; its digest may not be empty")
        with transaction(self._connection, self.path) as connection:
            state, owner, bound_to, bits = self._segment(name, "state, session_id, message_digest, bits")
            if state == UNUSED:
                connection.execute(
                    "UPDATE segments SET state = ?, session_id = ?, message_digest = ? WHERE name = ?",
                    (RELEASED, session_id, digest, name),
                )
                self._advance_epoch()
            elif state == SPENT or owner != session_id or not hmac.compare_digest(bytes(bound_to), digest):
                raise KeyReuseError(
                    f"{name} was consumed already, for another message or session; it is never issued twice. "
                    "A new session needs a new initial key"
                )
        return bytes(bits)

    def activate(self, session_id: str | bytes, key_bits: npt.ArrayLike) -> None:
        """Add the generated key, (l,) of 0/1, and zero the pads, in one transaction: K0 becomes K1.

        Repeating it with the same key changes nothing. Raises KeyReuseError if a pad belongs to another
        session, LocalProtocolError if this session has generated a different key already.
        """
        session_id = _session_name(session_id)
        key = _as_bits(key_bits)
        packed = np.packbits(key).tobytes()
        with transaction(self._connection, self.path) as connection:
            row = connection.execute(
                "SELECT num_bits, bits FROM generated WHERE session_id = ?", (session_id,)
            ).fetchone()
            if row is not None:
                if row[0] != key.size or not hmac.compare_digest(bytes(row[1]), packed):
                    raise LocalProtocolError("this session has activated a different key already")
                return
            owners = connection.execute("SELECT name, session_id FROM segments WHERE state != ?", (UNUSED,))
            if foreign := sorted(name for name, owner in owners if owner != session_id):
                raise KeyReuseError(
                    f"{', '.join(foreign)} belong to another session; this one generates no key"
                )
            connection.execute(
                "INSERT INTO generated (session_id, num_bits, bits) VALUES (?, ?, ?)",
                (session_id, int(key.size), packed),
            )
            connection.execute(
                f"UPDATE segments SET state = ?, session_id = ?, bits = zeroblob(length(bits)) "
                f"WHERE name IN ({', '.join('?' * len(PAD_NAMES))})",
                (SPENT, session_id, *PAD_NAMES),
            )
            self._advance_epoch()

    def generated_key(self, session_id: str | bytes | None = None) -> npt.NDArray[np.uint8]:
        """(l,) uint8 of 0/1: the key of a session, by default the latest; StorageError if there is none."""
        query = "SELECT num_bits, bits FROM generated"
        query += " ORDER BY number DESC LIMIT 1" if session_id is None else " WHERE session_id = ?"
        with storage_errors(self.path):
            row = self._connection.execute(
                query, () if session_id is None else (_session_name(session_id),)
            ).fetchone()
        if row is None:
            raise StorageError(
                f"{self.path} holds no generated key" + (" of this session" if session_id else "")
            )
        return np.unpackbits(np.frombuffer(row[1], dtype=np.uint8), count=row[0])

    def export_key(self, path: Path | str, session_id: str | bytes | None = None) -> int:
        """Write a generated key to a private file, packed big-endian, zero-padded; returns its bits."""
        key = self.generated_key(session_id)
        write_atomically(path, np.packbits(key).tobytes())
        return int(key.size)

    def has_same_key(self, other: KeyStore, session_id: str | bytes | None = None) -> bool:
        """Whether two stores on this machine hold the same key; no digest of a key is ever shown."""
        mine, theirs = self.generated_key(session_id), other.generated_key(session_id)
        return mine.size == theirs.size and hmac.compare_digest(mine.tobytes(), theirs.tobytes())

    @property
    def generated_bits(self) -> int:
        """Bits of all generated keys."""
        with storage_errors(self.path):
            return int(self._connection.execute("SELECT total(num_bits) FROM generated").fetchone()[0])

    @property
    def k0_bits(self) -> int:
        """Length of the initial key, bits."""
        with storage_errors(self.path):
            return int(self._connection.execute("SELECT sum(num_bits) FROM segments").fetchone()[0])

    @property
    def k1_bits(self) -> int:
        """Secret bits held now: unspent segments and generated keys."""
        return self.k0_bits - self._consumed(PAD_NAMES) + self.generated_bits

    def balance_sheet(self) -> BalanceSheet:
        """What has been consumed, used and generated up to now, as Table 1 of the paper."""
        hash_bits = self.segment_bits("hash_seed")
        hashed_ec = self._consumed(("pad_ec",)) > 0
        hashed = hashed_ec or self._consumed(PAD_NAMES) > 0
        generated = self.generated_bits
        rows = (
            BalanceRow(
                "validation of error correction", self._consumed(("pad_ec",)), hash_bits * hashed_ec, 0
            ),
            BalanceRow(
                "authentication",
                self._consumed(("pad_a", "pad_b")),
                hash_bits * (hashed and not hashed_ec),
                0,
                "the same hash seed" if hashed_ec else "",
            ),
            BalanceRow(
                "key activation", self._consumed(("pad_f",)), 0, 0, "the same hash seed" if hashed else ""
            ),
            BalanceRow(
                "privacy amplification", 0, self.segment_bits("extractor_seed") * (generated > 0), generated
            ),
        )
        return BalanceSheet(
            rows=rows,
            k0_bits=self.k0_bits,
            k1_bits=self.k1_bits,
            proof=self._meta("proof"),
            proof_status=self._meta("proof_status"),
        )

    def close(self) -> None:
        """Close the file; nothing is pending between calls."""
        self._connection.close()

    def __enter__(self) -> KeyStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"KeyStore({str(self.path)!r})"

    def _meta(self, name: str) -> str:
        with storage_errors(self.path):
            row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise StorageError(f"{self.path} is damaged: no {name}")
        return str(row[0])

    def _segment(self, name: str, columns: str) -> tuple[Any, ...]:
        with storage_errors(self.path):
            row: tuple[Any, ...] | None = self._connection.execute(
                f"SELECT {columns} FROM segments WHERE name = ?", (name,)
            ).fetchone()
        if row is None:
            raise StorageError(f"{self.path} has no segment {name}; segments are {', '.join(SEGMENT_NAMES)}")
        return row

    def _consumed(self, names: tuple[str, ...]) -> int:
        return sum(self.segment_bits(name) for name in names if self.segment_state(name) != UNUSED)

    def _advance_epoch(self) -> None:
        self._connection.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE name = 'epoch'")


def _session_name(session_id: str | bytes) -> str:
    """Session ids are public: text, or bytes that are kept in hexadecimal."""
    if not session_id:
        raise LocalProtocolError("the session id may not be empty")
    return session_id if isinstance(session_id, str) else bytes(session_id).hex()


def _as_bits(values: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    bits = np.asarray(values)
    if bits.ndim != 1 or (bits.size and not np.isin(bits, (0, 1)).all()):
        raise ParameterError(f"a key is a one-dimensional array of 0 and 1, not shape {bits.shape}")
    return bits.astype(np.uint8)
