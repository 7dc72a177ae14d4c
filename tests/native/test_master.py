"""Both nodes under real `artiq_master` programs: the repository, joint campaigns, interruptions."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest

from campaigns.faults.canary import Canary
from diqkd_node.run.public_facts import KEY_RUN_FACTS
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.records.round_spool import RoundSpool
from diqkd_postproc.records.sealed_record import RoundRecord
from tests.support.artiq_programs import wait_until

pytestmark = pytest.mark.artiq

PROBE = """
from artiq.experiment import *

class Probe(EnvExperiment):
    def build(self):
        pass

    def run(self):
        self.set_dataset("probe.ran", True, broadcast=True)
"""
# Voltages of the shuttle's electrodes with the ion out of the focus, and beams of a node at rest.
AT_REST = {"ttl_422_cool": 1, "ttl_1092": 1, "ttl_1033": 0, "ttl_674": 0} | {
    f"fastino {channel}": 1.0 for channel in (15, 16, 23, 24)
}


class Campaign:
    """A run of both nodes; `submit` starts it, also again."""

    def __init__(self, masters, folder: Path, parameters_file: Path, port: int) -> None:
        self.masters = masters
        self.folder = folder
        self.parameters_file = parameters_file
        self.parameters = ProtocolParameters.load(parameters_file)
        self.port = port
        self.rids = {}

    def submit(self, *roles: str) -> None:
        for role in roles or self.masters:
            self.rids[role] = self.masters[role].submit(
                parameters_file=str(self.parameters_file),
                run_directory=str(self.folder / role),
                peer_port=self.port,
                batch_rounds=200,
            )

    def wait_for_rounds(self, number: int) -> None:
        for role, master in self.masters.items():
            wait_until(
                lambda master=master: master.dataset("diqkd.rounds_done", 0) >= number,
                f"round {number} of {role}; {master.log[-2000:]}",
            )

    def wait_until_done(self) -> None:
        for role, rid in self.rids.items():
            self.masters[role].wait_until_done(rid)

    def records(self) -> dict[str, RoundRecord]:
        return {role: RoundRecord.read(self.folder / role / "record.h5") for role in self.masters}

    def spooled_rounds(self) -> dict[str, int]:
        """Rounds in each node's spool after an interruption."""
        rounds = {}
        for role in self.masters:
            path = self.folder / role / "spool.sqlite"
            with RoundSpool.open(path, role=role, parameters=self.parameters) as spool:
                rounds[role] = spool.rounds_done
            with closing(sqlite3.connect(path)) as database:
                assert not database.execute("SELECT * FROM batch").fetchall(), f"{role} has left a batch open"
        return rounds


@pytest.fixture
def campaign(masters, programs, tmp_path, parameters_file):
    return Campaign(masters, tmp_path / "runs", parameters_file, programs.reserve())


@pytest.fixture
def long_campaign(masters, programs, tmp_path, parameters_file):
    """A campaign of 200 000 rounds, which no test waits for."""
    text = parameters_file.read_text()
    assert "num_rounds = 400" in text
    long = tmp_path / "long.toml"
    long.write_text(text.replace("num_rounds = 400", "num_rounds = 200000"))
    return Campaign(masters, tmp_path / "runs", long, programs.reserve())


def assert_at_rest(master) -> None:
    outputs = master.outputs()
    assert {key: outputs.get(key) for key in AT_REST} == AT_REST


def test_repository_has_named_experiments_and_no_errors(masters):
    master = masters["bob"]
    master.client("scan-repository")
    assert "WARNING" not in master.log and "ERROR" not in master.log, master.log
    experiments = master.experiments()
    assert {"DIQKD key generation", "Node at rest"} <= set(experiments)
    # Names in another folder would be building blocks.
    folders = {name.rpartition("/")[0] for name in experiments}
    assert folders == {"", "calibrations", "link"}, set(experiments)


