"""Where the key of the nodes' connection comes from, and when there is none."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from diqkd_node.run.link_key import link_key_of
from diqkd_node.run.public_facts import AUTHENTICATED, OPEN
from diqkd_node.run.recorded_run import RecordedRun
from diqkd_postproc.key_store import KeyStore, LockedStoreError, PassphraseFile
from diqkd_postproc.protocol.errors import ParameterError, StorageError
from diqkd_postproc.records.round_spool import RoundSpool
from tests.support.example_parameters import small_parameters

PARAMETERS = small_parameters(1000)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIQKD_STATE_DIR", str(tmp_path / "state"))


def experiment(**arguments: str) -> SimpleNamespace:
    given = {"key_store": "", "passphrase_file": "", "key_file": ""} | arguments
    return SimpleNamespace(scheduler=SimpleNamespace(expid={}), **given)


def make_stores(folder: Path, **options: object) -> bytes:
    """Stores of both nodes in a private folder; their link key."""
    folder.mkdir(mode=0o700)
    paths = folder / "keys.sqlite", folder / "bob.sqlite"
    alice, bob = KeyStore.create_pair(*paths, PARAMETERS, os.urandom, 100, **options)
    with alice, bob:
        assert alice.node_link_key() == bob.node_link_key()
        return alice.node_link_key()


def test_the_store_in_the_run_directory_is_used_without_being_named(tmp_path: Path) -> None:
    key = make_stores(tmp_path / "run")
    assert link_key_of(experiment(), PARAMETERS, tmp_path / "run") == key
    named = experiment(key_store=str(tmp_path / "run" / "bob.sqlite"))
    assert link_key_of(named, PARAMETERS, tmp_path / "elsewhere") == key


def test_no_store_means_an_open_connection_but_a_missing_one_is_an_error(tmp_path: Path) -> None:
    assert link_key_of(experiment(), PARAMETERS, tmp_path) is None
    with pytest.raises(StorageError):
        link_key_of(experiment(key_store=str(tmp_path / "keys.sqlite")), PARAMETERS, tmp_path)


def test_a_store_of_another_run_is_refused(tmp_path: Path) -> None:
    make_stores(tmp_path / "run")
    with pytest.raises(StorageError, match="made for parameters"):
        link_key_of(experiment(), small_parameters(999), tmp_path / "run")


def test_an_encrypted_store_needs_what_opens_it(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="needs the package cryptography")
    passphrase = tmp_path / "passphrase"
    passphrase.touch(mode=0o600)
    passphrase.write_text("correct horse\n")
    key = make_stores(tmp_path / "run", credential=PassphraseFile(passphrase))
    opened = experiment(passphrase_file=str(passphrase))
    assert link_key_of(opened, PARAMETERS, tmp_path / "run") == key
    with pytest.raises(LockedStoreError):
        link_key_of(experiment(), PARAMETERS, tmp_path / "run")
    both = experiment(passphrase_file=str(passphrase), key_file=str(passphrase))
    with pytest.raises(ParameterError, match="give one"):
        link_key_of(both, PARAMETERS, tmp_path / "run")


@pytest.mark.parametrize("link_key", [None, bytes(32)])
@pytest.mark.parametrize("began", [OPEN, AUTHENTICATED])
def test_a_run_that_began_authenticated_is_never_resumed_open(
    tmp_path: Path, began: str, link_key: bytes | None
) -> None:
    tmp_path.chmod(0o700)
    RoundSpool.create(tmp_path / "spool.sqlite", "alice", PARAMETERS, {"connection": began}).close()
    run = SimpleNamespace(
        **{"link_key": link_key, "role": "alice", "parameters": PARAMETERS},
        save_configuration=lambda directory: None,
        now=lambda: 0.0,
    )
    if (began, link_key) == (AUTHENTICATED, None):
        with pytest.raises(ParameterError, match="began with an authenticated connection"):
            RecordedRun.open_spool(run, tmp_path)
    else:
        RecordedRun.open_spool(run, tmp_path).close()
