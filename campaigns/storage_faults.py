"""A full, failing or read-only disk at every write of key store, round spool and sealed record.

For each step of each workload, for each effect of that step on the files, for ENOSPC, EIO and EROFS: the step
runs on a fresh copy and that effect fails, either once or from then on until the disk is repaired. It has to
raise StorageError with a remedy; what is on the disk has to be what was before the step, or (where the last
synchronisation of a commit failed) what is after it, never anything between; and when the disk is repaired
the same open object has to go on: with the step done again, or done already. A fault that only keeps an empty
temporary file from being removed, with the step done, is harmless.

The faults are injected below SQLite and below Python's functions, so that they hit whoever runs this; a
folder without write permission would stop nobody with the rights of root.

    python -m campaigns.storage_faults [--every 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from campaigns.power_cuts import forget, materialise, snapshot
from campaigns.simulated_disk import FAULTS, Disk
from campaigns.storage_workloads import WORKLOADS, Workload
from diqkd.console import ProgressDisplay
from diqkd_postproc.files import make_private_directory
from diqkd_postproc.protocol.errors import DiqkdError, StorageError

REMEDIES = {"ENOSPC": "space", "EIO": "failing", "EROFS": "read-only"}
UNCHANGED, DONE, HARMLESS = "state unchanged", "step done nevertheless", "no error, step done"
BAD = ("no error", "another error", "no remedy", "wrong state", "not usable")


@contextmanager
def reproducible_randomness(seed: str) -> Iterator[None]:
    """The same nonces and salts each time, so that contents can be compared.

    Not the names of temporary files, 8 bytes: one that a failure has left must not be in the way.
    """
    generator, real = random.Random(seed), os.urandom

    def draw(count: int) -> bytes:
        return real(count) if count == 8 else generator.randbytes(count)

    with (
        mock.patch.object(os, "urandom", draw),
        mock.patch.object(random, "_urandom", draw),
    ):
        yield


class Campaign:
    """The faults of one workload."""

    def __init__(self, workload: Workload, root: Path, state: Path) -> None:
        self.workload, self.live, self.copy, self.state = workload, root / "live", root / "copy", state
        self.counts: Counter[str] = Counter()
        self.first_bad: dict[str, str] = {}

    def content(self) -> Any:
        """What a reader finds in the live folder, from a copy of it; the error's text if it is refused."""
        materialise(snapshot(self.live), self.copy)
        forget(self.state)
        try:
            return self.workload.content(self.copy)
        except StorageError as error:
            return str(error)

    def run(self, every: int, progress: ProgressDisplay) -> None:
        """Every fault at every effect of every step (of `every` effects only one)."""
        make_private_directory(self.live)
        before = self.content()
        for number, (name, _) in enumerate(self.workload.steps):
            progress(self.workload.name, number, len(self.workload.steps), f"step {name!r}")
            after, num_effects = self.sound(number)
            for fault in FAULTS:
                for lasting in (True, False):
                    for position in range(0, num_effects, every):
                        self.faulty(number, (before, after), fault, lasting, position, name)
            before = after
        progress(self.workload.name, 1, 1, "done")

    def step(self, number: int, handle: Any) -> Any:
        """Do one step, with its own randomness."""
        with reproducible_randomness(f"step {number}"):
            return self.workload.steps[number][1](self.live, handle)

    def start(self, number: int, disk: Disk) -> Any:
        """A fresh live folder after the first `number` steps; noting begins."""
        materialise({}, self.live)
        forget(self.state)
        disk.recording = False
        handle = None
        for earlier in range(number):
            handle = self.step(earlier, handle)
        disk.recording = True
        return handle

    def sound(self, number: int) -> tuple[Any, int]:
        """A step without a fault: the content after it, and how many effects it has."""
        disk = Disk(self.live)
        with disk.observed():
            handle = self.step(number, self.start(number, disk))
            num_effects = len(disk.effects)
            after = self.content()
            disk.recording = False
            self.workload.close(handle)
        return after, num_effects

    def faulty(
        self,
        number: int,
        contents: tuple[Any, Any],
        fault: str,
        lasting: bool,
        position: int,
        name: str,
    ) -> None:
        """One fault in one step, and what came of it."""
        disk = Disk(self.live)
        verdicts: list[str] = []
        with disk.observed():
            handle = self.start(number, disk)
            disk.fault, disk.fail_at, disk.lasting = fault, position, lasting
            verdicts.append(self.error_of(number, handle, fault))
            disk.fail_at = None
            found = self.content()
            if found == contents[0]:
                verdicts.append(UNCHANGED)
                verdicts.append(self.goes_on(number, handle, contents[1]))
            elif found == contents[1]:
                no_error = verdicts.pop() if verdicts == ["no error"] else ""
                verdicts.append(HARMLESS if no_error else DONE)
            else:
                verdicts.append("wrong state")
            disk.recording = False
            with suppress(DiqkdError, AttributeError):
                self.workload.close(handle)
        if found == contents[1]:
            verdicts.append(self.opens())
        for verdict in filter(None, verdicts):
            self.counts[verdict] += 1
            if verdict in BAD:
                duration = "lasting" if lasting else "single"
                self.first_bad.setdefault(
                    verdict, f"{duration} {fault} at effect {position} of step {name!r}"
                )

    def error_of(self, number: int, handle: Any, fault: str) -> str:
        """The empty string for a StorageError with its remedy, else what is wrong."""
        try:
            self.step(number, handle)
        except StorageError as error:
            return "" if REMEDIES[fault] in str(error) else "no remedy"
        except Exception:
            return "another error"
        return "no error"

    def goes_on(self, number: int, handle: Any, after: Any) -> str:
        """Whether the same object does the step once the disk is sound again."""
        name, step = self.workload.steps[number]
        try:
            with reproducible_randomness(f"step {number}"):
                self.workload.again.get(name, step)(self.live, handle)
        except DiqkdError:
            return "not usable"
        return "" if self.content() == after else "not usable"

    def opens(self) -> str:
        """Whether the files can be opened again after the step was done in spite of the error."""
        forget(self.state)
        try:
            self.workload.close(self.workload.reopen(self.live))
        except DiqkdError:
            return "not usable"
        return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="let only every n-th effect of a step fail")
    parser.add_argument("--only", help="workload whose name begins so")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--progress", choices=["auto", "lines", "none"], default="auto")
    options = parser.parse_args()
    report = {}
    with tempfile.TemporaryDirectory() as folder, ProgressDisplay(options.progress) as progress:
        state = Path(folder) / "state"
        os.environ["DIQKD_STATE_DIR"] = str(state)
        for number, workload in enumerate(WORKLOADS):
            if workload.name.startswith(options.only or ""):
                campaign = Campaign(workload, make_private_directory(Path(folder) / str(number)), state)
                campaign.run(options.every, progress)
                counts = {verdict: campaign.counts[verdict] for verdict in (UNCHANGED, DONE, HARMLESS, *BAD)}
                faults = sum(counts[name] for name in (UNCHANGED, DONE, HARMLESS, "wrong state"))
                report[workload.name] = {"faults": faults, **counts, "first_bad": campaign.first_bad}
    if options.json:
        print(json.dumps(report))
    else:
        for name, counts in report.items():
            print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in counts.items()))
    return int(any(counts["first_bad"] for counts in report.values()))


if __name__ == "__main__":
    sys.exit(main())