def test_joint_campaign(campaign, masters):
    campaign.submit()
    campaign.wait_until_done()
    records = campaign.records()
    alice, bob = records["alice"], records["bob"]
    assert alice.run_id == bob.run_id and alice.outcome.size == 400
    np.testing.assert_array_equal(alice.round_type, bob.round_type)
    # The slave's core sees another pattern once in 1700 heralds.
    assert np.count_nonzero(alice.herald_pattern != bob.herald_pattern) <= 3
    # Key rounds differ with probability 1.44 %: more than 20 of about 200 has a chance below 1e-10.
    key = bob.round_type == 0
    assert 100 < key.sum() < 300
    assert (alice.outcome != bob.outcome)[key].sum() <= 20
    canary = Canary({"a": alice.outcome, "b": bob.outcome, "x": alice.setting, "y": bob.setting})
    for role, master in masters.items():
        assert_at_rest(master)
        assert master.dataset("diqkd.rounds_done") == 400
        assert master.dataset("diqkd.node_state") == "finished"
        with h5py.File(master.results_file(campaign.rids[role])) as results:
            assert {"expid", "rid", "artiq_version", "run_time", "datasets"} <= set(results)
            names = {name.removeprefix("diqkd.") for name in results["datasets"]}
            assert names == set(KEY_RUN_FACTS)
            assert results["datasets/diqkd.rounds_done"][()] == 400
        # False alarms have a probability below 1e-6, see the module.
        assert not canary.find(master.results_file(campaign.rids[role]).read_bytes())
        assert not canary.find(master.log.encode())
        if os.name == "posix":
            for path in (campaign.folder / role).iterdir():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_experiment_of_higher_priority_pauses_the_run(long_campaign, masters, tmp_path):
    probe = tmp_path / "probe.py"
    probe.write_text(PROBE)
    long_campaign.submit()
    long_campaign.wait_for_rounds(400)
    rid = int(masters["alice"].client("submit", "-P", 10, probe).split()[-1])
    masters["alice"].wait_until_done(rid)
    assert masters["alice"].dataset("probe.ran") is True
    before = masters["alice"].dataset("diqkd.rounds_done")
    long_campaign.wait_for_rounds(before + 400)
    statuses = {role: master.schedule()[long_campaign.rids[role]] for role, master in masters.items()}
    assert {status["status"] for status in statuses.values()} == {"running"}
    masters["bob"].client("delete", "-g", long_campaign.rids["bob"])
    long_campaign.wait_until_done()


def test_graceful_termination_and_deletion_leave_a_run_that_goes_on(long_campaign, masters):
    """Alice's run is asked to terminate, then Bob's is deleted."""
    rounds = {"alice": 0}
    for role, options in (("alice", ["-g"]), ("bob", [])):
        other = "bob" if role == "alice" else "alice"
        long_campaign.submit()
        long_campaign.wait_for_rounds(rounds["alice"] + 400)
        masters[role].client("delete", *options, long_campaign.rids[role])
        long_campaign.wait_until_done()
        for master in masters.values():
            assert_at_rest(master)
        assert "left the run (termination requested)" in masters[other].log, masters[other].log
        earlier, rounds = rounds, long_campaign.spooled_rounds()
        assert rounds["alice"] == rounds["bob"] >= earlier["alice"] + 400
    for role in masters:
        with closing(sqlite3.connect(long_campaign.folder / role / "spool.sqlite")) as spool:
            assert spool.execute("SELECT count(*) FROM losses").fetchone() == (0,)


def test_node_at_rest(masters):
    for master in masters.values():
        master.wait_until_done(master.submit("rest.py"))
        assert "ERROR" not in master.log, master.log
        assert_at_rest(master)


def test_relative_paths_are_refused(masters):
    master = masters["alice"]
    rid = master.submit(parameters_file="parameters.toml", run_directory="run")
    master.wait_until_done(rid)
    assert "is not a full path; it has to start with / or ~" in master.log
    assert not list(master.folder.rglob("spool.sqlite"))
