"""Encryption at rest: what opens it, what it hides, and what it notices."""

from __future__ import annotations

import getpass
import json
import secrets
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diqkd.cli import main
from diqkd.commands import keys as keys_command
from diqkd_postproc.files import replace_atomically
from diqkd_postproc.key_store import (
    PAD_NAMES,
    Credential,
    KeyFile,
    KeyStore,
    LockedStoreError,
    Passphrase,
    PassphraseFile,
    PassphrasePrompt,
    WrongCredentialError,
    credentials,
)
from diqkd_postproc.key_store.credentials import ask_new_passphrase
from diqkd_postproc.protocol.errors import ParameterError, StorageError
from tests.support.example_stores import SEED_BITS, make_key, make_parameters, packed, random_key, taken

cryptography = pytest.importorskip("cryptography", reason="needs the package cryptography")


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "SCRYPT_LOG2_COST", 4)


INITIAL_KEY = secrets.token_bytes(500)


def encrypted_store(directory: Path, credential: Credential) -> KeyStore:
    return KeyStore.import_initial_key(
        directory / "store", make_parameters(), INITIAL_KEY, "pair", SEED_BITS, credential
    )


def make_key_file(directory: Path, size: int = 32) -> KeyFile:
    replace_atomically(directory / "key file", secrets.token_bytes(size))
    return KeyFile(directory / "key file")


def make_passphrase_file(directory: Path, text: str = "correct horse\nsecond line") -> PassphraseFile:
    replace_atomically(directory / "passphrase", text.encode())
    return PassphraseFile(directory / "passphrase")


@pytest.mark.parametrize("make", [lambda _: Passphrase("correct horse"), make_key_file, make_passphrase_file])
def test_an_encrypted_store_works_like_a_plain_one(
    directory: Path, make: Callable[[Path], Credential]
) -> None:
    credential = make(directory)
    plain = KeyStore.import_initial_key(
        directory / "plain", make_parameters(), INITIAL_KEY, "pair", SEED_BITS
    )
    key = random_key(5000)
    encrypted_store(directory, credential).close()
    store = KeyStore.open(directory / "store", make_parameters(), credential)
    for name in PAD_NAMES:
        assert store.consume(name, "s", b"m") == plain.consume(name, "s", b"m")
    for each in (store, plain):
        each.activate("s", key)
        assert each.renew() == each.key_id
    assert store.key_id == plain.key_id and store.consume("pad_a", "t", b"m") == plain.consume(
        "pad_a", "t", b"m"
    )
    store.close()
    with KeyStore.open(directory / "store", credential=credential) as store:
        assert taken(store, 1280, 2500) == packed(key[1280:3780])
        assert store.export_key(directory / "key") == 5000 - 1280 - 2500
        assert (directory / "key").read_bytes() == packed(key[3780:])
        assert store.is_encrypted and not plain.is_encrypted
        assert store.peek_seed("extractor_seed") == plain.peek_seed("extractor_seed")
    plain.close()


def test_no_secret_is_in_the_file(directory: Path) -> None:
    credential = Passphrase("correct horse")
    key = random_key(5000)
    with encrypted_store(directory, credential) as store:
        make_key(store, "s", key)
        content = (directory / "store").read_bytes()
        bits = np.unpackbits(np.frombuffer(INITIAL_KEY, dtype=np.uint8))
        for secret in (bits[:SEED_BITS], bits[SEED_BITS : SEED_BITS + 1280], key):
            whole = packed(secret)
            pieces = [whole[at : at + 8] for at in range(0, len(whole) - 8, 8)]
            assert not any(piece in content for piece in pieces)
        assert b"correct horse" not in content
        assert "correct horse" not in repr(credential) + repr(store)


@pytest.mark.parametrize(
    ("credential", "error"),
    [
        (Passphrase("wrong horse"), WrongCredentialError),
        (Passphrase(""), ParameterError),
        (KeyFile(Path("nowhere")), StorageError),
    ],
)
def test_the_wrong_credential_opens_nothing(
    directory: Path, credential: Credential, error: type[Exception]
) -> None:
    encrypted_store(directory, Passphrase("correct horse")).close()
    with pytest.raises(error):
        KeyStore.open(directory / "store", credential=credential)


def test_a_key_file_is_no_passphrase(directory: Path) -> None:
    credential = make_key_file(directory)
    encrypted_store(directory, credential).close()
    with pytest.raises(StorageError, match="under a key file, not under a passphrase"):
        KeyStore.open(directory / "store", credential=Passphrase("correct horse"))
    make_key_file(directory)
    with pytest.raises(WrongCredentialError, match="cannot open"):
        KeyStore.open(directory / "store", credential=credential)
    make_key_file(directory, size=31)
    with pytest.raises(ParameterError, match="has 31 bytes, at least 32"):
        KeyStore.open(directory / "store", credential=credential)
    (directory / "store").unlink()
    encrypted_store(directory, Passphrase("correct horse")).close()
    with pytest.raises(StorageError, match="under a passphrase, not under a key file"):
        KeyStore.open(directory / "store", credential=credential)


