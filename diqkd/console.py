"""Output of a command: progress on stderr, results on stdout.

A terminal gets bars; a parent process gives `--progress lines` and reads one JSON object a line; a file
or a pipe gets nothing. Only public facts (stage names, counts, fractions) are ever passed in.
"""

from __future__ import annotations

import json
import sys
from types import TracebackType
from typing import Any, Literal, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

ProgressMode = Literal["auto", "lines", "none"]


class ProgressReporter(Protocol):
    """Receives (stage, done, total) triples; `total` is 1.0 where `done` is a fraction."""

    def __call__(self, stage: str, done: float, total: float = 1.0) -> None: ...


class ProgressDisplay:
    """Context manager and `ProgressReporter`: one bar a stage, in order of first appearance."""

    def __init__(self, mode: ProgressMode = "auto") -> None:
        self._lines = mode == "lines"
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        if mode == "auto" and sys.stderr.isatty():
            self._bars = Progress(
                TextColumn("{task.description:<28}"),
                BarColumn(bar_width=36),
                TextColumn("{task.percentage:>5.1f} %"),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )

    def __enter__(self) -> ProgressDisplay:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, stage: str, done: float, total: float = 1.0, note: str = "") -> None:
        if self._lines:
            event = {"stage": stage, "done": done, "total": total}
            print(json.dumps(event), file=sys.stderr, flush=True)
        elif self._bars is not None:
            scale = 100.0 if total == 1.0 else 1.0
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=int(total * scale), note=note)
            # A stage may begin with a fraction and go on with counts.
            self._bars.update(
                self._tasks[stage], total=int(total * scale), completed=int(done * scale), note=note
            )

    def listening(self, host: str, port: int) -> None:
        """Print where this process waits for its peer; with port 0 nobody else could know.

        The line is for people and goes to stderr, or as a JSON event where progress is machine-readable: the
        programs of a demonstration read the port from it.
        """
        if self._lines:
            print(json.dumps({"listening": f"{host}:{port}"}), file=sys.stderr, flush=True)
        else:
            print(f"waiting for the peer at {host}:{port}", file=sys.stderr)


def print_json(document: dict[str, Any]) -> None:
    """One JSON object on stdout, keys in the order given."""
    print(json.dumps(document, indent=2, default=str), flush=True)
