"""Faults within a node's process, and a trace of what the process did.

The device database of a trial names a plan, a JSON file. Evaluating it puts the faults in place: the node
runs the experiment file and the command line of an ordinary run. The trace is written line by line,
unbuffered, so that it survives the death of the process; it holds settings, so keep it private.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import sqlite3
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from diqkd_postproc.files import storage_error
from diqkd_postproc.records import random_pool, round_spool, round_table, sealed_record
from sim_devices.apparatus.client import ADDRESS_VARIABLE
from sim_devices.databases.simulated import simulated_database

# Windows has no SIGKILL; there SIGTERM ends a process as abruptly.
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


class Trace:
    """Append-only list of JSON objects, one a line."""

    def __init__(self, path: Path | str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, **fields: Any) -> None:
        os.write(self._file, json.dumps(fields).encode() + b"\n")

    @staticmethod
    def read(path: Path | str) -> list[dict[str, Any]]:
        """All complete lines."""
        if not Path(path).exists():
            return []
        lines = Path(path).read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]


class Death:
    """SIGKILL to the own process after a number of Python and C calls in the main thread.

    A call begins at every SQL statement, remote call, message and driver method, so a random number of them
    is a random point of the program, whatever the speed of the machine.
    """

    def __init__(self, calls: int) -> None:
        self._left = calls

    def arm(self) -> None:
        sys.setprofile(self._count)

    def _count(self, frame: FrameType, event: str, argument: Any) -> None:
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), KILL)


def faulty_database(hardware_path: str | Path, role: str, plan_path: str | Path) -> dict[str, Any]:
    """The simulated node's device database, with the faults of a plan put in place.

    Keys of the plan: `trace` (path), `start` (number of this start), and as far as wanted `faults` (see
    `apparatus`), `death` ({"from": "start" or "batch", "calls": n}), `full_disk` ({"at": "rounds", "after":
    number of writes} or {"at": "record"}), `log_level`, `crash` (an error that nobody expects),
    `forget_grants` (a journal that cannot tell which rounds have begun: the audit has to notice).
    """
    plan: dict[str, Any] = json.loads(Path(plan_path).read_text(encoding="utf-8"))
    trace = Trace(plan["trace"])
    trace.note(start=plan["start"])
    death = Death(plan["death"]["calls"]) if "death" in plan else None
    _trace_spool(trace, death if death and plan["death"]["from"] == "batch" else None)
    if plan.get("forget_grants"):
        _forget_grants()
    _trace_grants(trace)
    if "log_level" in plan:
        logging.basicConfig(level=plan["log_level"])
    if "crash" in plan:
        _crash_while_storing()
    if "full_disk" in plan:
        _fill_disk(trace, **plan["full_disk"])
    database = simulated_database(hardware_path, role)
    database["apparatus"] = {
        "type": "local",
        "module": "campaigns.faults.apparatus",
        "class": "FaultyApparatus",
        "arguments": {
            "role": role,
            "laboratory": os.environ[ADDRESS_VARIABLE],
            "faults": plan.get("faults", []),
            "trace": trace,
        },
    }
    if death is not None and plan["death"]["from"] == "start":
        death.arm()
    return database


def _trace_spool(trace: Trace, death: Death | None) -> None:
    """Note which bits of the pool every batch takes, and what they give."""
    begin_batch, consume = round_spool.RoundSpool.begin_batch, random_pool.RandomPool.consume
    taken: list[tuple[int, int]] = []

    def traced_consume(self: random_pool.RandomPool, num_bits: int) -> Any:
        _, start = self._counters()
        taken.append((start, start + num_bits))
        return consume(self, num_bits)

    def traced_begin_batch(self: round_spool.RoundSpool, num_rounds: int) -> Any:
        first = self.rounds_done
        draws = begin_batch(self, num_rounds)
        drawn = {"settings": draws.settings.tobytes().hex(), "tokens": draws.tokens.tobytes().hex()}
        trace.note(batch=first, bits=taken[-1], **drawn)
        if death is not None:
            death.arm()
        return draws

    random_pool.RandomPool.consume = traced_consume  # type: ignore[method-assign]
    round_spool.RoundSpool.begin_batch = traced_begin_batch  # type: ignore[method-assign]


def _trace_grants(trace: Trace) -> None:
    """Note up to which round the journal says that indices are used up."""
    note_begun = round_spool.RoundSpool.note_begun

    def traced_note_begun(self: round_spool.RoundSpool, end: int) -> None:
        note_begun(self, end)
        trace.note(begun=self.rounds_begun)

    round_spool.RoundSpool.note_begun = traced_note_begun  # type: ignore[method-assign]


def _forget_grants() -> None:
    """A control: the journal notes no round as begun before it is stored."""
    note_begun = round_spool.RoundSpool.note_begun

    def forget(self: round_spool.RoundSpool, end: int) -> None:
        note_begun(self, self.rounds_done)

    round_spool.RoundSpool.note_begun = forget  # type: ignore[method-assign]


def _crash_while_storing() -> None:
    def crash(self: round_spool.RoundSpool, *rounds: Any, **columns: Any) -> None:
        raise RuntimeError("a crash on purpose")

    round_spool.RoundSpool.store = crash  # type: ignore[method-assign]


def _fill_disk(trace: Trace, at: str, after: int = 0) -> None:
    """No space for rounds after some writes, or for the record."""
    if at == "record":

        def refuse(path: Path | str, data: Any, **options: Any) -> None:
            trace.note(fault="full_disk")
            raise storage_error("write", Path(path), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

        sealed_record.replace_atomically = refuse
        return
    insert, left = round_table.RoundTable.insert, [after]

    def insert_while_there_is_space(self: Any, *rounds: Any) -> None:
        if left[0] <= 0:
            trace.note(fault="full_disk")
            raise sqlite3.OperationalError("database or disk is full")
        left[0] -= 1
        insert(self, *rounds)

    round_table.RoundTable.insert = insert_while_there_is_space  # type: ignore[method-assign]
