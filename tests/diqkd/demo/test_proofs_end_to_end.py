"""The main job under another proof than the default, in both orders of a round: its parts agree on it."""

import json
import subprocess
import sys

import pytest

DIQKD = [sys.executable, "-m", "diqkd"]


@pytest.mark.parametrize("protocol", ["ordered", "late-type"])
def test_a_run_under_the_renyi_proof_with_toeplitz_hashing(tmp_path, protocol):
    folder = tmp_path / "run"
    design = ["--rounds", "20000", "--gamma", "1/4", "--soundness", "0.01", "--syndrome-bits", "5200"]
    link = ["--s", "2.815", "--q", "0.0015", "--herald-probability", "0.02", "--link", "ideal", "--seed", "5"]
    proof = ["--proof", "renyi", "--extractor", "toeplitz", "--protocol", protocol]
    command = [*DIQKD, "demo", *design, *link, *proof, "--run-dir", str(folder), "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert report["identical_keys"] is True
    assert (report["proof"], report["bound"], report["extractor"]) == ("renyi", "exact", "toeplitz")
    assert report["key_bits"] > 4000
    assert "not peer-reviewed" in report["proof_status"]
    sheet = report["balance_sheet"]
    assert sheet["proof"] == "renyi exact toeplitz"
    assert sheet["rows"][-1]["used_reusable"] == 20_000 + report["key_bits"] - 1
    # The published proof gives nothing from so few rounds.
    shown = subprocess.run(
        [*DIQKD, "plan", *design, *link[:4], "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert json.loads(shown.stdout)["key_bits"] == 0