def test_random_bytes_are_no_passphrase_file(directory: Path) -> None:
    """Taken for text, all but a few of them would count for nothing."""
    credential = make_passphrase_file(directory)
    credential.path.write_bytes(b"\xfe\x0c" + bytes(range(128, 158)))
    with pytest.raises(ParameterError, match="not text"):
        encrypted_store(directory, credential)


def test_without_credential_public_facts_only(directory: Path) -> None:
    with encrypted_store(directory, Passphrase("correct horse")) as store:
        make_key(store, "s", random_key(5000))
        with KeyStore.open(directory / "store") as locked:
            assert locked.balance_sheet() == store.balance_sheet()
            assert locked.generated.held() == store.generated.held()
            assert locked.has_same_key(store) is store.has_same_key(locked) is None
            for attempt in (
                lambda: locked.peek_seed("hash_seed"),
                lambda: locked.consume("pad_a", "s", b"message"),
                lambda: taken(locked, 1280, 8),
                lambda: locked.change_credential(None),
            ):
                with pytest.raises(LockedStoreError):
                    attempt()
            with pytest.raises(LockedStoreError, match="--passphrase-file"):
                locked.generated_key()


@pytest.mark.parametrize(
    "alteration",
    [
        "UPDATE segments SET bits = (SELECT bits FROM segments WHERE name = 'pad_b') WHERE name = 'pad_a'",
        "UPDATE segments SET bits = CAST(x'00' || substr(bits, 2) AS BLOB) WHERE name = 'pad_a'",
        "UPDATE segments SET bits = substr(bits, 1, 5) WHERE name = 'pad_a'",
        "UPDATE segments SET num_bits = 63 WHERE name = 'pad_a'",
        # What an attacker who can write the file would like: a pad that was used, as if it were not.
        "UPDATE segments SET state = 'unused', session_id = NULL, message_digest = NULL WHERE name = 'pad_a'",
        "UPDATE segments SET message_digest = x'aa' WHERE name = 'pad_a'",
    ],
)
def test_an_altered_segment_does_not_open(directory: Path, alteration: str) -> None:
    """Nor would it without the MAC over the whole store."""
    with encrypted_store(directory, Passphrase("correct horse")) as store:
        store.consume("pad_a", "s", b"one")
        store._ledger._verify = lambda: None
        store._ledger.connection.execute(alteration)
        for message in (b"one", b"two", b"\xaa"):
            with pytest.raises(StorageError, match="altered or moved"):
                store.consume("pad_a", "s", message)


def test_an_unused_pad_of_an_earlier_initial_key_does_not_open(directory: Path) -> None:
    """What else such an attacker would like: to put back a sealed pad from before it was used."""
    with encrypted_store(directory, Passphrase("correct horse")) as store:
        ((old,),) = store._ledger.rows("SELECT bits FROM segments WHERE name = 'pad_a'")
        make_key(store, "s", random_key(5000))
        store.renew()
        store._ledger._verify = lambda: None
        store._ledger.connection.execute("UPDATE segments SET bits = ? WHERE name = 'pad_a'", (old,))
        with pytest.raises(StorageError, match="altered or moved"):
            store.consume("pad_a", "t", b"message")


def test_what_spent_pads_were_bound_to_is_forgotten(directory: Path) -> None:
    """The digest of Alice's outcomes among it."""
    with encrypted_store(directory, Passphrase("correct horse")) as store:
        make_key(store, "s", random_key(5000))
        assert store._ledger.rows("SELECT count(message_digest) FROM segments") == [(0,)]


@pytest.mark.parametrize(
    "alteration",
    [
        "UPDATE blocks SET bits = (SELECT bits FROM blocks WHERE block = 1) WHERE block = 0",
        "UPDATE blocks SET delivered_bits = delivered_bits - 8 WHERE block = 0",
    ],
)
def test_an_altered_block_does_not_open(directory: Path, alteration: str) -> None:
    with encrypted_store(directory, Passphrase("correct horse")) as store:
        make_key(store, "s", random_key(5000))
        taken(store, 1280, 8)
        store._ledger._verify = lambda: None
        store._ledger.connection.execute(alteration)
        with pytest.raises(StorageError, match="damaged or was altered"):
            taken(store, 1288, 8)


@pytest.mark.parametrize(
    "value",
    ["{}", "no JSON", '{"derivation": {"kind": "passphrase", "salt": "00", "log2_cost": 63}, "key": ""}'],
)
def test_a_damaged_sealed_key(directory: Path, value: str) -> None:
    encrypted_store(directory, Passphrase("correct horse")).close()
    with sqlite3.connect(directory / "store") as connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'encryption'", (value,))
    connection.close()
    with pytest.raises(StorageError, match="damaged"):
        KeyStore.open(directory / "store", credential=Passphrase("correct horse"))


