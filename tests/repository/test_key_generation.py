"""The experiment itself: both nodes as processes, with a laboratory, at a small number of rounds."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from diqkd_node.run.public_facts import KEY_RUN_FACTS, PREFIX
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.records.sealed_record import RoundRecord
from sim_devices.artiq_run import DeviceError, run_experiment
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from tests.support.example_parameters import small_parameters
from tests.support.paths import ROOT
from tests.support.two_nodes import datasets, laboratory, run_both

NUM_ROUNDS = 400
PARAMETERS = small_parameters(NUM_ROUNDS)
# Now and then something goes wrong.
LABORATORY = LaboratoryConfiguration(
    seed=5, scheduled_faults=((70, "lock_loss"), (190, "alice_ion_loss"), (290, "bob_ion_loss"))
)


def make_key_stores(directory: Path, witness_folder: Path) -> None:
    """Both nodes' stores of one initial key, where the experiment looks for them."""
    for role in ("alice", "bob"):
        (directory / role).mkdir(mode=0o700)
    paths = [directory / role / "keys.sqlite" for role in ("alice", "bob")]
    for store in KeyStore.create_pair(*paths, PARAMETERS, os.urandom, 100, witness_folder=witness_folder):
        store.close()


def test_interrupted_and_resumed_run(tmp_path: Path) -> None:
    """With key stores: the nodes' connection is authenticated."""
    PARAMETERS.save(tmp_path / "parameters.toml")
    make_key_stores(tmp_path, tmp_path / "epochs")
    arguments = {"parameters_file": tmp_path / "parameters.toml", "batch_rounds": 150}
    with laboratory(LABORATORY) as address:
        interrupted = run_both("key_generation", tmp_path, address, stop_alice_after=12, **arguments)
        assert "TerminationRequested" in interrupted["alice"][1]
        assert "left the run" in interrupted["bob"][1]
        resumed = run_both("key_generation", tmp_path, address, **arguments)
    for role in ("alice", "bob"):
        assert resumed[role][0] == 0, resumed[role][1]
        assert ("diqkd.connection", "str", "authenticated") in datasets(resumed[role][1])
        assert "is open" not in resumed[role][1]
    records = {role: RoundRecord.read(tmp_path / role / "record.h5") for role in ("alice", "bob")}
    alice, bob = records["alice"], records["bob"]
    assert alice.run_id == bob.run_id
    assert alice.outcome.size == NUM_ROUNDS
    np.testing.assert_array_equal(alice.round_type, bob.round_type)
    # The slave's core sees another pattern once in 1700 heralds.
    assert np.count_nonzero(alice.herald_pattern != bob.herald_pattern) <= 3
    assert {record.attributes["provenance"]["connection"] for record in records.values()} == {"authenticated"}
    assert not alice.attributes["losses"] and not bob.attributes["losses"]
    assert {"ion lost", "674 nm laser not locked", "restarted"} <= {
        gap["reason"] for gap in bob.attributes["gaps"]
    }
    # Key rounds differ with probability 1.44 %: more than 20 of about 200 has a chance below 1e-10.
    key = bob.round_type == 0
    assert 100 < key.sum() < 300
    assert (alice.outcome != bob.outcome)[key].sum() <= 20
    check_privacy(tmp_path, interrupted["alice"][1] + interrupted["bob"][1], records)


def test_nodes_of_different_initial_keys_do_not_begin(tmp_path: Path) -> None:
    """Nor do a node with a key store and one without; the run waits for the true partner."""
    PARAMETERS.save(tmp_path / "parameters.toml")
    (tmp_path / "pairs").mkdir()
    for pair in ("1", "2"):
        (tmp_path / "pairs" / pair).mkdir(mode=0o700)
        make_key_stores(tmp_path / "pairs" / pair, tmp_path / "epochs")
    stores = {pair: tmp_path / "pairs" / pair for pair in ("1", "2")}
    arguments = {"parameters_file": tmp_path / "parameters.toml"}
    bob = {"key_store": stores["1"] / "bob" / "keys.sqlite", "peer_timeout": 15.0}
    with laboratory(LABORATORY) as address:
        for name, alice in (
            ("other", {"key_store": stores["2"] / "alice" / "keys.sqlite"}),
            ("none", {}),
        ):
            ends = run_both(
                "key_generation",
                tmp_path / name,
                address,
                own={"alice": alice | {"peer_timeout": 1.0}, "bob": bob},
                **arguments,
            )
            assert {code for code, _ in ends.values()} == {1}
            assert "no answer from" in ends["alice"][1] and "initial key" in ends["alice"][1]
            assert "strangers were hung up on" in ends["bob"][1]


def test_a_missing_device_shows_before_the_peer_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    with laboratory(LABORATORY) as address, pytest.raises(DeviceError, match="ttl_1092"):
        monkeypatch.setenv("DIQKD_LABORATORY", address)
        run_experiment(ROOT / "repository" / "key_generation.py", None, database, arguments)
    assert not (tmp_path / "alice").exists()


def test_only_bob_takes_any_port(tmp_path: Path) -> None:
    PARAMETERS.save(tmp_path / "parameters.toml")
    arguments = {"role": "alice", "parameters_file": str(tmp_path / "parameters.toml"), "peer_port": 0}
    with pytest.raises(ParameterError, match="peer_port=0 is for Bob"):
        run_experiment(
            ROOT / "repository" / "key_generation.py", None, ROOT / "device_db" / "alice_sim.py", arguments
        )


def check_privacy(directory: Path, output: str, records: dict[str, RoundRecord]) -> None:
    """Nothing of the record in files that others can read, nor in datasets."""
    names = {name for name, _, _ in datasets(output)}
    assert names == {PREFIX + name for name in KEY_RUN_FACTS}
    if os.name == "posix":
        for role in records:
            assert stat.S_IMODE((directory / role).stat().st_mode) == 0o700
            for path in (directory / role).iterdir():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
