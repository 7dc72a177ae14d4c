"""Attacks on an encrypted store by whoever can write its file and has no passphrase, each with its control.

The control is the same attack on a store whose MAC nobody verifies: there it has to succeed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from diqkd_postproc.key_store import KeyStore, Passphrase, PassphrasePrompt, credentials
from diqkd_postproc.key_store.blocks import KeyBlocks
from diqkd_postproc.key_store.ledger import Ledger
from diqkd_postproc.protocol.errors import StorageError
from tests.support.example_stores import SEED_BITS, make_key, make_parameters, packed, random_key, taken

pytest.importorskip("cryptography", reason="needs the package cryptography")
CREDENTIAL = Passphrase("correct horse")
KEY = random_key(5000)
FIRST = 1280  # the first bit that is not set aside


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "SCRYPT_LOG2_COST", 4)


@pytest.fixture
def path(directory: Path) -> Path:
    """A store with a generated key, of which 64 bits are delivered and the rest is free."""
    read = np.random.default_rng(3).bytes
    for store in KeyStore.create_pair(
        directory / "alice", directory / "bob", make_parameters(), read, SEED_BITS, CREDENTIAL
    ):
        with store:
            make_key(store, "s", KEY)
    with KeyStore.open(directory / "alice", credential=CREDENTIAL) as store:
        assert taken(store, FIRST, 64) == packed(KEY[FIRST : FIRST + 64])
    return directory / "alice"


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(Ledger, "_verify", lambda self: None)


def write(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def rows_of(path: Path, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT * FROM {table}").fetchall()


def put_back(path: Path, table: str, rows: list[tuple[object, ...]]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"DELETE FROM {table}")
        connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)


def deliver(path: Path, first_bit: int) -> bytes:
    with KeyStore.open(path, credential=CREDENTIAL) as store:
        return taken(store, first_bit, 64)


def refused(path: Path, what: str = "not what its MAC was made of") -> None:
    with pytest.raises(StorageError, match=what):
        KeyStore.open(path, credential=CREDENTIAL)


SWAP = (
    f"UPDATE pieces SET state = 'available', purpose = NULL WHERE first_bit = {FIRST}",
    f"UPDATE pieces SET first_bit = {FIRST + 128}, num_bits = num_bits - 64 WHERE first_bit = {FIRST + 64}",
    f"INSERT INTO pieces VALUES (1, {FIRST + 64}, 64, 'delivered', 'delivery', NULL)",
)


def test_exchanged_pieces_are_refused(
    path: Path, unverified: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, *SWAP)
    refused(path)
    unverified()
    with pytest.raises(StorageError, match="bits that were delivered are in a piece"):
        deliver(path, FIRST)  # nor would the sealed block give them
    with monkeypatch.context() as patch:
        patch.setattr(KeyBlocks, "_refuse_delivered", lambda self, delivered: None)
        assert deliver(path, FIRST) == bytes(8)  # control: zeros for a key


def test_rows_of_an_earlier_state_are_refused(path: Path, unverified: Callable[[], None]) -> None:
    tables = ("pieces", "blocks", "segments")
    before = {table: rows_of(path, table) for table in tables}
    b = deliver(path, FIRST + 64)
    after = {table: rows_of(path, table) for table in tables}
    for table in ("pieces", "blocks"):
        put_back(path, table, before[table])
        refused(path)
        put_back(path, table, after[table])
        KeyStore.open(path, credential=CREDENTIAL).close()  # the refused store was not changed
    for table in tables:
        put_back(path, table, before[table])
    refused(path)
    unverified()
    assert deliver(path, FIRST + 64) == b  # control: issued twice


@pytest.mark.parametrize(
    "alteration",
    [
        "DELETE FROM meta WHERE name = 'mac'",
        "UPDATE meta SET value = replace(value, substr(value, 1, 1), 'x') WHERE name = 'mac'",
        "UPDATE meta SET value = value - 1 WHERE name = 'epoch'",
        "UPDATE meta SET value = value + 1 WHERE name = 'epoch'",
        "UPDATE meta SET value = '0' WHERE name = 'parameters_digest'",
        "UPDATE pieces SET label = 'c' WHERE label LIKE 'pads 0 %'",
        "UPDATE generated SET session_id = 't'",
        "UPDATE initial_keys SET key_id = 'another'",
        "UPDATE segments SET num_bits = 63.0 WHERE name = 'pad_a'",
        "DELETE FROM blocks WHERE block = 2",
        "CREATE TRIGGER again AFTER UPDATE ON meta BEGIN UPDATE pieces SET state = 'reserved'; END",
        "ALTER TABLE blocks ADD COLUMN more TEXT",
        "CREATE TABLE more (name TEXT)",
    ],
)
def test_any_altered_content_is_refused(
    path: Path,
    alteration: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unverified: Callable[[], None],
) -> None:
    monkeypatch.setenv("DIQKD_STATE_DIR", str(tmp_path / "no epoch noted"))
    with KeyStore.open(path, credential=CREDENTIAL) as store:
        write(path, alteration)
        with pytest.raises(StorageError, match=r"not what its MAC was made of|has seen 5 changes"):
            taken(store, FIRST + 64, 64)  # also of a store that was open
    monkeypatch.setenv("DIQKD_STATE_DIR", str(tmp_path / "nor here"))
    refused(path)
    unverified()
    KeyStore.open(path, credential=CREDENTIAL).close()


def test_a_store_of_the_earlier_schema_names_the_remedy(path: Path) -> None:
    write(
        path, "DELETE FROM meta WHERE name = 'mac'", "UPDATE meta SET value = 3 WHERE name = 'schema_version'"
    )
    refused(path, "encrypted before stores had a MAC .*; make a new initial key")


def strip(path: Path) -> None:
    """What the store is without its encryption, with bits of the attacker's choice."""
    write(
        path,
        "DELETE FROM meta WHERE name IN ('encryption', 'mac')",
        "UPDATE blocks SET bits = CAST(replace(hex(zeroblob(256)), '00', 'U') || zeroblob(256) AS BLOB)",
    )


