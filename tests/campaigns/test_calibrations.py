"""A slice of the calibrations' coverage: what every run of the benchmark does, twice, for two experiments."""

import json
import subprocess
import sys

from tests.support.paths import ROOT

PROGRAM = ROOT / "campaigns" / "calibrations.py"


def test_planted_natures_are_found() -> None:
    """Six values within five standard errors: false alarm 4e-6 a draw, and the draws are seeded."""
    experiments = ["scrambling_time", "ramsey_coherence"]
    command = [
        sys.executable,
        str(PROGRAM),
        "--runs",
        "2",
        "--workers",
        "1",
        "--json",
        "--only",
        *experiments,
    ]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert finished.stdout, finished.stderr
    report = json.loads(finished.stdout)
    assert set(report["coverage"]) == {
        "scrambling_time.time_constant",
        "ramsey_coherence.coherence_time",
        "ramsey_coherence.frequency",
    }
    for entry in report["coverage"].values():
        assert abs(entry["mean_pull"]) + entry["spread_of_pulls"] < 5
    assert report["fits_below_p_1e-4"] == 0
