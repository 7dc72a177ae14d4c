"""The main job as a user runs it: `diqkd` in processes of its own, on simulated nodes, at small n.

The runs are short because the link is ideal and the soundness error large; the key lengths are nevertheless
those that the published theorem certifies for these parameters.
"""

import json
import os
import stat
import subprocess
import sys

import pytest

DIQKD = [sys.executable, "-m", "diqkd_postproc.cli"]
DESIGN = ["--rounds", "60000", "--gamma", "13/128", "--soundness", "0.1", "--syndrome-bits", "9700"]
LINK = ["--s", "2.815", "--q", "0.0015", "--herald-probability", "0.02"]


def diqkd(*arguments, timeout=280, **options):
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
    """A finished demonstration: its folder and report."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    finished = diqkd("demo", *DESIGN, *LINK, "--link", "ideal", "--seed", 5, "--run-dir", folder, "--json")
    assert finished.returncode == 0, finished.stderr
    return folder, json.loads(finished.stdout)


def test_both_nodes_agree_on_a_key_of_the_certified_length(run):
    _, report = run
    assert report["identical_keys"] is True
    assert report["key_bits"] > 1000
    assert report["k1_bits"] == report["k0_bits"] - 256 + report["key_bits"]
    assert report["num_losses"] <= report["max_losses"]


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
    assert len(keys[0]) == -(-report["key_bits"] // 8)


def test_a_second_session_on_the_same_pads_makes_no_second_key(run):
    folder, report = run
    sheet = json.loads(diqkd("keys", "show", folder / "bob" / "keys.sqlite", "--json").stdout)
    pads = [row for row in sheet["rows"] if row["consumed"]]
    assert sum(row["consumed"] for row in pads) == 256
    assert sheet["k1_bits"] == report["k1_bits"]


def test_deterministic_devices_abort_on_both_sides_without_a_key(tmp_path):
    finished = diqkd("demo", *DESIGN, *LINK, "--link", "local", "--seed", 6, "--run-dir", tmp_path / "run")
    assert finished.returncode == 3, finished.stderr
    assert "Traceback" not in finished.stderr
    for role in ("alice", "bob"):
        sheet = json.loads(diqkd("keys", "show", tmp_path / "run" / role / "keys.sqlite", "--json").stdout)
        assert sheet["generated"] == 0


def test_no_key_at_small_n_is_an_answer():
    finished = diqkd("demo", "--rounds", 10000)
    assert finished.returncode == 3
    assert "no key is possible with 10,000 rounds" in finished.stderr
    assert "would do" in finished.stderr
