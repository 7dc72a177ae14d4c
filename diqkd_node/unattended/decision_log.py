"""Log of decisions and their reasons: `decisions.jsonl` for programs, `decisions.log` for people.

Both are appended to, one decision a line, so that a restart continues the same files.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from diqkd_node.unattended.decisions import Note

EVENT_WIDTH = 10


class DecisionLog:
    """Appends to the two files of a directory; a context manager.

    :param echo: also called with every line for people
    """

    def __init__(self, directory: Path, role: str, echo: Callable[[str], None] = lambda line: None) -> None:
        self._role = role
        self._echo = echo
        self._lines = open(directory / "decisions.jsonl", "a", encoding="utf-8")  # noqa: SIM115
        self._text = open(directory / "decisions.log", "a", encoding="utf-8")  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._text.close()

    def write(self, now_s: float, rounds: int, note: Note) -> None:
        """One decision: unix time, rounds done, and the note."""
        entry: dict[str, Any] = {
            "unix": round(now_s, 3),
            "role": self._role,
            "rounds": rounds,
            "event": note.event,
            "reason": note.reason,
        }
        entry |= {name: value for name, value in note.facts.items() if name not in entry}
        print(json.dumps(entry), file=self._lines, flush=True)
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now_s))
        # A reason may quote an error of this node: nothing in it may begin a line.
        reason = " ".join(note.reason.split())
        line = f"{clock}  round {rounds:>9,}  {note.event:<{EVENT_WIDTH}}  {reason}"
        print(line, file=self._text, flush=True)
        self._echo(f"{note.event}: {reason}")


def read_decisions(directory: Path) -> list[dict[str, Any]]:
    """All entries of `decisions.jsonl`; a line that a crash cut short is left out."""
    entries = []
    for line in (directory / "decisions.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return entries
