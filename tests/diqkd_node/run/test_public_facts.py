"""Nothing private can reach the datasets of a key run: one door, a list, a run with all secrets changed."""

import ast

import numpy as np
import pytest

from diqkd_node.run.public_facts import (
    CHARACTERISATION_FACTS,
    KEY_RUN_FACTS,
    NODE_STATES,
    PREFIX,
    PrivateFactError,
    PublicFacts,
)
from diqkd_postproc.records.sealed_record import RoundRecord
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from tests.support.example_parameters import small_parameters
from tests.support.paths import ROOT
from tests.support.two_nodes import datasets, laboratory, run_both

NUM_ROUNDS = 150
# These hold times of this run's processes.
TIMED = {"herald_rate", "last_update_unix"}


def acquire(directory, qrng_seed, laboratory_seed=11):
    """Datasets of a complete acquisition, (name, type, value) each, and the records, by role."""
    directory.mkdir()
    parameters = directory / "parameters.toml"
    small_parameters(NUM_ROUNDS).save(parameters)
    faults = ((40, "bob_ion_loss"), (100, "lock_loss"))
    with laboratory(LaboratoryConfiguration(seed=laboratory_seed, scheduled_faults=faults)) as address:
        environment = {"DIQKD_QRNG_SEED": str(qrng_seed)}
        arguments = {"parameters_file": parameters, "batch_rounds": 60, "environment": environment}
        ends = run_both("key_generation", directory, address, **arguments)
    for code, output in ends.values():
        assert code == 0, output
    published = {role: datasets(output) for role, (_, output) in ends.items()}
    return published, {role: RoundRecord.read(directory / role / "record.h5") for role in ends}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same nature, twice, with other random bits at both nodes."""
    folder = tmp_path_factory.mktemp("facts")
    return [acquire(folder / str(seed), seed) for seed in (1, 2)]


def test_a_complete_run_sets_exactly_the_public_facts(runs):
    for published, _ in runs:
        for role in ("alice", "bob"):
            seen = {(name, type_name) for name, type_name, _ in published[role]}
            assert seen == {(PREFIX + name, kind.__name__) for name, kind in KEY_RUN_FACTS.items()}
            states = {value for name, _, value in published[role] if name == "diqkd.node_state"}
            assert states <= set(NODE_STATES)


def test_datasets_do_not_change_when_all_private_bits_do(runs):
    (first, first_records), (second, second_records) = runs
    for role in ("alice", "bob"):
        one, other = first_records[role], second_records[role]
        assert (one.outcome != other.outcome).any() and (one.setting != other.setting).any()
        assert (one.round_type != other.round_type).any()
        np.testing.assert_array_equal(one.herald_pattern, other.herald_pattern)
        assert _last(first[role]) == _last(second[role])
        for published in (first, second):
            rates = [value for name, _, value in published[role] if name == "diqkd.herald_rate"]
            assert all(value >= 0 for value in rates)


def _last(published):
    values = {name.removeprefix(PREFIX): value for name, _, value in published}
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


@pytest.mark.parametrize("name", ["node_state", "connection"])
def test_a_fact_says_only_what_is_on_its_list(name):
    sent = {}
    facts = PublicFacts(lambda name, value, broadcast: sent.update({name: value}))
    with pytest.raises(PrivateFactError, match="not on its list") as caught:
        facts.publish(**{name: "01101001"})
    assert sent == {} and "01101001" not in str(caught.value)


def test_correlations_are_a_fact_of_characterisations_only():
    assert set(CHARACTERISATION_FACTS) - set(KEY_RUN_FACTS) == {"correlations"}


def test_no_experiment_sets_a_dataset_of_a_run_past_the_list():
    """In the source: the run and the node's blocks hand `set_dataset` to `PublicFacts` only."""
    folders = (ROOT / "diqkd_node" / name for name in ("run", "sequence"))
    files = [ROOT / "repository" / "key_generation.py", *(path for f in folders for path in f.glob("*.py"))]
    uses = []
    for file in files:
        for item in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = ("set_dataset", "append_to_dataset", "mutate_dataset", "setattr_dataset")
            if isinstance(item, ast.Attribute) and item.attr in names:
                uses.append((file.name, ast.unparse(item)))
    assert uses == [("two_node_run.py", "self.set_dataset")]
