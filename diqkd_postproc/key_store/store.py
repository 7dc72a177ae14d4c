"""Key store of one party: its shared secret bits, and every operation on them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.key_store import ledger, pieces, segments
from diqkd_postproc.key_store.content import MAC, content_of
from diqkd_postproc.key_store.credentials import Credential
from diqkd_postproc.key_store.encryption import BlobSeal, PlainBlobs, new_encryption
from diqkd_postproc.key_store.epoch_witness import EpochWitness
from diqkd_postproc.key_store.export import export_free_bits
from diqkd_postproc.key_store.initial_key import (
    NODE_LINK,
    PAD_BITS,
    PAD_NAMES,
    segment_sizes,
    segments_of,
)
from diqkd_postproc.key_store.ledger import APPLICATION_ID, SCHEMA_VERSION, Ledger
from diqkd_postproc.key_store.piece import PADS
from diqkd_postproc.key_store.pieces import GeneratedKeys
from diqkd_postproc.key_store.segments import INSERT as INSERT_SEGMENT
from diqkd_postproc.key_store.segments import Segments, segment_rows
from diqkd_postproc.protocol.balance_sheet import BalanceSheet, balance_of
from diqkd_postproc.protocol.errors import (
    InsufficientKeyError,
    LocalProtocolError,
    ParameterError,
    StorageError,
)
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.records.private_database import create_database, remove_database

_SCHEMA = f"""
{ledger.SCHEMA};
CREATE TABLE initial_keys (number INTEGER PRIMARY KEY, key_id TEXT NOT NULL UNIQUE);
{segments.SCHEMA};
{pieces.SCHEMA}
"""


class KeyStore:
    """One party's store of shared secret bits, a private SQLite file.

    generated: the pieces of the generated keys, see `GeneratedKeys`.
    """

    def __init__(
        self, path: Path | str, credential: Credential | None = None, witness_folder: Path | None = None
    ) -> None:
        """Open an existing store; same as `KeyStore.open`."""
        self.path = Path(path)
        self._ledger = Ledger(self.path, credential, witness_folder)
        self._segments = Segments(self._ledger)
        self.generated = GeneratedKeys(self._ledger)

    @classmethod
    def open(
        cls,
        path: Path | str,
        parameters: ProtocolParameters | None = None,
        credential: Credential | None = None,
        witness_folder: Path | None = None,
    ) -> KeyStore:
        """Open a store; with `parameters`, refuse one that was made for another protocol run.

        credential: what opens an encrypted store (`credentials`); refused for another one, except a prompt,
        which does not ask then. Without it an encrypted store shows its public facts, unverified, and raises
        LockedStoreError where it is to be changed or a secret is wanted. witness_folder: private folder in
        which this machine notes the store's epoch, outside the store so that a restored old copy shows; None
        for the account's (`epoch_witness`). Give the same folder to every use of the store.
        """
        store = cls(path, credential, witness_folder)
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
        credential: Credential | None = None,
        witness_folder: Path | None = None,
    ) -> KeyStore:
        """Create a store from `name -> (bits, packed bytes)`; every segment of K0 has to be there.

        The store keeps the digest of `parameters` and the name of their proof. `key_id` is a random public
        name that both copies of one K0 share, so that a session with a store of another pair is refused
        before a pad is spent. `credential`: encrypt the secret columns under it.
        `witness_folder`: as in `open`.
        """
        store_id = secrets.token_hex(16)
        encryption = {}
        blobs: BlobSeal = PlainBlobs()
        if credential is not None:
            encryption["encryption"], blobs = new_encryption(credential, store_id)
        meta = {
            "schema_version": str(SCHEMA_VERSION),
            "parameters_digest": parameters.digest,
            "proof": parameters.proof_label,
            "proof_status": parameters.proof_status,
            "epoch": "0",
            "store_id": store_id,
            **encryption,
        }
        rows: dict[str, Iterable[tuple[Any, ...]]] = {
            "INSERT INTO meta VALUES (?, ?)": meta.items(),
            "INSERT INTO initial_keys (key_id) VALUES (?)": [(key_id,)],
            INSERT_SEGMENT: segment_rows(segments, blobs),
        }
        EpochWitness(store_id, witness_folder)  # raises, where it must, before there is a store

        def authenticate(connection: sqlite3.Connection) -> None:
            if (mac := blobs.mac(content_of(connection))) is not None:
                connection.execute("INSERT INTO meta VALUES (?, ?)", (MAC, mac))

        create_database(path, _SCHEMA, APPLICATION_ID, rows, authenticate)
        return cls(path, credential, witness_folder)

    @classmethod
    def import_initial_key(
        cls,
        path: Path | str,
        parameters: ProtocolParameters,
        initial_key: bytes,
        key_id: str,
        seed_bits: int | None = None,
        credential: Credential | None = None,
        witness_folder: Path | None = None,
    ) -> KeyStore:
        """Create a store from a K0 that the parties share already: its segments in order, without padding.

        Raises InsufficientKeyError where `initial_key` is too short; bits beyond the last segment are unused.
        """
        segments = segments_of(initial_key, segment_sizes(parameters, seed_bits))
        return cls.create(path, segments, parameters, key_id, credential, witness_folder)

    @classmethod
    def create_pair(
        cls,
        alice_path: Path | str,
        bob_path: Path | str,
        parameters: ProtocolParameters,
        read_bytes: Callable[[int], bytes],
        seed_bits: int | None = None,
        credential: Credential | None = None,
        witness_folder: Path | None = None,
    ) -> tuple[KeyStore, KeyStore]:
        """Create Alice's and Bob's stores with one fresh K0; a trusted courier then parts the files.

        credential: encrypts both; each owner then changes it (`change_credential`). witness_folder:
        of both on this machine, as in `open`.
        """
        num_bytes = (sum(segment_sizes(parameters, seed_bits).values()) + 7) // 8
        initial_key = read_bytes(num_bytes)
        if len(initial_key) != num_bytes:
            raise InsufficientKeyError(
                f"the random source gave {len(initial_key)} bytes, an initial key needs {num_bytes}"
            )
        key_id = secrets.token_hex(16)
        common = (parameters, initial_key, key_id, seed_bits, credential, witness_folder)
        alice = cls.import_initial_key(alice_path, *common)
        try:
            return alice, cls.import_initial_key(bob_path, *common)
        except BaseException:
            alice.close()
            remove_database(Path(alice_path))
            raise

    @property
    def parameters_digest(self) -> str:
        """Digest of the parameters for which K0 was sized."""
        return self._ledger.meta("parameters_digest")

    @property
    def key_id(self) -> str:
        """Public name of the current K0, equal in both stores of a pair."""
        return self.key_ids[-1]

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Names of all initial keys that this store has had, the current one last."""
        return tuple(
            str(row[0]) for row in self._ledger.rows("SELECT key_id FROM initial_keys ORDER BY number")
        )

    @property
    def epoch(self) -> int:
        """Number of changes so far; public. It never decreases, so a restored backup is behind its peer."""
        return self._ledger.epoch

    def segment_bits(self, name: str) -> int:
        """Length of a segment, bits."""
        return self._segments.num_bits(name)

    def segment_state(self, name: str) -> str:
        """State of a segment of K0.

        `unused`, `released` (a pad bound to one message) or `spent` (zeroed). The two seeds and `node_link`
        stay `unused`, because they are reusable.
        """
        return str(self._segments.row(name, "state")[0])

    def peek_seed(self, name: str) -> bytes:
        """A reusable seed as packed bytes, big-endian and zero-padded to whole bytes.

        Its length in bits is `segment_bits(name)`. Raises LockedStoreError for an encrypted store without
        credential.
        """
        return self._segments.peek_seed(name)

    def node_link_key(self) -> bytes:
        """The 256 bits under which both nodes authenticate their connection during acquisition.

        Reusable. Raises LockedStoreError for an encrypted store without credential, StorageError for a store
        that was made before there was such a segment.
        """
        return self._segments.node_link_key()

    def require_pads(self, session_id: str | bytes) -> None:
        """Raise InsufficientKeyError unless all four pads are unused or belong to this session.

        Checked before a session sends anything, so that a lack of key costs nothing.
        """
        self._segments.require_pads(_session_name(session_id))

    def consume(self, name: str, session_id: str | bytes, message_digest: bytes | str) -> bytes:
        """Bind a pad to one message and return it; the binding is on disk before the pad is returned.

        For the same session and message it returns the same pad again (a message may be sent again
        after a crash); for any other it raises KeyReuseError.
        """
        digest = message_digest.encode() if isinstance(message_digest, str) else bytes(message_digest)
        return self._segments.consume(name, _session_name(session_id), digest)

    def activate(self, session_id: str | bytes, key_bits: npt.ArrayLike) -> None:
        """Add the generated key, (l,) of 0/1, and zero the pads, in one transaction: K0 becomes K1.

        Its first bits are set aside for pads and for key delivery (`pieces`). Repeating it with the same
        key changes nothing. Raises KeyReuseError if a pad belongs to another session, LocalProtocolError if
        this session has generated a different key already.
        """
        session_id = _session_name(session_id)
        key = _as_bits(key_bits)
        with self._ledger.change():
            if self.has_key(session_id):
                if not self.generated.agrees_with(session_id, key):
                    raise LocalProtocolError("this session has activated a different key already")
                return
            self._segments.spend_pads(session_id)
            self.generated.add(len(self.key_ids), session_id, key)
            self._ledger.advance_epoch()

    def has_key(self, session_id: str | bytes) -> bool:
        """Whether this session has made a key here.

        True also when all of that key has been delivered since.
        """
        name = _session_name(session_id)
        return self._ledger.row("SELECT 1 FROM generated WHERE session_id = ?", (name,)) is not None

    @property
    def current_session(self) -> str | None:
        """Session to which the pads of the current initial key belong, hexadecimal.

        None while they are unused.
        """
        row = self._ledger.row("SELECT session_id FROM segments WHERE session_id IS NOT NULL LIMIT 1")
        return str(row[0]) if row else None

    def renew(self) -> str:
        """Form the next K0 from K1: the same seeds, and pads from a generated key; returns its key_id.

        Takes the oldest set of pads that was set aside, and zeroes it there. The new key_id follows from the
        old one and from that set, so that both nodes get the same without speaking to each other; where they
        do not, the next session is refused before a pad is spent. A session that was not finished cannot go
        on afterwards. Raises LocalProtocolError while the pads are unused, InsufficientKeyError where no set
        is left.
        """
        with self._ledger.change():
            if not self._segments.consumed_bits(PAD_NAMES):
                raise LocalProtocolError(
                    f"the one-time pads of {self.path} are unused; a session can begin with them"
                )
            sets = self.generated.reserved(PADS)
            if not sets:
                raise InsufficientKeyError(
                    f"{self.path}: no generated key has bits left that were set aside for pads; make a new "
                    "initial key"
                )
            bits = self.generated.consume(sets[0].label, PADS)
            pads = np.packbits(bits.reshape(len(PAD_NAMES), PAD_BITS), axis=1)
            fields = ("diqkd next initial key", self.key_id, sets[0].label)
            key_id = hashlib.sha256("\n".join(fields).encode()).hexdigest()[:32]
            self._ledger.execute("INSERT INTO initial_keys (key_id) VALUES (?)", (key_id,))
            self._segments.replace_pads(
                {name: pad.tobytes() for name, pad in zip(PAD_NAMES, pads, strict=True)}
            )
            self._ledger.advance_epoch()
        return key_id

    def generated_key(self, session_id: str | bytes | None = None) -> npt.NDArray[np.uint8]:
        """(l,) uint8 of 0/1: the whole key of a session, by default the latest, to compare two stores.

        What is used leaves by `generated.take` or `export_key`, which count it. StorageError if there is
        no such key, or not whole any more.
        """
        return self.generated.whole(self._key_name(session_id))

    def _key_name(self, session_id: str | bytes | None) -> str:
        """Session of a generated key, by default of the latest; StorageError if there is none."""
        held = self.generated.held()
        if session_id is None and held:
            return held[-1].session_id
        name = _session_name(session_id) if session_id is not None else ""
        if not any(key.session_id == name for key in held):
            of_this = "" if session_id is None else " of this session"
            raise StorageError(f"{self.path} holds no generated key{of_this}")
        return name

    def export_key(self, path: Path | str, session_id: str | bytes | None = None) -> int:
        """Move the free bits of a generated key to a private file; returns how many.

        By default of the latest key. The file is packed big-endian, zero-padded. The bits are gone from the
        store when this returns; interrupted, it goes on with the same bits when it is called again with the
        same path. Raises StorageError if there is no such key, nothing left of it, if the file exists
        already, or an export to another path was not finished.
        """
        return export_free_bits(self.generated, self._key_name(session_id), Path(path).absolute())

    def has_same_key(self, other: KeyStore, session_id: str | bytes | None = None) -> bool | None:
        """Whether two stores on this machine hold the same key; no digest of a key is ever shown.

        By default the latest. None where it cannot be decided: bits of it have left one of them, or one is
        encrypted and was opened without its credential.
        """
        if self._ledger.is_locked or other._ledger.is_locked:
            return None
        mine, theirs = (store.generated.held() for store in (self, other))
        name = self._key_name(session_id)
        if any(key.delivered for key in (*mine, *theirs) if key.session_id == name):
            return None
        return hmac.compare_digest(self.generated_key(name).tobytes(), other.generated_key(name).tobytes())

    @property
    def generated_bits(self) -> int:
        """Bits of the key that the current initial key made, 0 before the activation.

        Bits that were delivered since count as well.
        """
        row = self._ledger.row("SELECT num_bits FROM generated WHERE initial_key = ?", (len(self.key_ids),))
        return int(row[0]) if row else 0

    @property
    def k0_bits(self) -> int:
        """Length of the current initial key, bits."""
        return sum(self.segment_bits(name) for name in self._segments.names)

    @property
    def k1_bits(self) -> int:
        """Length of K1, bits: unspent segments of the current initial key and the key that it made.

        Equal to `k0_bits` before the first pad is consumed.
        """
        return self.k0_bits - self._segments.consumed_bits(PAD_NAMES) + self.generated_bits

    def balance_sheet(self, session_id: str | bytes | None = None) -> BalanceSheet:
        """What the current initial key has consumed, used and generated, as Table 1 of the paper.

        With `session_id`: of the initial key from which that session made its key, which may be an earlier
        one; StorageError if it has none.
        """
        consumed = {name: self._segments.consumed_bits((name,)) for name in PAD_NAMES}
        generated = self.generated_bits
        if session_id is not None:
            row = self._ledger.row(
                "SELECT initial_key, num_bits FROM generated WHERE session_id = ?",
                (_session_name(session_id),),
            )
            if row is None:
                raise StorageError(f"{self.path} holds no generated key of this session")
            if row[0] != len(self.key_ids):
                consumed, generated = dict.fromkeys(PAD_NAMES, PAD_BITS), row[1]
        return balance_of(
            consumed,
            generated,
            hash_seed_bits=self.segment_bits("hash_seed"),
            extractor_seed_bits=self.segment_bits("extractor_seed"),
            node_link_bits=self.segment_bits(NODE_LINK) if NODE_LINK in self._segments.names else 0,
            k0_bits=self.k0_bits,
            proof=self._ledger.meta("proof"),
            proof_status=self._ledger.meta("proof_status"),
        )

    @property
    def is_encrypted(self) -> bool:
        """Whether the secrets in the file are encrypted."""
        return self._ledger.is_encrypted

    def change_credential(self, credential: Credential | None) -> None:
        """Encrypt every secret anew under another credential, or decrypt it (None), in one transaction.

        Raises LockedStoreError where the store was opened without the present credential.
        """
        self._ledger.seal_anew(credential, (self._segments, self.generated.blocks))

    def close(self) -> None:
        """Close the file; nothing is pending between calls.

        A session that goes on needs a store that is opened anew.
        """
        self._ledger.close()

    def __enter__(self) -> KeyStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"KeyStore({str(self.path)!r})"


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
