"""`diqkd tomography` as a user meets it."""

import json
from pathlib import Path

import pytest

from diqkd.cli import main
from tests.support.paths import ROOT

PUBLISHED = ROOT / "docs" / "data" / "published_tomography.csv"


def test_result_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tomography", str(PUBLISHED), "-o", str(tmp_path), "--resamples", "4", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["patterns"]["1010"]["fidelity"]["value"] == pytest.approx(0.9644, abs=1e-4)
    assert answer["patterns"]["0011"]["num_heralds"] == 43182
    stored = json.loads(Path(answer["result"]).read_text())
    assert stored["patterns"] == answer["patterns"]
    assert stored["provenance"]["source"] == "published_tomography.csv"
    assert Path(answer["picture"]).read_bytes().startswith(b"\x89PNG")


def test_unreadable_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tomography", str(tmp_path / "none.csv")]) == 2
    assert "cannot read the table of counts" in capsys.readouterr().err
