"""Result files: appended to, cut short, combined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diqkd_postproc.protocol.errors import ParameterError, StorageError
from diqkd_postproc.reconciliation.code_design.results import append_row, combine, read_results
from diqkd_postproc.reconciliation.code_design.task import FrameTask


def row(task: FrameTask, seed: int, **changes: Any) -> dict[str, Any]:
    return {
        "strong_id": "5" * 64,
        "seeds": [seed],
        "frames": 10,
        "failures": 1,
        "undetected": 0,
        "iterations": {"7": 6, "12": 3, "400": 1},
        "decode_seconds": {"0.1": 9, "5": 1},
        "wall_seconds": 6.0,
        "peak_memory_mib": 200.0,
        "code_digest": "d" * 64,
        "processors": ["Abacus"],
        "version": "0.1.0",
        "task": task.to_dict(),
    } | changes


def test_rows_add_up(task: FrameTask) -> None:
    rows = [
        row(task, 1),
        row(task, 2, frames=20, undetected=2, iterations={"30": 20}, decode_seconds={"0.2": 20}),
        row(task, 3, processors=["Slide rule"], peak_memory_mib=None),
        row(task, 4, strong_id="6" * 64),
    ]
    statistics = combine(rows)
    assert list(statistics) == ["5" * 64, "6" * 64]
    report = statistics["5" * 64].report()
    assert (report["frames"], report["failures"], report["undetected"]) == (40, 3, 2)
    assert report["failure_rate"] == 5 / 40
    # 6 + 6 frames took 7 iterations, 3 + 3 took 12, 20 took 30: the 20th of 40 took 30.
    assert report["iterations_median"] == 30 and report["iterations_max"] == 400
    assert report["decode_seconds_median"] == 0.2 and report["decode_seconds_max"] == 5.0
    assert report["processors"] == ["Abacus", "Slide rule"]
    assert report["efficiency"] == pytest.approx(520 / (2000 * 0.156854), rel=1e-4)


def test_copies_are_counted_once_in_any_order(task: FrameTask, tmp_path: Path) -> None:
    raw, merged, both = (tmp_path / name for name in ("raw", "merged", "both"))
    rows = [row(task, 1), row(task, 2)]
    for entry in rows:
        append_row(raw, entry)
    (statistics,) = read_results(raw, raw).values()
    assert statistics.frames == 20
    append_row(merged, statistics.to_row())
    for paths in ((raw, merged), (merged, raw)):
        (again,) = read_results(*paths).values()
        assert again.frames == 20 and again.report() == statistics.report()
    append_row(both, combine([row(task, 2), row(task, 3)])["5" * 64].to_row())
    with pytest.raises(ParameterError, match="overlap in 1 batches"):
        read_results(merged, both)


def test_a_line_cut_short_is_skipped_and_the_next_one_stands_alone(task: FrameTask, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append_row(path, row(task, 1))
    append_row(path, row(task, 2))
    path.write_bytes(path.read_bytes()[:-40])
    (statistics,) = read_results(path).values()
    assert statistics.seeds == [1]
    append_row(path, row(task, 3))
    (statistics,) = read_results(path).values()
    assert sorted(statistics.seeds) == [1, 3]


def test_other_files_are_refused(task: FrameTask, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot read"):
        read_results(tmp_path / "missing")
    path = tmp_path / "other.jsonl"
    path.write_text('{"frames": 1}\n')
    with pytest.raises(ParameterError, match="line 1"):
        read_results(path)
    with pytest.raises(StorageError, match="cannot append"):
        append_row(tmp_path, row(task, 1))
