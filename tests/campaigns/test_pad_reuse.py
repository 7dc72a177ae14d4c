"""A slice of the campaign with two processes that are killed: no bit is issued twice."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.paths import ROOT

CAMPAIGNS = ROOT / "campaigns"


def test_no_bit_is_issued_twice() -> None:
    command = [sys.executable, str(CAMPAIGNS / "pad_reuse.py"), "--steps", "120", "--json"]
    command += ["--progress", "none"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert report["steps"] >= 120 and report["bits issued"] > 0 and report["granted"] > 20
    assert report["bits issued twice"] == 0
