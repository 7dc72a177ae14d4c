"""`diqkd plan` as a user types it, in this process."""

import json

import pytest

from diqkd.cli import main
from diqkd_postproc.security.certification import load_certified


@pytest.fixture
def plan(capsys):
    def answer(*arguments):
        assert main(["plan", "--json", *map(str, arguments)]) == 0
        return json.loads(capsys.readouterr().out)

    return answer


def test_without_options_the_published_run_is_planned(plan, tmp_path):
    answer = plan("-o", tmp_path / "parameters.toml")
    assert (answer["key_bits"], answer["gamma"], answer["syndrome_bits"]) == (95_885, "13/256", 296_517)
    assert load_certified(tmp_path / "parameters.toml").key_bits == 95_885


def test_rounds_that_may_be_voided_are_paid_for(plan, capsys, tmp_path):
    answer = plan("--max-late-losses", 100, "-o", tmp_path / "parameters.toml")
    assert (answer["key_bits"], answer["max_late_losses"]) == (95_785, 100)
    assert load_certified(tmp_path / "parameters.toml").max_late_losses == 100
    assert plan("--max-late-losses", 0)["key_bits"] == 95_885
    # Of a variable length only those that happen cost a bit: a limit that outlasts a day of crashes is free.
    variable = plan("--proof", "renyi", "--length", "variable", "--rounds", 100_000)
    assert variable["max_late_losses"] == 1000
    plan("--end-token", "-o", tmp_path / "parameters.toml")
    assert load_certified(tmp_path / "parameters.toml").end_token
    assert main(["plan", "--max-late-losses", "100"]) == 0
    assert "at most 100, else the run ends" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["plan", "--max-late-losses", "-1"])


@pytest.mark.parametrize(
    ("options", "bits"),
    [
        (["--proof", "counted"], 155_815),
        (["--proof", "renyi", "--bound", "simple"], 353_697),
        (["--proof", "renyi", "--bound", "simple", "--extractor", "toeplitz"], 422_168),
    ],
)
def test_published_run_under_other_proofs(plan, options, bits):
    answer = plan("--s", 2.64, "--q", 0.018, "--rounds", "1.5e6", "--gamma", "13/256", *options)
    assert answer["key_bits"] == bits
    assert answer["proof"] == options[1]
    assert "not peer-reviewed" in answer["proof_status"]


def test_the_exact_value_of_a_round_is_the_default(plan):
    answer = plan("--proof", "renyi")
    assert (answer["bound"], answer["extractor"], answer["length"]) == ("exact", "trevisan", "fixed")
    assert answer["key_bits"] > 373_475  # by the `full` bound


def test_gamma_is_optimised_for_a_given_link(plan):
    answer = plan("--s", 2.64, "--q", 0.018, "--rounds", "1.5e6")
    assert (answer["gamma"], answer["key_bits"]) == ("17/256", 101_710)


def test_hours_and_herald_rate_give_the_rounds(plan):
    answer = plan("--hours", 5, "--herald-rate", 80, "--completeness", 0.01)
    assert answer["num_rounds"] == 5 * 3600 * 80
    assert answer["duration_s"] == pytest.approx(5 * 3600)
    assert 0.008 < answer["abort_probabilities"]["bell_test"] <= 0.01


def test_tables_name_the_proof_and_what_is_missing(capsys):
    assert main(["plan", "--rounds", "2e5"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "No key is possible here with 200,000 rounds: about 1,02" in shown
    assert main(["plan", "--proof", "counted"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "155,815 bits" in shown and "not peer-reviewed" in shown and "at most 77,004" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--s", "3"], "chsh_score=3.0"),
        (["--q", "0.7"], "qber=0.7"),
        (["--gamma", "2"], "gamma=2"),
        (["--soundness", "1e-20"], "soundness_error=1e-20"),
        (["--extractor", "toeplitz"], "proof='renyi'"),
        (["--hours", "0"], "0.0 hours"),
        (["--completeness", "2"], "completeness_error=2.0"),
        (["--proof", "renyi", "--plot", "plan.unknown"], "plan.unknown"),
    ],
)
def test_bad_input_is_named(capsys, monkeypatch, options, message):
    import diqkd_postproc.report.plan_figures as figures

    for draws in ("_rates", "_smallest_runs", "_sensitivity"):
        monkeypatch.setattr(figures, draws, lambda *arguments: None)
    assert main(["plan", *options]) == 2
    assert message in capsys.readouterr().err


def test_figure_is_drawn(plan, tmp_path, monkeypatch):
    import diqkd_postproc.report.plan_figures as figures

    for name, points in (("RATE_POINTS", 3), ("SENSITIVITY_POINTS", 3), ("SMALLEST_RUN_SCORES", 2)):
        monkeypatch.setattr(figures, name, points)
    monkeypatch.setattr(figures, "PROOFS", figures.PROOFS[:1])
    monkeypatch.setattr(figures, "BOTH", figures.PROOFS[:1])
    plan("--plot", tmp_path / "plan.png")
    assert (tmp_path / "plan.png").stat().st_size > 20_000
