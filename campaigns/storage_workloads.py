"""What the storage campaigns do to a key store, a round spool and a sealed record, one step at a time.

A `Workload` starts in an empty folder. Its steps return when the step is acknowledged; `content` is all that
a reader finds in the folder, secrets included, so that two contents can be compared.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diqkd_postproc.files import open_private_file, replace_atomically
from diqkd_postproc.key_store import KeyStore, Passphrase, credentials
from diqkd_postproc.key_store.initial_key import PAD_NAMES
from diqkd_postproc.key_store.pieces import EXPORT
from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.records import round_spool
from diqkd_postproc.records.columns import NONE
from diqkd_postproc.records.private_database import storage_errors
from diqkd_postproc.records.round_spool import RoundSpool
from diqkd_postproc.records.sealed_record import RoundRecord

Content = Any
NUM_ROUNDS = 600
PARAMETERS = ProtocolParameters(
    num_rounds=NUM_ROUNDS,
    test_numerator=128,
    test_bits=8,
    omega_threshold=0.8,
    syndrome_bits=NUM_ROUNDS // 2,
    key_bits=100,
    soundness_error=1e-10,
    one_bit_error=1e-12,
    design_chsh_score=2.64,
    design_qber=0.018,
)
_KEY = np.random.default_rng(5).integers(0, 2, 6000, dtype=np.uint8)
_PASSPHRASE = Passphrase("a passphrase of the campaign")


@dataclass(frozen=True)
class Workload:
    """Steps on the files of a folder; `steps` take the open object (None before the first).

    again: how a step is repeated on the same object after a storage error, where not by itself.
    """

    name: str
    steps: tuple[tuple[str, Callable[[Path, Any], Any]], ...]
    content: Callable[[Path], Content]
    close: Callable[[Any], None]
    reopen: Callable[[Path], Any]
    again: dict[str, Callable[[Path, Any], Any]] = field(default_factory=dict)


def _bytes(seed: str, count: int) -> bytes:
    return hashlib.shake_256(seed.encode()).digest(count)


def _tables(connection: sqlite3.Connection) -> Content:
    """Every row of every table; StorageError if SQLite finds the file damaged."""
    with storage_errors(Path("this file")):
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            raise StorageError(f"integrity check: {verdict}")
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in names}


def _key_store(folder: Path) -> Content:
    path = folder / "keys"
    if not path.exists():
        return None
    with KeyStore.open(path) as store:
        exported = (folder / "exported").read_bytes() if (folder / "exported").exists() else None
        return _tables(store._ledger.connection), exported


def _create_store(folder: Path, _: None) -> KeyStore:
    size = 200
    return KeyStore.import_initial_key(
        folder / "keys", PARAMETERS, _bytes("K0", size + 200), "pair", 8 * size
    )


def _on_store(change: Callable[[KeyStore], Any]) -> Callable[[Path, Any], KeyStore]:
    def step(folder: Path, store: KeyStore) -> KeyStore:
        change(store)
        return store

    return step


def _consume(pad: str, session: str) -> Callable[[Path, Any], KeyStore]:
    return _on_store(lambda store: store.consume(pad, session, b"message"))


def _take(*places: int) -> Callable[[Path, Any], KeyStore]:
    """Ranges in one transaction: first bits, from the end if negative, and lengths."""

    def take(store: KeyStore) -> None:
        with store.generated.change():
            for first_bit, num_bits in zip(places[::2], places[1::2], strict=True):
                store.generated.take("s1", first_bit % _KEY.size, num_bits)

    return _on_store(take)


def _encrypt(folder: Path, store: KeyStore) -> KeyStore:
    credentials.SCRYPT_LOG2_COST = 4
    store.change_credential(_PASSPHRASE)
    return store


def _write_export(folder: Path, store: KeyStore) -> KeyStore:
    labels = [piece.label for piece in store.generated.reserved(EXPORT)]
    bits = np.concatenate([store.generated.peek(label, purpose=EXPORT) for label in labels])
    replace_atomically(folder / "exported", np.packbits(bits).tobytes())
    return store


def _reserve_export(store: KeyStore) -> None:
    store.generated.reserve_rest("s1", lambda bit: f"export from bit {bit}")


def _zero_export(store: KeyStore) -> None:
    store.generated.discard([piece.label for piece in store.generated.reserved(EXPORT)], EXPORT)


KEY_STORE = Workload(
    name="key store",
    steps=(
        ("create", _create_store),
        *((f"consume {pad}", _consume(pad, "s1")) for pad in PAD_NAMES),
        ("activate", _on_store(lambda store: store.activate("s1", _KEY))),
        ("take", _take(1400, 300)),
        ("take behind it", _take(1700, 100)),
        ("take at the end", _take(-100, 100)),
        ("renew", _on_store(lambda store: store.renew())),
        ("consume again", _consume("pad_ec", "s2")),
        ("take from both halves", _take(1900, 8, 5000, 8)),
        # The three steps of `export_key`, each acknowledged.
        ("begin an export", _on_store(_reserve_export)),
        ("write the exported file", _write_export),
        ("end the export", _on_store(_zero_export)),
        ("encrypt", _encrypt),
        ("consume encrypted", _consume("pad_a", "s2")),
        ("decrypt", _on_store(lambda store: store.change_credential(None))),
    ),
    content=_key_store,
    close=lambda store: store.close(),
    reopen=lambda folder: KeyStore.open(folder / "keys", credential=_PASSPHRASE),
)


def _spool(folder: Path) -> Content:
    path = folder / "spool"
    if not path.exists():
        return None
    record = (
        RoundRecord.read(folder / "record.h5").content_digest() if (folder / "record.h5").exists() else None
    )
    connection = sqlite3.connect(path)
    try:
        # Opened by its class first: that is what decides whether it is usable.
        RoundSpool.open(path).close()
        return _tables(connection), record
    finally:
        connection.close()


def _create_spool(folder: Path, _: None) -> RoundSpool:
    round_spool.COMMIT_INTERVAL_S = 1e9  # a clock must not decide what is written
    round_spool.COMMIT_ROUNDS = 100
    return RoundSpool.create(folder / "spool", "bob", PARAMETERS, {"origin": "campaign"}, "0" * 32)


def _store_rounds(count: int) -> Callable[[Path, Any], RoundSpool]:
    def step(folder: Path, spool: RoundSpool) -> RoundSpool:
        first = spool.rounds_done
        index = np.arange(first, first + count)
        spool.store(
            first,
            outcome=index % 2,
            received=index // 2 % 2,
            received_setting=np.full(count, NONE),
            received_end=np.full(count, NONE),
            herald_pattern=np.full(count, 0b0101),
            timestamp_mu=1000 * index,
            edge_mu=1000 * index + 1,
            lost=np.zeros(count),
        )
        spool.flush()
        return spool

    return step


def _on_spool(change: Callable[[RoundSpool], Any]) -> Callable[[Path, Any], RoundSpool]:
    def step(folder: Path, spool: RoundSpool) -> RoundSpool:
        change(spool)
        return spool

    return step


def _store_peer(spool: RoundSpool) -> None:
    index = np.arange(spool.peer_rounds_done, spool.rounds_done)
    names = ("sent", "received", "lost")
    peer = {
        name: (index % divisor == 0).astype(np.uint8) for name, divisor in zip(names, (2, 3, 50), strict=True)
    }
    peer |= {"end_token": np.full(index.size, NONE, dtype=np.uint8)}
    peer |= {"herald_pattern": np.zeros(index.size, dtype=np.uint8)}
    spool.store_peer(spool.peer_rounds_done, peer)


def _seal(folder: Path, spool: RoundSpool) -> RoundSpool:
    spool.seal(folder / "record.h5")
    return spool


def _fill(spool: RoundSpool) -> None:
    served = [0]

    def read(count: int) -> bytes:
        served[0] += count
        return _bytes("QRNG", served[0])[-count:]

    spool.fill_pool(read, 9000)


SPOOL = Workload(
    name="round spool and sealed record",
    steps=(
        ("create", _create_spool),
        ("fill the pool", _on_spool(_fill)),
        ("begin a batch", _on_spool(lambda spool: spool.begin_batch(250))),
        ("store rounds", _store_rounds(150)),
        ("store more rounds", _store_rounds(90)),
        ("record lost rounds", _on_spool(lambda spool: spool.record_used(247, "a loss of the campaign"))),
        ("end the batch", _on_spool(lambda spool: spool.end_batch())),
        ("begin the next batch", _on_spool(lambda spool: spool.begin_batch(353))),
        ("store the rest", _store_rounds(353)),
        ("end it", _on_spool(lambda spool: spool.end_batch())),
        ("store the other node's columns", _on_spool(_store_peer)),
        ("seal", _seal),
    ),
    content=_spool,
    close=lambda spool: spool.close(),
    reopen=lambda folder: RoundSpool.open(folder / "spool"),
    again=dict.fromkeys(
        ("store rounds", "store more rounds", "record lost rounds", "store the rest"),
        _on_spool(lambda spool: spool.flush()),
    ),
)


def _atomic_file(folder: Path) -> Content:
    if not (folder / "file").exists():
        return None
    with open_private_file(folder / "file") as file:
        return file.read()


def _write(text: str, size: int) -> Callable[[Path, Any], None]:
    return lambda folder, _: replace_atomically(folder / "file", _bytes(text, size))


ATOMIC_FILE = Workload(
    name="private file",
    steps=(
        ("write", _write("first", 3000)),
        ("replace", _write("second", 5000)),
        ("replace by a shorter one", _write("third", 700)),
    ),
    content=_atomic_file,
    close=lambda _: None,
    reopen=lambda _: None,
)

WORKLOADS = (KEY_STORE, SPOOL, ATOMIC_FILE)
