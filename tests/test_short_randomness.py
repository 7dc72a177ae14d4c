"""Sources that end early, through the command line: which exit code, and does the message help?"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from diqkd import cli
from diqkd.commands import keys as keys_command
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.key_store.initial_key import segment_sizes
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.laboratory.server import LaboratoryServer
from tests.support.example_parameters import small_parameters
from tests.support.paths import ROOT


@pytest.fixture
def laboratory() -> Iterator[str]:
    server = LaboratoryServer(LaboratoryConfiguration(seed=5))
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield f"{server.address[0]}:{server.address[1]}"
    server.stop()
    thread.join(300.0)


@pytest.fixture
def private(tmp_path: Path) -> Path:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    return folder


@pytest.mark.parametrize("num_bytes", [1000, 4096 + 1000], ids=["at the start-up test", "while filling"])
def test_a_node_whose_random_source_ends(
    tmp_path: Path,
    laboratory: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    num_bytes: int,
) -> None:
    monkeypatch.setenv("DIQKD_LABORATORY", laboratory)
    monkeypatch.syspath_prepend(ROOT / "repository")
    small_parameters(20_000).save(tmp_path / "parameters.toml")
    source = tmp_path / "qrandom"
    source.write_bytes(os.urandom(num_bytes))
    database = tmp_path / "device_db.py"
    database.write_text(
        "from sim_devices.databases.simulated import simulated_database\n"
        f"device_db = simulated_database({str(ROOT / 'device_db' / 'bob.py')!r}, 'bob')\n"
        "device_db['qrng'] = {'type': 'local', 'module': 'diqkd_node.random_source', "
        f"'class': 'QuantisDevice', 'arguments': {{'path': {str(source)!r}}}}}\n"
    )
    files = [f"parameters_file={tmp_path / 'parameters.toml'}", f"run_directory={tmp_path / 'bob'}"]
    command = ["node", str(ROOT / "repository" / "key_generation.py"), "--device-db", str(database)]
    assert cli.main([*command, "role=bob", *files]) == 6
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"diqkd: {source} ended") and "reconnect" in message


def test_an_initial_key_from_elsewhere(
    private: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters = small_parameters(key_bits=100)
    monkeypatch.setattr(keys_command, "load_certified", lambda path: parameters)
    needed = sum(segment_sizes(parameters).values())
    initial_key = private / "k0"
    initial_key.write_bytes(os.urandom(needed // 8 - 10))
    initial_key.chmod(0o600)
    names = ["--parameters", "parameters.toml", "--name", "delivery of 3 May"]
    command = ["keys", "import", str(initial_key), str(private / "store"), *names]
    assert cli.main(command) == 5
    short = 8 * (needed // 8 - 10)
    message = capsys.readouterr().err
    assert f"has {short} bits, this run needs {needed}; share {needed - short} more" in message
    assert not (private / "store").exists()
    initial_key.write_bytes(os.urandom(needed // 8 + 1))
    assert cli.main(command) == 0
    with KeyStore.open(private / "store", parameters) as store:
        assert (store.key_id, store.k0_bits) == ("delivery of 3 May", needed)
    assert cli.main([*command[:3], str(private / "other"), *names[:3], ""]) == 2
    if os.name == "posix":
        initial_key.chmod(0o644)
        assert cli.main([*command[:3], str(private / "other"), *names]) == 6
        assert "chmod" in capsys.readouterr().err
