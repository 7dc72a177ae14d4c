"""`diqkd postprocess`: what a request to stop does once the key is made."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from diqkd import cli
from diqkd.commands import postprocess as commands
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.records.sealed_record import RoundRecord
from tests.support.example_parameters import small_parameters


@pytest.mark.skipif(os.name != "posix", reason="signals of another process")
@pytest.mark.parametrize("moment", ["closing", "printing"])
def test_termination_after_the_key_is_made_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], moment: str
) -> None:
    """SIGTERM comes while the key store is closed, or just before the result is printed."""
    parameters = small_parameters(key_bits=100)
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    for store in KeyStore.create_pair(folder / "alice", folder / "bob", parameters, os.urandom):
        store.close()

    def terminate() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    class Result:
        def to_dict(self) -> dict[str, Any]:
            if moment == "printing":
                terminate()
            return {"key_bits": 100}

    class ClosingStore(KeyStore):
        def close(self) -> None:
            super().close()
            if moment == "closing":
                terminate()

    monkeypatch.setattr(commands, "load_certified", lambda path: parameters)
    monkeypatch.setattr(RoundRecord, "read", lambda path: None)
    monkeypatch.setattr(commands, "run_session", lambda **arguments: Result())
    monkeypatch.setattr(commands, "save_result", lambda path, result: None)
    monkeypatch.setattr(commands, "KeyStore", ClosingStore)
    before = signal.getsignal(signal.SIGTERM)
    files = ["--parameters", "p", "--record", "r", "--keys", str(folder / "alice")]
    assert cli.main(["postprocess", "alice", *files, "--listen", ":0", "--json"]) == 0
    assert '"key_bits": 100' in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) is before