def test_a_store_that_was_stripped_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strip(path)
    for credential in (CREDENTIAL, PassphrasePrompt("the store"), None):
        with pytest.raises(StorageError, match="is not encrypted, but was when it was seen last"):
            KeyStore.open(path, credential=credential)
    monkeypatch.setenv("DIQKD_STATE_DIR", str(tmp_path / "no epoch noted"))
    refused(path, "is not encrypted, but a passphrase or key file was given")
    with KeyStore.open(path, credential=PassphrasePrompt("the store")) as store:
        assert taken(store, FIRST + 64, 64) == b"U" * 8  # control: nothing tells it from a plain one


def test_a_changed_credential_has_a_mac_of_its_own(path: Path) -> None:
    other = Passphrase("another horse")
    with KeyStore.open(path, credential=CREDENTIAL) as store:
        old = rows_of(path, "meta")
        store.change_credential(other)
        assert dict(rows_of(path, "meta"))["mac"] != dict(old)["mac"]
        store.change_credential(None)
        assert "mac" not in dict(rows_of(path, "meta"))
        KeyStore.open(path).close()  # decrypted by its owner, and noted as that
        store.change_credential(CREDENTIAL)
    assert deliver(path, FIRST + 64) == packed(KEY[FIRST + 64 : FIRST + 128])


def test_an_index_that_leads_elsewhere_is_refused(path: Path, unverified: Callable[[], None]) -> None:
    write(
        path,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = replace(sql, 'label TEXT UNIQUE', 'label TEXT       ')",
    )
    refused(path)
    unverified()
    refused(path, "SQLite finds|damaged or not one of ours")


def test_two_processes_keep_one_mac(path: Path) -> None:
    with (
        KeyStore.open(path, credential=CREDENTIAL) as first,
        KeyStore.open(path, credential=CREDENTIAL) as second,
    ):
        for number in range(3):
            for place, store in enumerate((first, second)):
                at = FIRST + 64 + 16 * number + 8 * place
                assert taken(store, at, 8) == packed(KEY[at : at + 8])
    KeyStore.open(path, credential=CREDENTIAL).close()
