"""Collections: stop rules, resumption, workers."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.reconciliation.code_design.collection import StopRule, collect
from diqkd_postproc.reconciliation.code_design.results import Statistics, read_results
from diqkd_postproc.reconciliation.code_design.task import FrameTask


def test_a_collection_resumes(task: FrameTask, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first = collect([task], StopRule(num_frames=6), path)[task.strong_id]
    assert first.frames == 6
    lines = path.read_bytes()
    assert collect([task], StopRule(num_frames=6), path)[task.strong_id].report() == first.report()
    assert path.read_bytes() == lines
    more = collect([task], StopRule(num_frames=9), path)[task.strong_id]
    assert more.frames == 9 and path.read_bytes().startswith(lines)
    assert read_results(path)[task.strong_id].report() == more.report()
    assert len(set(more.seeds)) == len(more.seeds) > len(first.seeds)


def test_a_seed_makes_frames_reproducible_and_never_repeats_them(task: FrameTask, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    alone = collect([task], StopRule(num_frames=4), seed=5)[task.strong_id]
    stored = collect([task], StopRule(num_frames=4), path, seed=5)[task.strong_id]
    assert stored.seeds == alone.seeds and stored.iterations == alone.iterations
    more = collect([task], StopRule(num_frames=8), path, seed=5)[task.strong_id]
    assert more.frames == 8 and len(set(more.seeds)) == len(more.seeds)


def test_failures_and_time_end_a_collection(task: FrameTask) -> None:
    hopeless = replace(task, syndrome_bits=200, max_iterations=5)
    wrong = collect([hopeless], StopRule(num_frames=1000, max_failures=3))[hopeless.strong_id]
    assert 3 <= wrong.wrong_frames == wrong.frames < 20
    late = collect([task], StopRule(num_frames=1000, seconds=0.0))[task.strong_id]
    assert late.frames == 0 and late.report()["failure_rate"] is None


def test_progress_and_several_tasks(task: FrameTask) -> None:
    seen: list[tuple[int, int]] = []

    def show(index: int, statistics: Statistics) -> None:
        seen.append((index, statistics.frames))

    other = replace(task, true_qber=0.01)
    collected = collect([task, other], StopRule(num_frames=2), progress=show)
    assert list(collected) == [task.strong_id, other.strong_id]
    assert seen == [(0, 2), (1, 2)]


def test_two_workers_share_the_frames(task: FrameTask, tmp_path: Path) -> None:
    """A Dask cluster where `distributed` is installed, spawned processes elsewhere."""
    path = tmp_path / "results.jsonl"
    statistics = collect([task], StopRule(num_frames=20), path, num_workers=2)[task.strong_id]
    assert statistics.frames == 20 and statistics.failures == 0
    assert read_results(path)[task.strong_id].report() == statistics.report()


def test_dask_is_optional(task: FrameTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ParameterError, match="campaign"):
        collect([task], StopRule(num_frames=1), scheduler="tcp://127.0.0.1:1")
