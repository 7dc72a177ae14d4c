"""Nothing private can reach the datasets of a key run: one door, a list, a run with all secrets changed."""

import ast
import json
import os
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from diqkd_node.run.public_facts import (
    CHARACTERISATION_FACTS,
    KEY_RUN_FACTS,
    NODE_STATES,
    PAUSED,
    PREFIX,
    PrivateFactError,
    PublicFacts,
)
from diqkd_postproc.records.sealed_record import RoundRecord
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.laboratory.server import LaboratoryServer
from tests.support.example_parameters import small_parameters
from tests.support.paths import ROOT

NUM_ROUNDS = 150
# These hold times of this run's processes.
TIMED = {"herald_rate", "last_update_unix"}
NODE = """
import json, sys
from sim_devices.artiq_run import run_experiment
role, directory, port, root = sys.argv[1:]
run_experiment(
    root + "/repository/key_generation.py", None, f"{root}/device_db/{role}_sim.py",
    {"role": role, "parameters_file": directory + "/parameters.toml", "run_directory": f"{directory}/{role}",
     "peer_port": int(port), "batch_rounds": 60},
    dataset_sink=lambda key, value: print(json.dumps(
        [key, type(value).__name__, value.tolist() if hasattr(value, "tolist") else value])),
)
"""


def acquire(directory, qrng_seed, laboratory_seed=11):
    """Datasets of a complete acquisition, [name, type, value] each, and the records, by role."""
    directory.mkdir()
    small_parameters(NUM_ROUNDS).save(directory / "parameters.toml")
    faults = ((40, "bob_ion_loss"), (100, "lock_loss"))
    server = LaboratoryServer(LaboratoryConfiguration(seed=laboratory_seed, scheduled_faults=faults))
    thread = threading.Thread(target=server.serve)
    thread.start()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = os.environ | {
        "DIQKD_LABORATORY": f"{server.address[0]}:{server.address[1]}",
        "DIQKD_QRNG_SEED": str(qrng_seed),
    }
    processes = {
        role: subprocess.Popen(
            [sys.executable, "-c", NODE, role, str(directory), str(port), str(ROOT)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for role in ("alice", "bob")
    }
    datasets, records = {}, {}
    try:
        for role, process in processes.items():
            output, messages = process.communicate(timeout=100)
            assert process.returncode == 0, messages
            datasets[role] = [json.loads(line) for line in output.splitlines()]
            records[role] = RoundRecord.read(directory / role / "record.h5")
    finally:
        for process in processes.values():
            process.kill()
        server.stop()
        thread.join(10.0)
    return datasets, records


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same nature, twice, with other random bits at both nodes."""
    folder = tmp_path_factory.mktemp("facts")
    return [acquire(folder / str(seed), seed) for seed in (1, 2)]


def test_a_complete_run_sets_exactly_the_public_facts(runs):
    for datasets, _ in runs:
        for role in ("alice", "bob"):
            seen = {(name, type_name) for name, type_name, _ in datasets[role]}
            assert seen == {(PREFIX + name, kind.__name__) for name, kind in KEY_RUN_FACTS.items()}
            states = {value for name, _, value in datasets[role] if name == "diqkd.node_state"}
            assert states <= set(NODE_STATES)


def test_datasets_do_not_change_when_all_private_bits_do(runs):
    (first, first_records), (second, second_records) = runs
    for role in ("alice", "bob"):
        one, other = first_records[role], second_records[role]
        assert (one.outcome != other.outcome).any() and (one.setting != other.setting).any()
        assert (one.round_type != other.round_type).any()
        np.testing.assert_array_equal(one.herald_pattern, other.herald_pattern)
        assert _last(first[role]) == _last(second[role])
        for datasets in (first, second):
            rates = [value for name, _, value in datasets[role] if name == "diqkd.herald_rate"]
            assert all(value >= 0 for value in rates)


def _last(datasets):
    values = {name.removeprefix(PREFIX): value for name, _, value in datasets}
    return {name: value for name, value in values.items() if name not in TIMED}


def test_what_is_not_on_the_list_stays():
    sent = {}
    facts = PublicFacts(lambda name, value, broadcast: sent.update({name: value}))
    for name, value in (("outcome", 1), ("chsh_score", 2.6), ("correlations", np.zeros((1, 5)))):
        with pytest.raises(PrivateFactError, match=f"{name!r} is not a public fact"):
            facts.publish(rounds_done=3, **{name: value})
    for name, value in (
        ("rounds_done", 3.5),
        ("rounds_done", True),
        ("node_state", b"1"),
        ("ion_losses", "1"),
    ):
        with pytest.raises(PrivateFactError, match=f"{name!r} is a") as caught:
            facts.publish(**{name: value})
        assert repr(value) not in str(caught.value)
    assert sent == {}
    facts.publish(node_state="running", rounds_done=3)
    assert sent == {"diqkd.node_state": "running", "diqkd.rounds_done": 3}


def test_text_of_the_other_node_is_not_passed_on():
    sent = {}
    facts = PublicFacts(lambda name, value, broadcast: sent.update({name: value}))
    facts.publish(node_state="01101001")
    assert sent == {"diqkd.node_state": PAUSED}


def test_correlations_are_a_fact_of_characterisations_only():
    assert set(CHARACTERISATION_FACTS) - set(KEY_RUN_FACTS) == {"correlations"}


def test_no_experiment_sets_a_dataset_of_a_run_past_the_list():
    """In the source: the run and the node's blocks hand `set_dataset` to `PublicFacts` only."""
    files = [ROOT / "repository" / "key_generation.py", *(ROOT / "diqkd_node" / "run").glob("*.py")]
    uses = []
    for file in files:
        for item in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = ("set_dataset", "append_to_dataset", "mutate_dataset", "setattr_dataset")
            if isinstance(item, ast.Attribute) and item.attr in names:
                uses.append((file.name, ast.unparse(item)))
    assert uses == [("two_node_run.py", "self.set_dataset")]
