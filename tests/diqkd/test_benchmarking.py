"""`diqkd benchmark` at small size: every figure is there and the machine is named."""

import json

import pytest

from diqkd.cli import main


@pytest.mark.parametrize("subject", ["decoder", "extractor", "toeplitz", "hash"])
def test_a_subject(subject: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diqkd.benchmarking.HASHED_BYTES", 10_000)
    assert main(["benchmark", subject, "--rounds", "3000", "--repeat", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"machine", subject, "peak_memory_mib"}
    assert report["machine"]["processor"] and report["machine"]["instruction_sets"][-1] == "portable"
    figures = report[subject]
    if subject in ("extractor", "hash"):
        figures = figures[report["machine"]["instruction_sets"][0]]
    elif subject == "decoder":
        assert figures["frames"] == 2
        figures = figures["decode"]
    assert figures["median_s"] >= figures["min_s"] > 0 and figures["cold_s"] > 0


def test_the_text_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "toeplitz", "--rounds", "3000", "--repeat", "1"]) == 0
    out = capsys.readouterr().out
    assert "processor" in out and "median s" in out
