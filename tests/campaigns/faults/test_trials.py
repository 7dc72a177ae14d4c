"""A run that meets every kind of fault, and an audit that notices what it is there to notice.

The long campaigns are `campaigns/acquisition_faults.py`; this is a slice of each scenario in one run.
"""

import dataclasses
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from campaigns.faults.injection import Trace
from campaigns.faults.scenarios import SCENARIOS, short_parameters
from campaigns.faults.secrecy import SecrecyTrial
from campaigns.faults.trial import Start, Trial
from sim_devices.adversaries.link_proxy import LinkFault

SECOND_ION = {"kind": "ion_loss", "step": "readout", "round": 30}
STARTS = (
    Start(
        {
            "alice": {"faults": [SECOND_ION, {"kind": "lock_loss", "step": "mapping", "round": 60}]},
            "bob": {
                "faults": [
                    {"kind": "ion_loss", "step": "loading", "round": 10},
                    {"kind": "missed_herald", "round": 80},
                ],
                "full_disk": {"at": "rounds", "after": 3},
            },
        }
    ),
    Start({"bob": {"crash": True}}),
    Start({"alice": {"death": {"from": "batch", "calls": 4000}}}, kill_other=True),
    Start(link_fault=LinkFault("drop", "bob", 600)),
    Start({"bob": {"death": {"from": "batch", "calls": 3000}}}),
)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_run_with_every_kind_of_fault_keeps_its_rounds_and_its_secrets(tmp_path: Path) -> None:
    """False alarms of the canary have a probability below 1e-6 (see its module)."""
    trial = SecrecyTrial(tmp_path, 3, STARTS, ("key",))
    verdict = trial.run()
    assert verdict["findings"] == [] and verdict["hits"] == {}
    assert verdict["planted_leaks_found"]
    # Two ions (one of them twice), lock, herald, disk, one node killed with the other, the link, a node.
    assert verdict["faults"] >= 8
    assert verdict["searched_bytes"] > 50_000 and len(verdict["secrets"]) == 7


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """A trial without faults."""
    directory = tmp_path_factory.mktemp("trial")
    trial = Trial(directory, short_parameters(120), 5)
    trial.run([])
    assert trial.findings == []
    return trial


def _reuse_bits(trial: Trial) -> None:
    Trace(trial.directory / "bob.trace").note(batch=100, bits=[0, 9], settings="00", tokens="00")


def _change_setting(trial: Trial) -> None:
    test_rounds = np.flatnonzero(trial.records["alice"].round_type)
    first = int(test_rounds[0])
    drawn = int(trial.records["alice"].setting[first])
    Trace(trial.directory / "alice.trace").note(
        batch=first, bits=[9000, 9001], settings=f"0{1 - drawn}", tokens="00"
    )


def _see_more_heralds(trial: Trial) -> None:
    for role in ("alice", "bob"):
        trace = Trace(trial.directory / f"{role}.trace")
        for herald in range(1000, 1061):
            trace.note(herald=herald)


def _change_acknowledged(trial: Trial) -> None:
    columns = trial._acknowledged["alice"][-1]
    trial._acknowledged["alice"].append(columns | {"outcome": 1 - columns["outcome"]})


def _change_pattern(trial: Trial) -> None:
    record = trial.records["bob"]
    patterns = record.herald_pattern.copy()
    patterns[5] ^= 0b1111
    path = trial.directory / "bob" / "record.h5"
    path.rename(path.with_name("kept"))
    dataclasses.replace(record, herald_pattern=patterns).write(path)


def _truncate(trial: Trial) -> None:
    path = trial.directory / "bob" / "record.h5"
    content = path.read_bytes()
    path.rename(path.with_name("kept"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, content[:-100])
    os.close(descriptor)


@pytest.mark.parametrize(
    ("falsify", "finding"),
    [
        (_reuse_bits, "used twice"),
        (_change_setting, "not the one that was drawn"),
        (_see_more_heralds, "some were dropped"),
        (_change_acknowledged, "acknowledged rounds have changed in outcome"),
        (_change_pattern, "herald_pattern differs"),
        (_truncate, "unreadable record"),
    ],
)
def test_the_audit_notices(finished: Trial, falsify: Callable[[Trial], None], finding: str) -> None:
    traces = {role: (finished.directory / f"{role}.trace").read_bytes() for role in ("alice", "bob")}
    acknowledged = {role: list(columns) for role, columns in finished._acknowledged.items()}
    try:
        falsify(finished)
        finished.audit()
        assert any(finding in text for text in finished.findings), finished.findings
    finally:
        for role, content in traces.items():
            (finished.directory / f"{role}.trace").write_bytes(content)
        finished._acknowledged = acknowledged
        kept = finished.directory / "bob" / "kept"
        if kept.exists():
            kept.replace(finished.directory / "bob" / "record.h5")
        finished.findings.clear()
        finished.audit()
        assert finished.findings == []


def _killed(directory: Path, protocol: str, role: str, step: str, **plan: bool) -> Trial:
    """A run of which a node is killed at a step, with the other one, and which is completed then."""
    fault = {"kind": "kill", "step": step, "round": 10}
    trial = Trial(
        directory, short_parameters(50, protocol=protocol), 5, 25, laboratory_faults=("--protocol", protocol)
    )
    other = "bob" if role == "alice" else "alice"
    trial.run([Start({role: {"faults": [fault], **plan}, other: dict(plan)}, kill_other=True)])
    assert trial.num_killed
    return trial


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize(
    ("protocol", "role", "step"), [("ordered", "bob", "after round_type"), ("late-type", "alice", "token")]
)
def test_a_kill_within_a_round_uses_its_index_up(tmp_path: Path, protocol: str, role: str, step: str) -> None:
    trial = _killed(tmp_path, protocol, role, step)
    assert trial.findings == []
    assert trial.records["alice"].late_loss[10] == 1


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_journal_without_grants_is_noticed(tmp_path: Path) -> None:
    findings = _killed(tmp_path, "ordered", "alice", "after token", forget_grants=True).findings
    assert any("played before the journal" in text for text in findings), findings
    assert any("was played twice" in text for text in findings), findings


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_repeat_from_their_seed(name: str) -> None:
    scenario, points = SCENARIOS[name]
    cases = list(scenario(random.Random(1), points))
    assert cases == list(scenario(random.Random(1), points))
    assert cases and all(case.starts for case in cases)
    if name in ("kills", "steps"):
        assert sum(len(case.starts) for case in cases) == points
