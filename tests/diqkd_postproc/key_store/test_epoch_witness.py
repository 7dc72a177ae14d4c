"""An old copy of a key store is refused on a machine that has seen a newer one."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diqkd_postproc.files import locked
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.key_store.epoch_witness import EpochWitness, state_directory
from diqkd_postproc.protocol.errors import StorageError
from tests.support.example_stores import SEED_BITS, make_pair, make_parameters, random_key


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIQKD_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def copy(store: Path, name: str) -> Path:
    shutil.copy2(store, store.with_name(name))
    return store.with_name(name)


def test_a_restored_backup_is_refused(directory: Path) -> None:
    for store in make_pair(directory):
        store.close()
    path, backup = directory / "alice", copy(directory / "alice", "backup")
    with KeyStore.open(path) as store:
        spent = store.consume("pad_a", "s1", b"one")
    newest = copy(path, "newest")
    shutil.copy2(backup, path)
    with pytest.raises(StorageError, match="has seen 0 changes, but was seen with 1 on this machine"):
        KeyStore.open(path)
    shutil.copy2(newest, path)
    with KeyStore.open(path) as store:
        assert store.consume("pad_a", "s1", b"one") == spent


def test_the_note_is_kept_in_the_given_folder(directory: Path, state: Path, tmp_path: Path) -> None:
    paths = directory / "alice", directory / "bob"
    for store in KeyStore.create_pair(
        *paths, make_parameters(), os.urandom, SEED_BITS, witness_folder=tmp_path / "notes"
    ):
        store.close()
    backup = copy(paths[0], "backup")
    with KeyStore.open(paths[0], witness_folder=tmp_path / "notes") as store:
        store.consume("pad_a", "s1", b"one")
    assert len(list((tmp_path / "notes").iterdir())) == 2 and not state.exists()
    with pytest.raises(StorageError, match="has seen 0 changes"):
        KeyStore.open(backup, witness_folder=tmp_path / "notes")


def test_of_two_copies_in_use_the_one_behind_is_refused(directory: Path) -> None:
    for store in make_pair(directory):
        store.close()
    clone = copy(directory / "alice", "clone")
    with KeyStore.open(directory / "alice") as first, KeyStore.open(clone) as second:
        first.consume("pad_a", "s1", b"one")
        with pytest.raises(StorageError, match="an old copy"):
            second.consume("pad_a", "s1", b"two")
        with pytest.raises(StorageError, match="an old copy"):
            second.activate("s1", random_key(300))
        assert second.segment_state("pad_a") == "unused"
        first.consume("pad_b", "s1", b"one")


def test_a_lost_or_garbled_note_weakens_the_evidence_only(directory: Path, state: Path) -> None:
    alice, bob = make_pair(directory)
    alice.consume("pad_a", "s1", b"one")
    (note,) = [path for path in state.iterdir() if path.stat().st_size]
    for content in (b"", b"x" * 20, b"3" * 19):
        note.write_bytes(content)
        with KeyStore.open(alice.path) as store:
            store.consume("pad_a", "s1", b"one")
        assert note.read_bytes() == f"{alice.epoch:020d}".encode()
    note.unlink()
    alice.consume("pad_b", "s1", b"one")  # the change is made, whatever becomes of the note
    alice.close()
    bob.close()


def test_an_account_that_can_keep_no_note_is_told_how(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("DIQKD_STATE_DIR", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="name another private folder on this machine in DIQKD_STATE_DIR"):
        make_pair(directory)
    assert list(directory.iterdir()) == []


def test_the_note_never_falls(state: Path) -> None:
    witness = EpochWitness("store")
    for epoch in (3, 7, 5):
        witness.note(epoch, encrypted=False)
    assert witness.seen() == EpochWitness("store").seen() == 7
    if os.name == "posix":
        assert witness.path.stat().st_mode & 0o777 == 0o600 and state.stat().st_mode & 0o777 == 0o700


def test_of_two_processes_neither_lowers_the_note(state: Path) -> None:
    """The one waits while the other compares and writes."""
    witness = EpochWitness("store")
    with ThreadPoolExecutor() as pool:
        with locked(witness.path):
            waiting = pool.submit(EpochWitness("store").note, 5, True)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.2)
            assert witness.seen() == 0
            witness.path.write_bytes(b"%020d" % 7)
        waiting.result()
    assert witness.seen() == 7 and not witness.seen_encrypted()


def test_the_note_tells_whether_the_store_is_encrypted(state: Path) -> None:
    witness = EpochWitness("store")
    for epoch, encrypted, noted in ((0, True, True), (1, True, True), (0, False, True), (1, False, False)):
        witness.note(epoch, encrypted)
        assert witness.seen_encrypted() is noted
    assert witness.path.read_bytes() == b"%020d" % 1


def test_where_the_notes_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert state_directory() == tmp_path / "state"
    monkeypatch.delenv("DIQKD_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert state_directory() == tmp_path / "diqkd"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("LOCALAPPDATA")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert state_directory() == tmp_path / ".local" / "state" / "diqkd"

    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(StorageError, match="set DIQKD_STATE_DIR"):
        state_directory()


def test_the_windows_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from types import SimpleNamespace

    from diqkd_postproc.key_store import epoch_witness

    environment = {"LOCALAPPDATA": str(tmp_path)}
    monkeypatch.setattr(epoch_witness, "os", SimpleNamespace(name="nt", environ=environment))
    assert state_directory() == tmp_path / "diqkd"
