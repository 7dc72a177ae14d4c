"""The main job as a user runs it: `diqkd` in processes of its own, on simulated nodes, at small n.

The runs are short because the link is ideal and the soundness error large; the key lengths are nevertheless
those that a theorem certifies for these parameters.
"""

import json
import os
import signal
import stat
import subprocess
import sys

import pytest

from diqkd.cli import build_parser
from diqkd.commands.demo import complete
from diqkd_postproc.key_store.pieces import set_aside

DIQKD = [sys.executable, "-m", "diqkd"]
DESIGN = ["--rounds", "60000", "--gamma", "13/128", "--soundness", "0.1", "--syndrome-bits", "9700"]
# A third of the rounds, for which the published theorem gives no key but the project's own does.
SHORT_DESIGN = ["--rounds", "20000", "--gamma", "13/128", "--soundness", "0.1", "--syndrome-bits", "3600"]
SHORT_DESIGN += ["--proof", "renyi", "--bound", "simple"]
LINK = ["--s", "2.815", "--q", "0.0015", "--herald-probability", "0.02"]


def diqkd(*arguments, timeout=300, **options):
    return subprocess.run(
        [*DIQKD, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished demonstration, which was interrupted once on its way: its folder and report."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    command = ["demo", *DESIGN, *LINK, "--link", "ideal", "--seed", 5, "--run-dir", folder, "--json"]
    if os.name == "posix":
        interrupt_after_first_rounds(command, folder)
    finished = diqkd(*command)
    assert finished.returncode == 0, finished.stderr
    return folder, json.loads(finished.stdout)


def interrupt_after_first_rounds(command, folder):
    with subprocess.Popen(
        [*DIQKD, *map(str, command), "--progress", "lines"], stderr=subprocess.PIPE, text=True
    ) as process:
        rounds = 0
        while rounds == 0:
            line = process.stderr.readline()
            assert line, "the demonstration ended by itself"
            rounds = json.loads(line)["done"] if line.startswith("{") else 0
        process.send_signal(signal.SIGTERM)
        _, messages = process.communicate(timeout=300)
    assert process.returncode == 130
    assert f"--run-dir {folder}" in messages


def test_an_interrupted_run_goes_on_only_with_its_parameters(run):
    folder, _ = run
    record = json.loads(diqkd("record", "show", folder / "alice" / "record.h5", "--json").stdout)
    assert [gap["reason"] for gap in record["gaps"]] == ["restarted"] * (os.name == "posix")
    other = diqkd("demo", *DESIGN, *LINK, "--q", "0.002", "--run-dir", folder)
    assert other.returncode == 6
    assert "other parameters" in other.stderr


def test_both_nodes_agree_on_a_key_of_the_certified_length(run):
    _, report = run
    assert report["identical_keys"] is True
    assert report["key_bits"] > 1000
    assert report["k1_bits"] == report["k0_bits"] - 256 + report["key_bits"]
    assert report["num_losses"] <= report["max_losses"]


def test_the_run_ends_with_its_report(run):
    folder, report = run
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert report["report"] == str(folder / "report.html")
    assert f"{report['key_bits']:,}" in page and f"{report['num_losses']:,} of them were lost" in page


def test_each_node_keeps_its_own_record_private(run):
    folder, _ = run
    for role, own, foreign in (("alice", "x", "y"), ("bob", "y", "x")):
        shown = diqkd("record", "show", folder / role / "record.h5", "--json")
        facts = json.loads(shown.stdout)
        assert facts["num_rounds"] == 60000
        assert own in facts["private_datasets"] and foreign not in facts["private_datasets"]
        if os.name == "posix":
            assert stat.S_IMODE((folder / role).stat().st_mode) == 0o700
            for path in (folder / role).glob("*"):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.skipif(os.name != "posix", reason="mode bits are POSIX")
def test_everything_below_the_run_is_for_its_owner_alone(run):
    """Journals, results, logs, reports and notes too; only the parameters are public."""
    folder, _ = run
    paths = [folder, *folder.rglob("*")]
    assert len(paths) > 10
    loose = {
        str(path.relative_to(folder)): oct(stat.S_IMODE(path.stat().st_mode))
        for path in paths
        if (path.is_dir() and stat.S_IMODE(path.stat().st_mode) != 0o700)
        or (path.is_file() and stat.S_IMODE(path.stat().st_mode) != 0o600)
    }
    loose.pop("parameters.toml", None)
    assert not loose


def test_the_key_can_be_shown_as_a_balance_sheet_and_exported(run, tmp_path):
    folder, report = run
    keys = []
    for role in ("alice", "bob"):
        sheet = json.loads(diqkd("keys", "show", folder / role / "keys.sqlite", "--json").stdout)
        assert sheet["generated"] == report["key_bits"]
        private = tmp_path / role
        private.mkdir(mode=0o700)
        exported = diqkd("keys", "export", folder / role / "keys.sqlite", private / "key")
        assert exported.returncode == 0, exported.stderr
        keys.append((private / "key").read_bytes())
    assert keys[0] == keys[1]
    kept = sum(num_bits for _, num_bits in set_aside(report["key_bits"]))
    assert 0 < kept < report["key_bits"] and len(keys[0]) == -(-(report["key_bits"] - kept) // 8)


def test_a_second_session_on_the_same_pads_makes_no_second_key(run):
    folder, report = run
    sheet = json.loads(diqkd("keys", "show", folder / "bob" / "keys.sqlite", "--json").stdout)
    pads = [row for row in sheet["rows"] if row["consumed"]]
    assert sum(row["consumed"] for row in pads) == 256
    assert sheet["k1_bits"] == report["k1_bits"]


def test_deterministic_devices_abort_on_both_sides_without_a_key(tmp_path):
    local = ["--link", "local", "--seed", 6, "--run-dir", tmp_path / "run"]
    finished = diqkd("demo", *SHORT_DESIGN, *LINK, *local)
    assert finished.returncode == 3, finished.stderr
    assert "the Bell violation is too small" in finished.stderr.replace("\n", " ")
    assert "Traceback" not in finished.stderr
    for role in ("alice", "bob"):
        sheet = json.loads(diqkd("keys", "show", tmp_path / "run" / role / "keys.sqlite", "--json").stdout)
        assert sheet["generated"] == 0


def test_no_key_at_small_n_is_an_answer():
    finished = diqkd("demo", "--rounds", 10000)
    assert finished.returncode == 3
    assert "no key is possible with 10,000 rounds" in finished.stderr
    assert "would do" in finished.stderr


def test_quick_is_a_preset_that_every_option_overrides():
    parser = build_parser()
    for order in (["--quick", "--link", "local"], ["--link", "local", "--quick"]):
        chosen = complete(parser.parse_args(["demo", *order]))
        assert (chosen.link, chosen.rounds, chosen.herald_probability) == ("local", 50_000, 0.02)
        assert (chosen.proof, chosen.length) == ("renyi", "variable")
    for order in (["--quick", "--proof", "paper"], ["--proof", "paper", "--quick"]):
        chosen = complete(parser.parse_args(["demo", *order]))
        assert (chosen.rounds, chosen.proof, chosen.length) == (300_000, "paper", "fixed")
    chosen = complete(parser.parse_args(["demo"]))
    assert (chosen.rounds, chosen.proof, chosen.length) == (1_500_000, "paper", "fixed")
