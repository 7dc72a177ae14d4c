"""`diqkd codes`, end to end at small size."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from diqkd.cli import main
from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.reconciliation import code_for
from diqkd_postproc.reconciliation.ensemble import ENSEMBLES


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["codes", *arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert isinstance(document, dict)
    return document


def test_evaluate_combine_and_plot(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    results, merged = str(tmp_path / "results.jsonl"), str(tmp_path / "merged.jsonl")
    common = ("--rounds", "2000", "--frames", "4", "--results", results)
    report = answer(capsys, "evaluate", *common, "--syndrome-bits", "560")
    assert (report["frames"], report["undetected"], report["syndrome_bits"]) == (4, 0, 560)
    assert 0 <= report["failures"] <= 4 and report["iterations_median"] > 0
    assert report["decode_seconds_median"] > 0 and report["failure_rate_interval"][1] > 0
    grid = answer(capsys, "evaluate", *common, "--efficiency", "1.7", "1.8", "--true-q", "0.01", "0.018")
    assert [task["frames"] for task in grid["tasks"]] == [4] * 4
    assert len(answer(capsys, "combine", results, "-o", merged)["tasks"]) == 5
    assert len(Path(merged).read_text().splitlines()) == 5
    assert main(["codes", "combine", results, "-o", merged]) == 6
    capsys.readouterr()
    for against in ("efficiency", "true-q", "true-s"):
        figure = tmp_path / f"{against}.svg"
        plotted = answer(capsys, "plot", merged, "-o", str(figure), "--against", against)
        assert plotted["tasks"] == 5
        text = figure.read_text()
        assert text.lstrip().startswith("<?xml") and len(text) > 5000
    assert main(["codes", "combine", merged]) == 0
    assert "of 4: rate" in capsys.readouterr().out


def test_evaluate_a_syndrome_in_parts(capsys: pytest.CaptureFixture[str]) -> None:
    common = ("--rounds", "2000", "--frames", "6", "--design", "robust", "--seed", "1")
    report = answer(capsys, "evaluate", *common, "--parts", "400", "480", "800")
    assert report["syndrome_totals"] == [400, 480, 800] and sum(report["parts"].values()) == 6
    assert report["efficiency"] < report["mean_efficiency"] < 2 * report["efficiency"]
    assert main(["codes", "evaluate", *common, "--parts", "400", "480", "800"]) == 0
    assert "frames by parts of the syndrome" in capsys.readouterr().out


def test_a_design_file_gives_the_same_code_elsewhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = str(tmp_path / "design.json")
    common = ("--rounds", "2000", "--syndrome-bits", "560")
    report = answer(capsys, "design", *common, "--design", "robust", "--code-seed", "7", "-o", path)
    assert json.loads(Path(path).read_text()) == report
    assert 1.0 < report["threshold"] < report["efficiency"]
    evaluated = answer(capsys, "evaluate", *common, "--design", path, "--frames", "1")
    assert evaluated["code_digest"] == report["code_digest"] and evaluated["ensemble"] == "robust"
    assert main(["codes", "design", *common]) == 0
    assert "ensemble" in capsys.readouterr().out


def test_a_run_uses_the_design_that_its_parameters_carry(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "parameters.toml"
    before = DesignPoint(20_000, Fraction(13, 256), 2.64, 0.018, syndrome_bits=6000).parameters()
    before.save(path)
    report = answer(capsys, "design", "--parameters", str(path), "--design", "near-limit-tenth-tests")
    after = ProtocolParameters.load(path)
    assert code_for(after).digest == report["code_digest"] != code_for(before).digest
    assert after.digest != before.digest
    assert after.model_copy(update={"code_design": None}) == before
    by_name = after.model_copy(update={"code_design": "near-limit-tenth-tests"})
    assert code_for(by_name).digest == report["code_digest"]
    for wrong in ("no such design", "{", '{"name": "x"}'):
        with pytest.raises(ParameterError, match=r"design|ensemble"):
            code_for(after.model_copy(update={"code_design": wrong}))


@pytest.mark.parametrize(
    "arguments",
    [
        ["design", "--design", "no such design"],
        ["evaluate", "--syndrome-bits", "3000", "--rounds", "2000"],
        ["evaluate", "--s", "5"],
        ["plot", "missing.jsonl", "-o", "x.svg"],
    ],
)
def test_mistakes_are_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["codes", *arguments]) in (2, 6)
    assert capsys.readouterr().err.startswith("diqkd: ")


def test_ensembles_survive_json() -> None:
    for ensemble in ENSEMBLES.values():
        assert type(ensemble).from_dict(json.loads(json.dumps(ensemble.to_dict()))) == ensemble