def test_a_new_credential_encrypts_everything_anew(directory: Path) -> None:
    old, new = Passphrase("old horse"), make_key_file(directory)
    key = random_key(5000)
    with (
        encrypted_store(directory, old) as store,
        KeyStore.open(directory / "store", credential=old) as stale,
    ):
        make_key(store, "s", key)
        sealed = [bytes(row[0]) for row in store._ledger.rows("SELECT bits FROM blocks")]
        store.change_credential(new)
        assert not any(blob in (directory / "store").read_bytes() for blob in sealed)
        assert np.array_equal(store.generated_key(), key)
        for attempt in (stale.renew, lambda: stale.peek_seed("hash_seed"), stale.generated_key):
            with pytest.raises(StorageError, match="was changed; open it again"):
                attempt()
        assert store.renew()
    with pytest.raises(StorageError):
        KeyStore.open(directory / "store", credential=old)
    with KeyStore.open(directory / "store", credential=new) as store:
        store.change_credential(None)
        assert not store.is_encrypted and packed(key)[256:512] in (directory / "store").read_bytes()
    with KeyStore.open(directory / "store") as store, KeyStore.open(directory / "store") as stale:
        store.change_credential(old)
        # A process that opened it unencrypted must not take a sealed seed for a seed.
        with pytest.raises(StorageError, match="was changed; open it again"):
            stale.peek_seed("extractor_seed")
        assert packed(key)[256:272] not in (directory / "store").read_bytes()
        assert np.array_equal(store.generated.peek("link 0 of s", purpose="link"), key[1024:1280])


def test_a_failed_change_of_credential_changes_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Passphrase("old horse")
    with encrypted_store(directory, old) as store:
        with pytest.raises(ParameterError, match="the passphrase is empty"):
            store.change_credential(Passphrase(""))
        with monkeypatch.context() as patch:
            patch.setattr(store._ledger, "advance_epoch", lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                store.change_credential(None)
        assert store.is_encrypted and store.consume("pad_a", "s", b"m")
    KeyStore.open(directory / "store", credential=old).close()


def test_the_terminal_is_asked(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[str] = []
    monkeypatch.setattr(getpass, "getpass", lambda prompt: answers.pop(0))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    answers[:] = ["one", "two"]
    with pytest.raises(ParameterError, match="the two passphrases differ"):
        ask_new_passphrase("the store")
    answers[:] = ["one", "one"]
    encrypted_store(directory, ask_new_passphrase("the store")).close()
    answers[:] = ["one"]
    with KeyStore.open(directory / "store", credential=PassphrasePrompt("the store")) as store:
        assert store.peek_seed("hash_seed")
        answers[:] = ["two"]
        store.change_credential(PassphrasePrompt("the store"))
        assert not answers
        store.change_credential(None)
    KeyStore.open(directory / "store", credential=PassphrasePrompt("the store")).close()  # nothing to ask


def test_without_a_terminal_the_options_are_named(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encrypted_store(directory, Passphrase("correct horse")).close()
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    for attempt in (
        lambda: KeyStore.open(directory / "store", credential=PassphrasePrompt("the store")),
        lambda: ask_new_passphrase("the store"),
    ):
        with pytest.raises(StorageError, match="there is no terminal"):
            attempt()


def test_without_the_package_the_extra_is_named(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(StorageError, match=r"pip install 'diqkd\[encryption\]'"):
        encrypted_store(directory, Passphrase("correct horse"))
    KeyStore.import_initial_key(
        directory / "plain", make_parameters(), INITIAL_KEY, "pair", SEED_BITS
    ).close()


def test_commands(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: object) -> tuple[int, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.err if code else captured.out

    monkeypatch.setattr(keys_command, "load_certified", lambda path: make_parameters())
    file, key_file = make_passphrase_file(directory).path, make_key_file(directory).path
    names = ["--alice", directory / "alice", "--bob", directory / "bob", "--passphrase-file", file]
    assert run("keys", "init", "--parameters", "p", *names)[0] == 0
    assert run("keys", "show", directory / "alice")[0] == 0
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    code, message = run("keys", "passphrase", directory / "bob", "--new-key-file", key_file)
    assert code == 6 and "no terminal" in message
    opened = ["--passphrase-file", file]
    code, message = run(
        "keys", "passphrase", directory / "bob", *opened, "--new-key-file", key_file, "--json"
    )
    assert code == 0 and json.loads(message)["encrypted"] is True
    with KeyStore.open(directory / "bob", credential=KeyFile(key_file)) as bob:
        make_key(bob, "s", random_key(5000))
    code, message = run("keys", "export", directory / "bob", directory / "key", *opened)
    assert code == 6 and "give --key-file" in message
    code, message = run("keys", "next", directory / "bob", "--abandon", "--key-file", key_file)
    assert code == 0
    code, message = run("keys", "export", directory / "bob", directory / "key", "--key-file", key_file)
    assert code == 0 and (directory / "key").read_bytes() == packed(random_key(5000)[1280:])
    code, message = run("keys", "passphrase", directory / "bob", "--key-file", key_file, "--decrypt")
    assert code == 0 and "no longer encrypted" in message
    replace_atomically(directory / "k0", secrets.token_bytes(20000))
    taken = ["keys", "import", directory / "k0", directory / "taken", "--parameters", "p", "--name", "n"]
    assert run(*taken, "--key-file", key_file)[0] == 0
    with KeyStore.open(directory / "taken") as store:
        assert store.is_encrypted
