"""Records out of other people's data, and what a characterisation says of them."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diqkd.cli import main
from diqkd_postproc.link.characterisation import characterise, read_records
from diqkd_postproc.link.record_import import read_table, records_of_table
from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.protocol.errors import ParameterError

# Hensen et al., Nature 526, 682 (2015): counts of (a, b) = 00, 01, 10, 11 by settings (x, y).
HENSEN = {(0, 0): (23, 3, 4, 23), (0, 1): (33, 11, 5, 30), (1, 0): (22, 10, 6, 24), (1, 1): (4, 20, 21, 6)}


def hensen() -> NDArray[np.uint8]:
    """(4, 245): x, y, a, b."""
    rows = [
        (x, y, cell >> 1, cell & 1)
        for (x, y), counts in HENSEN.items()
        for cell, count in enumerate(counts)
        for _ in range(count)
    ]
    return np.random.default_rng(1).permutation(np.array(rows, dtype=np.uint8)).T


def write_csv(path: Path, columns: dict[str, object]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def test_published_bell_test_without_key_rounds(tmp_path, capsys):
    table = write_csv(tmp_path / "hensen.csv", dict(zip("xyab", hensen(), strict=True)))
    folder = tmp_path / "records"
    assert main(["record", "import", str(table), "-o", str(folder)]) == 0
    files = [str(folder / "alice.h5"), str(folder / "bob.h5")]
    capsys.readouterr()
    assert main(["characterise", *files, "--json"]) == 0
    printed = capsys.readouterr().out
    assert "NaN" not in printed
    answer = json.loads(printed)
    assert answer["chsh_score"]["value"] == pytest.approx(2.4225, abs=5e-5)
    assert answer["chsh_score"]["standard_error"] == pytest.approx(0.2038, abs=5e-5)
    assert answer["p_value"] == pytest.approx(0.0391, abs=5e-5)
    assert answer["qber"] is None and answer["herald_rate"] == 0.0 and answer["herald_patterns"] == {}
    assert main(["characterise", *files, "-o", str(tmp_path / "out")]) == 0
    assert "unknown: no key rounds" in capsys.readouterr().out
    assert main(["plan", "--record", *files]) == 2
    assert "give --s and --q" in capsys.readouterr().err
    assert main(["record", "import", str(table), "-o", str(folder)]) == 2
    assert "exists" in capsys.readouterr().err


def test_p_value_and_marginals_by_counting():
    x, y, a, b = hensen()
    records = records_of_table({"x": x, "y": y, "a": a, "b": b})
    result = characterise(records["alice"], records["bob"])
    won = int(((a ^ b) == (x & y)).sum())
    tail = sum(math.comb(245, k) * 3**k for k in range(won, 246)) / 4**245
    assert won == 196 and result.p_value == pytest.approx(tail, rel=1e-9)
    for check in result.no_signalling:
        mine, other, outcome = (x, y, a) if check.party == "alice" else (y, x, b)
        rates = [outcome[(mine == check.setting) & (other == value)].mean() for value in (0, 1)]
        assert check.difference == pytest.approx(rates[1] - rates[0])


def test_scores_by_pattern_and_the_measured_rate(tmp_path, capsys):
    random, n = np.random.default_rng(3), 6000
    test = random.random(n) < 0.5
    x, y = np.where(test, random.integers(0, 2, n), 0), np.where(test, random.integers(0, 2, n), 2)
    a = random.integers(0, 2, n)
    pattern = np.where(random.random(n) < 0.5, 0b0011, 0b1100)
    lost = random.random(n) < np.where(test, np.where(pattern == 3, 0.14, 0.25), 0.0)
    b = a ^ (x & (y == 1)) ^ lost
    time_s = 0.5 * np.arange(n)
    path = tmp_path / "rounds.npz"
    np.savez(path, x=x, y=y, a=a, b=b, pattern=pattern, time_s=time_s)
    assert main(["record", "import", str(path), "-o", str(tmp_path / "records")]) == 0
    files = [tmp_path / "records" / f"{role}.h5" for role in ("alice", "bob")]
    result = characterise(*read_records(*files))
    for name, probability in (("0011", 0.14), ("1100", 0.25)):
        found = result.chsh_by_pattern[name]
        assert abs(found.value - (4 - 8 * probability)) < 5 * found.standard_error
    # No error was seen: the design takes the score limit, z^2 / (N + z^2) at z = 2, and says so.
    assert result.qber is not None and result.qber.value == 0.0
    limit = 4 / (result.qber.num_rounds + 4)
    assert result.design_point(2.0)[1] == pytest.approx(limit)
    assert "at most 0.1" in result.qber_text
    capsys.readouterr()
    assert main(["plan", "--record", *map(str, files), "--margin", "0", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["herald_rate"] == pytest.approx(2.0, rel=0.02)


def test_one_side_for_a_key_and_what_it_needs(tmp_path):
    x, y, a, b = (np.tile(column, 2) for column in hensen())
    y = np.where(np.arange(490) < 245, y, 2).astype(np.uint8)
    x = np.where(y == 2, 0, x).astype(np.uint8)
    parameters = DesignPoint(490).parameters()
    bob = records_of_table({"y": y, "b": b}, parameters, "a run")["bob"]
    types = (y < 2).astype(np.uint8)
    alice = records_of_table({"x": x, "a": a, "t": types}, parameters, "a run")["alice"]
    assert alice.run_id == bob.run_id and not alice.outcomes_are_shared
    assert alice.exchanged == bob.exchanged
    for table, message in (
        ({"x": x, "a": a}, "add a column t"),
        ({"x": x}, "needs x and a"),
        ({"x": x + 1, "a": a, "t": types * 0}, "overridden to 0"),
        ({"y": y, "b": b, "t": 1 - types}, "does not fit y"),
        ({"y": y[:5], "b": b[:5]}, "5 rounds"),
    ):
        with pytest.raises(ParameterError, match=message):
            records_of_table(table, parameters)
    with pytest.raises(ParameterError, match="no characterisation"):
        records_of_table({"y": y, "b": b})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs a header"),
        ("x,y,a,b\n", "needs a header"),
        ("x,x\n0,0\n", "different names"),
        ("x,y,a,b\n0,1,2,0\n", "a is 2 in round 0"),
        ("x,y,a,b\n0,1,0\n", "line 2: 3 values for 4"),
        ("x,y,a,b\n0,nan,0,0\n", "y is nan in round 0"),
        ("x,y,a,b\n0,0.5,0,0\n", "y is 0.5 in round 0"),
        ("x,y,a,b\n0,one,0,0\n", "no numbers"),
        ("x,y,a,b,c\n0,1,0,0,0\n", "columns 'c'"),
    ],
)
def test_bad_tables_are_named(tmp_path, text, message):
    path = tmp_path / "rounds.csv"
    path.write_text(text)
    with pytest.raises(ParameterError, match=message):
        read_table(path)


def test_files_that_are_no_tables(tmp_path):
    garbage = tmp_path / "rounds.npz"
    garbage.write_bytes(b"PK\x03\x04 nothing")
    binary = tmp_path / "rounds.csv"
    binary.write_bytes(bytes(range(256)))
    for path in (garbage, binary, tmp_path, tmp_path / "nothing.csv"):
        with pytest.raises(ParameterError):
            read_table(path)
