"""Slices of the storage campaigns: power cuts, failing disks, and the control that they find damage."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support.paths import ROOT

CAMPAIGNS = ROOT / "campaigns"
pytest.importorskip("apsw", reason="needs the package apsw")
WORKLOADS = {"key store", "round spool and sealed record", "private file"}


def run(program: str, *options: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, str(CAMPAIGNS / program), *options, "--json", "--progress", "none"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert finished.stdout, finished.stderr
    report = json.loads(finished.stdout)
    assert set(report) == WORKLOADS
    return finished.returncode, report


def test_no_power_cut_leaves_wrong_data() -> None:
    code, report = run("power_cuts.py", "--every", "11", "--variants", "1")
    assert code == 0, report
    for counts in report.values():
        assert counts["refused"] == counts["wrong"] == 0
        assert counts["as acknowledged"] + counts["with the step under way"] == counts["images"] > 2
    assert sum(counts["images"] for counts in report.values()) > 150


def test_the_campaign_finds_missing_synchronisation() -> None:
    code, report = run("power_cuts.py", "--every", "19", "--variants", "1", "--without-sync")
    assert code == 1
    assert all(report[name]["wrong"] > 0 for name in WORKLOADS - {"private file"})


def test_a_failing_disk_leaves_the_state_and_a_remedy() -> None:
    code, report = run("storage_faults.py", "--every", "29")
    assert code == 0, report
    for counts in report.values():
        assert not counts["first_bad"]
        assert counts["state unchanged"] > 0
    assert sum(counts["faults"] for counts in report.values()) > 200
