"""Results of a campaign: a file of JSON lines, one a batch of frames, that is only ever appended to.

A line is written in one piece and flushed to disk; a line that a crash cut short is skipped. Batches are
known by their seeds, so files of several machines, copies of copies included, combine without counting a
frame twice. The median of iterations and seconds survives combination because lines carry histograms.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diqkd_postproc.protocol.errors import ParameterError, StorageError
from diqkd_postproc.reconciliation.code_design.intervals import likelihood_interval
from diqkd_postproc.reconciliation.code_design.task import FrameTask


def _quantile(histogram: Mapping[str, int], share: float) -> float:
    """Smallest value with at least `share` of the counts at or below it; NaN for an empty histogram."""
    wanted = share * sum(histogram.values())
    reached = 0
    for value, count in sorted((float(key), count) for key, count in histogram.items()):
        reached += count
        if reached >= wanted:
            return value
    return float("nan")


@dataclass(slots=True, kw_only=True)
class Statistics:
    """What is known of one task.

    failures: frames that did not converge; undetected: frames that converged on a wrong word; parts: frames
    by the number of parts of the syndrome that they took; iterations, decode_seconds: histograms of frames,
    the value written as a decimal; seeds: those of all batches.
    """

    strong_id: str
    task: FrameTask
    code_digest: str
    version: str = ""
    frames: int = 0
    failures: int = 0
    undetected: int = 0
    wall_seconds: float = 0.0
    peak_memory_mib: float = 0.0
    seeds: list[int] = field(default_factory=list)
    processors: list[str] = field(default_factory=list)
    parts: Counter[str] = field(default_factory=Counter)
    iterations: Counter[str] = field(default_factory=Counter)
    decode_seconds: Counter[str] = field(default_factory=Counter)

    @property
    def wrong_frames(self) -> int:
        """Frames that were not reconstructed, detected or not."""
        return self.failures + self.undetected

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row of the same task, unless its batches have been counted already.

        Raises ParameterError if only some have been: two combinations of overlapping files.
        """
        counted = set(row["seeds"]).intersection(self.seeds)
        if counted and len(counted) == len(row["seeds"]):
            return
        if counted:
            raise ParameterError(
                f"two combined rows of task {self.strong_id[:16]} overlap in {len(counted)} batches; "
                "combine the files they came from instead"
            )
        self.frames += row["frames"]
        self.failures += row["failures"]
        self.undetected += row["undetected"]
        self.wall_seconds += row["wall_seconds"]
        self.peak_memory_mib = max(self.peak_memory_mib, row["peak_memory_mib"] or 0.0)
        self.seeds += row["seeds"]
        self.processors = sorted({*self.processors, *row["processors"]})
        self.parts.update(row.get("parts", {}))
        self.iterations.update(row["iterations"])
        self.decode_seconds.update(row["decode_seconds"])
        self.version = row["version"]

    def to_row(self) -> dict[str, Any]:
        """The line that stands for all batches of this task."""
        row = {name: getattr(self, name) for name in self.__slots__}
        return row | {"task": self.task.to_dict(), "wall_seconds": round(self.wall_seconds, 3)}

    def report(self) -> dict[str, Any]:
        """What a person wants to know, JSON-able; the interval is that of `intervals`, for wrong frames.

        Rates of wrong frames with their likelihood interval, medians and extremes of iterations and seconds,
        memory in MiB.
        """
        task = self.task
        return {
            "strong_id": self.strong_id,
            "num_rounds": task.num_rounds,
            "syndrome_bits": task.syndrome_bits,
            "efficiency": task.syndrome_bits / task.limit_bits,
            **self._parts_report(),
            "true_efficiency": task.syndrome_bits / task.true_limit_bits if task.true_limit_bits else None,
            "gamma": str(task.gamma),
            "chsh_score": task.chsh_score,
            "qber": task.qber,
            "true_chsh_score": task.true_chsh_score,
            "true_qber": task.true_qber,
            "ensemble": task.ensemble.name,
            "code_digest": self.code_digest,
            "frames": self.frames,
            "failures": self.failures,
            "undetected": self.undetected,
            "failure_rate": self.wrong_frames / self.frames if self.frames else None,
            "failure_rate_interval": list(likelihood_interval(self.wrong_frames, self.frames)),
            "iterations_median": _quantile(self.iterations, 0.5),
            "iterations_max": _quantile(self.iterations, 1.0),
            "decode_seconds_median": _quantile(self.decode_seconds, 0.5),
            "decode_seconds_min": _quantile(self.decode_seconds, 0.0),
            "decode_seconds_max": _quantile(self.decode_seconds, 1.0),
            "peak_memory_mib": self.peak_memory_mib or None,
            "processors": self.processors,
            "version": self.version,
        }

    def _parts_report(self) -> dict[str, Any]:
        """Of a family: every frame takes the parts until one decodes, a lost one all of them."""
        totals = self.task.syndrome_totals
        if len(totals) == 1:
            return {}
        sent = sum(totals[int(part) - 1] * count for part, count in self.parts.items())
        return {
            "syndrome_totals": list(totals),
            "mean_efficiency": sent / self.frames / self.task.limit_bits if self.frames else None,
            "parts": {part: self.parts[part] for part in sorted(self.parts, key=int)},
        }


def combine(rows: Iterable[Mapping[str, Any]]) -> dict[str, Statistics]:
    """Statistics of each task, by strong id, in order of first appearance.

    A batch is counted once, whatever files hold it. Raises ParameterError where combined rows overlap in
    part.
    """
    listed = list(rows)
    combined: dict[str, Statistics] = {}
    for row in listed:
        name = row["strong_id"]
        if name not in combined:
            task = FrameTask.from_dict(row["task"])
            combined[name] = Statistics(strong_id=name, task=task, code_digest=row["code_digest"])
    # Combined rows first: the single batches that they contain are then recognised.
    for row in sorted(listed, key=lambda row: -len(row["seeds"])):
        combined[row["strong_id"]].add(row)
    return combined


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise StorageError(f"cannot read the results {path}: {error.strerror}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            continue  # cut short by a crash; the batch is simply not counted
        if not isinstance(row, dict) or not row.keys() >= _REQUIRED:
            raise ParameterError(f"{path}, line {number}: not a row of campaign results")
        yield row


_REQUIRED = frozenset(Statistics.__slots__) - {"parts"}


def read_results(*paths: Path | str) -> dict[str, Statistics]:
    """Combined results of several files. Raises StorageError or ParameterError on files that are none."""
    return combine(row for path in paths for row in _rows(Path(path)))


def append_row(path: Path | str, row: Mapping[str, Any]) -> None:
    """Add one line, whole or not at all as far as a reader can see; raises StorageError.

    One write, flushed to disk; a line that a crash has cut short before it is ended first, and skipped by
    readers.
    """
    line = json.dumps(row, separators=(",", ":")).encode() + b"\n"
    try:
        with open(path, "a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"cannot append to the results {path}: {error.strerror}") from None
