"""`diqkd demo --attack` as a user runs it: each attack ends with the documented exit code and says why.

Runs are shorter than the default. What decides is not statistics: S is twenty standard errors below the
threshold, and the audit is certain. The attacks on the network are tested with the session."""

import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import pytest

from diqkd.cli import build_parser, main
from diqkd.demo.scenario import requested_scenario, tampering_of
from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.protocol.errors import ParameterError
from sim_devices.adversaries.attacks import ATTACKS, DEFAULT_DESIGN
from sim_devices.apparatus.line_tampering import LINE_ATTACKS
from sim_devices.laboratory.__main__ import argument_parser

DESIGN = ["--rounds", "10000", "--gamma", "3/16", "--soundness", "0.1", "--syndrome-bits", "3000"]


def attack(name, folder, *options):
    command = [sys.executable, "-m", "diqkd", "demo", "--attack", name, *DESIGN, *options]
    finished = subprocess.run(
        [*command, "--seed", "7", "--run-dir", str(folder), "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return finished, json.loads(finished.stdout or "{}")


def test_a_station_that_measures_is_caught_by_the_bell_test(tmp_path):
    finished, seen = attack("intercept", tmp_path / "run")
    assert finished.returncode == ATTACKS["intercept"].exit_code == 3, finished.stderr
    assert "Bell violation is too small" in finished.stderr
    assert seen["accepted"] is False and seen["acceptance_probability"] < 1e-30
    # The score that was seen is the theory's, within 5.5 standard errors (false alarm 4e-8).
    assert abs(seen["chsh_score"] - seen["expected_chsh_score"]) < 5.5 * seen["chsh_score_error"]
    assert seen["eve_noted"] == seen["key_rounds"] > 0 and seen["eve_right"] / seen["eve_noted"] > 0.99
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Too many test rounds were lost" in page and "station measures the photons" in page


@pytest.mark.parametrize(
    ("name", "protocol", "late_losses", "reason"),
    [
        ("forged-token", "late-type", 0, "Bell violation is too small"),
        ("early-type", "ordered", 1, "no outcome of Alice's, or one for another type"),
    ],
)
def test_an_attack_on_the_lines_is_caught_by_the_order(tmp_path, name, protocol, late_losses, reason):
    """S alone would pass, and in `early-type` Eve has every key outcome."""
    finished, seen = attack(name, tmp_path / "run", "--protocol", protocol)
    assert finished.returncode == ATTACKS[name].exit_code == 3, finished.stderr
    assert reason in finished.stderr and seen["accepted"] is False
    # Half of the tests: within six standard errors (2e-9); all of them for a wrong type.
    lost, tests = seen["order_lost_tests"], seen["num_tests"]
    assert abs(lost - seen["expected_order_losses"]) <= (0 if name == "early-type" else 3 * tests**0.5)
    assert seen["late_losses"] == late_losses * tests and seen["order_lost_key_rounds"] == 0
    if name == "early-type":
        assert seen["bell_lost_tests"] < 0.02 * tests
        assert seen["eve_right"] > 0.98 * seen["eve_noted"] == 0.98 * seen["key_rounds"]
    else:
        assert seen["bell_lost_tests"] < 0.18 * tests and seen["eve_noted"] == 0
    assert "run_directory" in seen and (tmp_path / "run" / "report.html").exists()


def test_an_attack_on_the_lines_takes_its_share():
    point = DesignPoint(
        60_000, Fraction(1, 8), 2.815, 0.0015, proof="renyi", bound="simple", extractor="toeplitz"
    )
    scenario = requested_scenario(point, "ideal", 0.02, 1)
    for name, share in (("skew", None), ("drop-key-type", 0.25)):
        tampering = tampering_of(ATTACKS[name], share, scenario)
        assert (tampering.lines.attack, tampering.lines.share) == (ATTACKS[name].line_attack, share or 1.0)
        options = argument_parser().parse_args(replace(scenario, tampering=tampering).laboratory)
        assert (options.line_attack, options.line_attack_share) == (tampering.lines.attack, share or 1.0)
        assert options.protocol == scenario.parameters.protocol
    with pytest.raises(ParameterError, match="outside"):
        tampering_of(ATTACKS["skew"], 1.5, scenario)


def test_every_attack_on_the_lines_has_a_name_of_the_demonstration():
    assert {attack.line_attack for attack in ATTACKS.values()} == {"", *LINE_ATTACKS}


def test_a_link_that_stays_up_is_caught_by_the_audit(tmp_path):
    finished, seen = attack("leaky-link", tmp_path / "run")
    assert finished.returncode == ATTACKS["leaky-link"].exit_code == 4
    assert "in reach of the link" in finished.stderr and "in reach of the link" in seen["reason"]
    assert not (tmp_path / "run" / "bob" / "record.h5").exists()


def test_a_run_is_attacked_from_its_beginning(tmp_path, capsys):
    (tmp_path / "parameters.toml").write_text("", encoding="utf-8")
    assert main(["demo", "--attack", "network", "--run-dir", str(tmp_path)]) == 2
    assert "needs a new folder" in capsys.readouterr().err
    assert (
        main(["demo", "--attack", "intercept", "--fraction", "0.5", "--run-dir", str(tmp_path / "new")]) == 2
    )
    assert "belongs to the attack mixture" in capsys.readouterr().err


def test_the_list_names_every_attack(capsys):
    assert main(["demo", "--attack", "list", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["attacks"]) == set(ATTACKS)


def test_an_attack_chooses_a_size_unless_told_otherwise():
    arguments = build_parser().parse_args(["demo", "--attack", "mixture", "--rounds", "1000", "--q", "0.01"])
    assert (arguments.attack, arguments.rounds, arguments.qber) == ("mixture", 1000, 0.01)
    assert (arguments.link, arguments.proof) == (DEFAULT_DESIGN["link"], DEFAULT_DESIGN["proof"])
    with pytest.raises(SystemExit):
        build_parser().parse_args(["demo", "--attack", "no-such-thing"])
