"""The evidence for the `renyi` proof at a small scale: no claim of it is violated."""

import json
import subprocess
import sys

from tests.support.paths import ROOT

PROGRAM = ROOT / "campaigns" / "renyi_evidence.py"


def test_no_claim_of_the_proof_is_violated():
    command = [sys.executable, str(PROGRAM), "--instances", "40", "--seed", "9", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    report = json.loads(finished.stdout)
    assert finished.returncode == 0 and report["violated"] == []
    assert len(report["worst"]) == 7
    assert 0 < report["tightness"]["full: certified minus attained"] < 2e-10
