"""An initial key is imported once by an account."""

from __future__ import annotations

import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diqkd.cli import main
from diqkd.commands import keys as keys_command
from diqkd_postproc.files import replace_atomically
from diqkd_postproc.key_store.imported_keys import FILE_NAME, imported_once
from diqkd_postproc.protocol.errors import StorageError
from tests.support.example_stores import make_parameters


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIQKD_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def test_the_command_takes_a_key_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    monkeypatch.setattr(keys_command, "load_certified", lambda path: make_parameters())
    key = secrets.token_bytes(20000)
    replace_atomically(directory / "k0", key)

    def run(store: str, name: str) -> int:
        arguments = [
            "keys",
            "import",
            directory / "k0",
            directory / store,
            "--parameters",
            "p",
            "--name",
            name,
        ]
        return main([str(argument) for argument in arguments])

    assert run("first", "first") == 0
    assert run("second", "second") == 6 and not (directory / "second").exists()
    assert "was imported before" in capsys.readouterr().err
    replace_atomically(directory / "k0", key + b"more")
    assert run("second", "second") == 6
    replace_atomically(directory / "k0", secrets.token_bytes(20000))
    assert run("first", "second") == 6  # the store exists; the key is not used up by that
    assert run("second", "second") == 0  # control
    noted = (state / FILE_NAME).read_bytes()
    assert key[:32].hex().encode() not in noted and noted.count(b"\n") == 3
    if os.name == "posix":
        assert (state / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_of_two_imports_at_once_one_is_refused(state: Path) -> None:
    def take(_: int) -> bool:
        try:
            with imported_once(bytes(32)):
                return True
        except StorageError:
            return False

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(take, range(8))) == 1


def test_fingerprints_of_two_accounts_differ(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with imported_once(bytes(32), tmp_path / name):
            pass
    assert (tmp_path / "one" / FILE_NAME).read_text()[65:] != (tmp_path / "two" / FILE_NAME).read_text()[65:]


@pytest.mark.parametrize("content", [b"", b"\xff\n", b"0" * 63])
def test_a_damaged_note_is_no_empty_one(state: Path, content: bytes) -> None:
    replace_atomically(state / FILE_NAME, content)
    with pytest.raises(StorageError, match="is damaged; move it away"), imported_once(bytes(32)):
        pass
