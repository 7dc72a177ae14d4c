"""Slices of two campaigns: SIGKILL around every effect, and random walks with kills and old copies."""

import json
import multiprocessing
import subprocess
import sys

import pytest

from campaigns import session_walks
from tests.support.joined_parties import MemoryLedger
from tests.support.paths import ROOT

PROGRAM = ROOT / "campaigns" / "session_kills.py"


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="needs fork, which this platform has not"
)
def test_a_killed_party_goes_on_to_the_same_key() -> None:
    command = [sys.executable, str(PROGRAM), "tcp", "files", "--every", "19", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    report = json.loads(finished.stdout)
    assert report["failures"] == [] and finished.returncode == 0
    assert min(report["families"].values()) >= 2


def test_no_walk_uses_a_pad_twice() -> None:
    report = session_walks.campaign(1200)
    assert report["steps"] >= 1200 and report["kill"] > 10 and report["restore both"] > 0
    assert report["ended key key"] > 0 and report["ended key key after old copies"] > 0


def test_a_walk_would_find_a_ledger_that_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(ledger: MemoryLedger, name: str, session_id: str, message_digest: bytes) -> bytes:
        ledger.bindings[name] = message_digest + bytes([len(ledger.bindings)])
        return ledger.segments[name]

    monkeypatch.setattr(MemoryLedger, "consume", forgetful)
    with pytest.raises(AssertionError, match="to two messages"):
        session_walks.campaign(400)
