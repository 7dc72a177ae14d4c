"""Collection of frames: in this process, in a local Dask cluster, or in a cluster elsewhere.

All three are a `concurrent.futures.Executor`, so the collection itself knows nothing of them. With more than
one worker the default is a local Dask cluster, if `distributed` is installed (`pip install diqkd[campaign]`),
else a pool of spawned processes. Batches grow until one takes `BATCH_SECONDS`: what a kill can lose.
"""

from __future__ import annotations

import importlib.util
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.reconciliation.code_design.results import Statistics, append_row, read_results
from diqkd_postproc.reconciliation.code_design.task import FrameTask, run_frames

BATCH_SECONDS = 10.0
FIRST_BATCH = 4

Progress = Callable[[int, Statistics], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRule:
    """Limits of a task, the first of which ends it; frames of earlier collections count as well.

    num_frames: frames in all; max_failures: frames that failed, in all; seconds: of this collection.
    """

    num_frames: int
    max_failures: int | None = None
    seconds: float | None = None

    def is_reached(self, statistics: Statistics, elapsed: float) -> bool:
        """Whether to start nothing more, `elapsed` seconds into this collection."""
        if self.seconds is not None and elapsed >= self.seconds:
            return True
        if self.max_failures is not None and statistics.wrong_frames >= self.max_failures:
            return True
        return statistics.frames >= self.num_frames


@contextmanager
def workers(num_workers: int, scheduler: str | None = None) -> Iterator[tuple[Executor, int]]:
    """An executor, and how many batches it takes at a time: `num_workers`, or as many as the cluster does.

    scheduler: address of a running Dask scheduler, or "local". Raises ParameterError where Dask is asked
    for and not installed.
    """
    has_dask = importlib.util.find_spec("distributed") is not None
    if scheduler is not None and not has_dask:
        raise ParameterError("Dask is not installed; pip install 'diqkd[campaign]', or leave out --dask")
    if scheduler is None and num_workers == 1:
        with ThreadPoolExecutor(1) as executor:
            yield executor, 1
    elif has_dask:
        from distributed import Client, LocalCluster

        if scheduler in (None, "local"):
            with (
                LocalCluster(n_workers=num_workers, threads_per_worker=1, dashboard_address=None) as cluster,
                Client(cluster) as client,
            ):
                yield client.get_executor(pure=False), num_workers
        else:
            with Client(scheduler) as client:
                yield client.get_executor(pure=False), max(1, sum(client.nthreads().values()))
    else:
        with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as executor:
            yield executor, num_workers


def _batch_frames(statistics: Statistics, rule: StopRule, pending: int, parallel: int) -> int:
    """Frames of the next batch; 0 if those on their way suffice."""
    missing = rule.num_frames - statistics.frames - pending
    if missing <= 0:
        return 0
    if not statistics.frames:
        return min(missing, FIRST_BATCH)
    affordable = max(1, int(BATCH_SECONDS * statistics.frames / max(statistics.wall_seconds, 1e-3)))
    return min(missing, affordable, max(1, -(-missing // parallel)), 2 * statistics.frames)


def collect(
    tasks: Sequence[FrameTask],
    rule: StopRule,
    results: Path | str | None = None,
    *,
    num_workers: int = 1,
    scheduler: str | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Statistics]:
    """Statistics of each task, by strong id, after collecting until `rule` is reached for each in turn.

    results: file to resume from and append to; None keeps nothing. seed: makes the frames reproducible where
    one worker makes them; None draws fresh ones. progress(index of task, its statistics) is called after
    each batch.
    """
    known = read_results(results) if results is not None and Path(results).exists() else {}
    collected: dict[str, Statistics] = {}
    with workers(num_workers, scheduler) as (executor, parallel):
        for index, task in enumerate(tasks):
            name = task.strong_id
            statistics = known.get(name) or Statistics(
                strong_id=name, task=task, code_digest=task.code().digest
            )
            collected[name] = statistics
            for row in _batches(statistics, rule, executor, parallel, seed):
                statistics.add(row)
                if results is not None:
                    append_row(results, row)
                if progress is not None:
                    progress(index, statistics)
    return collected


def _batches(
    statistics: Statistics, rule: StopRule, executor: Executor, num_workers: int, seed: int | None
) -> Iterator[dict[str, Any]]:
    """Rows of one task as they come in, until the rule is reached; the caller adds them to `statistics`."""
    started = time.perf_counter()
    pending: dict[Future[dict[str, Any]], int] = {}
    seeds = _seeds(seed, statistics.seeds)
    values = statistics.task.to_dict()
    try:
        while True:
            while len(pending) < num_workers and not rule.is_reached(
                statistics, time.perf_counter() - started
            ):
                frames = _batch_frames(statistics, rule, sum(pending.values()), num_workers)
                if not frames:
                    break
                pending[executor.submit(run_frames, values, next(seeds), frames)] = frames
            if not pending:
                return
            finished, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                del pending[future]
                yield future.result()
    finally:
        for future in pending:
            future.cancel()


def _seeds(seed: int | None, used: Sequence[int]) -> Iterator[int]:
    """Seeds of batches: random ones, or those that follow from `seed`, save the used ones."""
    taken = set(used)
    for batch in count():
        candidate = secrets.randbits(63) if seed is None else (seed % 2**31) << 32 | batch
        if candidate not in taken:
            yield candidate
