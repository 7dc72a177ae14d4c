"""The experiment itself: both nodes as processes, with a laboratory, at a small number of rounds."""

import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from diqkd_node.run.public_facts import KEY_RUN_FACTS, PREFIX
from diqkd_postproc.records.sealed_record import RoundRecord
from sim_devices.artiq_run import DeviceError, run_experiment
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.laboratory.server import LaboratoryServer
from tests.support.example_parameters import small_parameters
from tests.support.paths import ROOT

NUM_ROUNDS = 400
PARAMETERS = small_parameters(NUM_ROUNDS)
# Arguments: role, directory, port, number of scheduler queries after which to ask for the end (0 = never).
NODE = """
import sys
from itertools import count
from sim_devices.artiq_run import run_experiment
role, directory, port, stop_after, root = sys.argv[1:]
queries = count(1)
run_experiment(
    root + "/repository/key_generation.py", None, f"{root}/device_db/{role}_sim.py",
    {"role": role, "parameters_file": directory + "/parameters.toml", "run_directory": f"{directory}/{role}",
     "peer_port": int(port), "batch_rounds": 150},
    dataset_sink=lambda key, value: print("dataset", key, value),
    stop_requested=lambda: 0 < int(stop_after) <= next(queries),
)
"""


@pytest.fixture
def laboratory():
    """Address of a laboratory in which, now and then, something goes wrong."""
    faults = ((70, "lock_loss"), (190, "alice_ion_loss"), (290, "bob_ion_loss"))
    server = LaboratoryServer(LaboratoryConfiguration(seed=5, scheduled_faults=faults))
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield f"{server.address[0]}:{server.address[1]}"
    server.stop()
    thread.join(10.0)


def run_nodes(directory: Path, laboratory: str, stop_after: dict[str, int]) -> dict[str, tuple[int, str]]:
    """(exit code, output) of each node's process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    processes = {
        role: subprocess.Popen(
            [sys.executable, "-c", NODE, role, directory, str(port), str(stop_after.get(role, 0)), str(ROOT)],
            env=os.environ | {"DIQKD_LABORATORY": laboratory},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for role in ("alice", "bob")
    }
    results = {}
    try:
        for role, process in processes.items():
            output, _ = process.communicate(timeout=100)
            results[role] = (process.returncode, output)
    finally:
        for process in processes.values():
            process.kill()
    return results


def test_interrupted_and_resumed_run(tmp_path: Path, laboratory: str) -> None:
    PARAMETERS.save(tmp_path / "parameters.toml")
    interrupted = run_nodes(tmp_path, laboratory, {"alice": 12})
    assert "TerminationRequested" in interrupted["alice"][1]
    assert "left the run" in interrupted["bob"][1]
    resumed = run_nodes(tmp_path, laboratory, {})
    for role in ("alice", "bob"):
        assert resumed[role][0] == 0, resumed[role][1]
    records = {role: RoundRecord.read(tmp_path / role / "record.h5") for role in ("alice", "bob")}
    alice, bob = records["alice"], records["bob"]
    assert alice.run_id == bob.run_id
    assert alice.outcome.size == NUM_ROUNDS
    np.testing.assert_array_equal(alice.round_type, bob.round_type)
    np.testing.assert_array_equal(alice.herald_pattern, bob.herald_pattern)
    assert not alice.attributes["losses"] and not bob.attributes["losses"]
    assert {"ion lost", "674 nm laser not locked", "restarted"} <= {
        gap["reason"] for gap in bob.attributes["gaps"]
    }
    # Key rounds differ with probability 1.44 %: more than 20 of about 200 has a chance below 1e-10.
    key = bob.round_type == 0
    assert 100 < key.sum() < 300
    assert (alice.outcome != bob.outcome)[key].sum() <= 20
    check_privacy(tmp_path, interrupted["alice"][1] + interrupted["bob"][1], records)


def test_a_missing_device_shows_before_the_peer_is_there(
    tmp_path: Path, laboratory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIQKD_LABORATORY", laboratory)
    PARAMETERS.save(tmp_path / "parameters.toml")
    database = tmp_path / "device_db.py"
    database.write_text(
        "from sim_devices.databases.simulated import simulated_database\n"
        f"device_db = simulated_database({str(ROOT / 'device_db' / 'alice.py')!r}, 'alice')\n"
        "del device_db['ttl_1092']\n"
    )
    arguments = {
        "role": "alice",
        "parameters_file": str(tmp_path / "parameters.toml"),
        "run_directory": str(tmp_path / "alice"),
        "peer_timeout": 0.2,
    }
    with pytest.raises(DeviceError, match="ttl_1092"):
        run_experiment(ROOT / "repository" / "key_generation.py", None, database, arguments)
    assert not (tmp_path / "alice").exists()


def check_privacy(directory: Path, output: str, records: dict[str, RoundRecord]) -> None:
    """Nothing of the record in files that others can read, nor in datasets."""
    names = {line.split()[1] for line in output.splitlines() if line.startswith("dataset")}
    assert names == {PREFIX + name for name in KEY_RUN_FACTS}
    if os.name == "posix":
        for role in records:
            assert stat.S_IMODE((directory / role).stat().st_mode) == 0o700
            for path in (directory / role).iterdir():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
