"""SIGKILL at every effect of post-processing: python -m campaigns.session_kills [--json]

Both parties are processes with real key stores and journals. One of them kills itself with SIGKILL right
before or right after one of its effects: a message journalled, a pad consumed, the key activated, bytes sent,
a file written. Then both are started again. Three families, over every such point of either party:

- tcp: the two meet over loopback; the other party sees the connection break.
- files: the two alternate, messages are carried as files.
- random: over loopback, killed from outside after a random time (--random of them).

A case passes if the victim was killed, if both then have the same key, and if no party has ever sent two
different messages under one pad: what is sent is logged before it leaves, across all starts. Needs `fork`.
About four minutes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campaigns.session_attacks import PADDED, frames_of, new_parties, record_session, small_session
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.protocol.errors import DiqkdError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import ROLES, Role
from diqkd_postproc.records.sealed_record import RoundRecord
from diqkd_postproc.session import exchange, run_exchange, run_session
from diqkd_postproc.session.journal import SessionJournal
from diqkd_postproc.session.transport import Connection

LIMIT_S = 60.0
# Whoever waits for a victim that died before they met.
FIRST_PATIENCE_S = 1.5
Effects = list[tuple[Any, str]]
EFFECTS: Effects = [(SessionJournal, "append"), (KeyStore, "consume"), (KeyStore, "activate")]
SENDING: dict[str, Effects] = {"tcp": [(Connection, "send")], "files": [(exchange, "replace_atomically")]}


def no_kill(point: int) -> None:
    """Live on."""


def kill_at(wanted: int) -> Callable[[int], None]:
    """SIGKILL of this very process at one point."""

    def at(point: int) -> None:
        if point == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


@dataclass
class Points:
    """Counts the moments before and after each effect of this process."""

    at: Callable[[int], None]
    log: Path
    passed: int = 0

    def wrap(self, owner: Any, name: str) -> None:
        """Put two points around an effect; what is to be sent is logged in front of the first."""
        effect = getattr(owner, name)

        def before(arguments: tuple[Any, ...]) -> None:
            if name in ("send", "replace_atomically"):
                with self.log.open("ab") as log:
                    log.write(arguments[-1])
            self.point()

        def observed(*arguments: Any, **options: Any) -> Any:
            before(arguments)
            result = effect(*arguments, **options)
            self.point()
            return result

        async def observed_sending(*arguments: Any) -> None:
            if arguments[-1]:  # the driver also calls it with nothing to send
                before(arguments)
                await effect(*arguments)
                self.point()

        setattr(owner, name, observed_sending if name == "send" else observed)

    def point(self) -> None:
        """One point passed."""
        self.at(self.passed)
        self.passed += 1


def party(
    folder: Path,
    role: Role,
    transport: str,
    port: Any,
    at: Callable[[int], None],
    told: Any,
    patience: float,
) -> None:
    """One party's process: a whole session over TCP, or one step by files."""
    points = Points(at, folder / f"sent by {role}")
    for owner, name in EFFECTS + SENDING[transport]:
        points.wrap(owner, name)
    parameters = ProtocolParameters.load(folder / "parameters.toml")
    record = RoundRecord.read(folder / role / "record.h5")
    ending = "key"
    with KeyStore.open(folder / role / "keys.db", parameters) as store:
        try:
            if transport == "files":
                run_exchange(role, record, store, parameters, folder / "shared")
            else:
                listens = role == "bob"
                run_session(
                    role,
                    record,
                    store,
                    parameters,
                    "127.0.0.1",
                    0 if listens else port.get(timeout=patience),
                    listens,
                    timeout=patience,
                    listening=lambda host, number: port.put(number),
                )
        except queue.Empty:
            ending = "no partner"
        except DiqkdError as error:
            ending = type(error).__name__
    told.put((role, ending, points.passed))


@dataclass
class Trial:
    """The files of one case, and the processes that work on them."""

    folder: Path
    transport: str
    endings: dict[Role, tuple[str, int]] = field(default_factory=dict)
    context: Any = field(default_factory=lambda: multiprocessing.get_context("fork"))

    def start(
        self, ats: dict[Role, Callable[[int], None]], patience: float = FIRST_PATIENCE_S
    ) -> dict[Role, Any]:
        """Start the named parties."""
        self.port, self.told = self.context.Queue(), self.context.Queue()
        processes = {
            role: self.context.Process(
                target=party,
                args=(self.folder, role, self.transport, self.port, at, self.told, patience),
                daemon=True,
            )
            for role, at in ats.items()
        }
        for process in processes.values():
            process.start()
        return processes

    def finish(self, processes: dict[Role, Any]) -> dict[Role, int]:
        """Wait for the end of all; exit codes."""
        codes: dict[Role, int] = {}
        for role, process in processes.items():
            process.join(LIMIT_S)
            if process.is_alive():
                process.kill()
                process.join()
            codes[role] = process.exitcode
        for code in codes.values():
            if code == 0:
                role, ending, passed = self.told.get(timeout=LIMIT_S)
                self.endings[role] = (ending, passed)
        return codes

    def attempt(self, victim: Role | None, at: Callable[[int], None]) -> bool:
        """One start of both; whether the victim was killed."""
        if self.transport == "tcp":
            ats = {role: at if role == victim else no_kill for role in ROLES}
            patience = LIMIT_S if victim is None else FIRST_PATIENCE_S
            codes = self.finish(self.start(ats, patience))
            return victim is not None and codes[victim] == -signal.SIGKILL
        for role in ROLES * 3:
            hook = at if role == victim else no_kill
            if self.finish(self.start({role: hook}))[role] == -signal.SIGKILL:
                return True
            if role == victim and isinstance(at, CountedKill):
                at.remaining -= self.endings[role][1]
        return False

    def problems(self) -> list[str]:
        """What is wrong after the last start."""
        found = []
        with (
            KeyStore.open(self.folder / "alice" / "keys.db") as alice,
            KeyStore.open(self.folder / "bob" / "keys.db") as bob,
        ):
            if not alice.generated_bits or not bob.generated_bits:
                found.append(f"no key: {self.endings}")
            elif not alice.has_same_key(bob):
                found.append("the keys differ")
        for role in ROLES:
            tags: dict[int, set[bytes]] = {}
            for frame in frames_of((self.folder / f"sent by {role}").read_bytes()):
                if frame[5] in PADDED:
                    tags.setdefault(frame[5], set()).add(frame)
            if any(len(frames) > 1 for frames in tags.values()):
                found.append(f"{role} sent two messages under one pad")
        return found


class CountedKill:
    """SIGKILL at one point, counted over several processes of one party."""

    def __init__(self, wanted: int) -> None:
        self.remaining = wanted

    def __call__(self, point: int) -> None:
        kill_at(self.remaining)(point)


def make_template(folder: Path) -> None:
    """Files of two parties before their session."""
    parameters = small_session()
    folder.mkdir(mode=0o700)
    parameters.save(folder / "parameters.toml")
    for side, role in zip(new_parties(parameters), ROLES, strict=True):
        side.record.write(folder / role / "record.h5")
    paths = (folder / role / "keys.db" for role in ROLES)
    for store in KeyStore.create_pair(*paths, parameters, os.urandom):
        store.close()


class Campaign:
    """Cases on copies of one template."""

    def __init__(self, folder: Path, progress: bool) -> None:
        self.folder = folder
        self.progress = progress
        self.failures: list[str] = []
        self.counts: dict[str, int] = {}
        self.number = 0
        make_template(folder / "template")

    def trial(self, transport: str) -> Trial:
        """A fresh case; the witnesses of the last one are forgotten."""
        shutil.rmtree(self.folder / "case", ignore_errors=True)
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        os.environ["DIQKD_STATE_DIR"] = str(self.folder / "state")
        shutil.copytree(self.folder / "template", self.folder / "case", copy_function=shutil.copy2)
        return Trial(self.folder / "case", transport)

    def judge(self, family: str, name: str, trial: Trial, killed: bool) -> None:
        """Start both again, then look."""
        if not killed:
            self.failures.append(f"{family}: {name}: the victim was not killed")
        trial.attempt(None, no_kill)
        self.failures += [f"{family}: {name}: {problem}" for problem in trial.problems()]
        self.counts[family] = self.counts.get(family, 0) + 1
        self.number += 1
        if self.progress:
            print(f"\r{family}: {name:<40}{self.number:>6}", end="", file=sys.stderr, flush=True)

    def points(self, transport: str) -> dict[Role, int]:
        """How many points either party passes in a quiet session."""
        trial = self.trial(transport)
        totals = dict.fromkeys(ROLES, 0)
        if transport == "tcp":
            trial.attempt(None, no_kill)
            return {role: trial.endings[role][1] for role in ROLES}
        for role in ROLES * 3:
            trial.finish(trial.start({role: no_kill}))
            totals[role] += trial.endings[role][1]
        return totals

    def every_point(self, transport: str, every: int) -> None:
        """Kill either party at every `every`-th point."""
        for role, count in self.points(transport).items():
            for point in range(0, count, every):
                trial = self.trial(transport)
                killed = trial.attempt(role, CountedKill(point) if transport == "files" else kill_at(point))
                self.judge(transport, f"{role} at point {point} of {count}", trial, killed)

    def at_random(self, count: int, seed: int) -> None:
        """Kill either party from outside, some time within a session."""
        generator = random.Random(seed)
        trial = self.trial("tcp")
        started = time.monotonic()
        trial.attempt(None, no_kill)
        usual = time.monotonic() - started
        for number in range(count):
            trial, role = self.trial("tcp"), generator.choice(ROLES)
            processes = trial.start(dict.fromkeys(ROLES, no_kill))
            processes[role].join(generator.uniform(0.0, usual))
            processes[role].kill()
            trial.finish(processes)
            self.judge("random", f"{role}, number {number}", trial, killed=True)


def campaign(
    families: list[str], every: int = 1, num_random: int = 50, progress: bool = False
) -> dict[str, Any]:
    """Run the families; what is printed."""
    record_session(small_session())  # compiled once here, not in every process
    state_before = os.environ.get("DIQKD_STATE_DIR")
    # A killed process loses nothing that it has written, wherever that is; memory syncs at once.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        cases = Campaign(Path(name), progress)
        for family in families:
            if family == "random":
                cases.at_random(num_random, seed=1)
            else:
                cases.every_point(family, every)
    if state_before is None:
        del os.environ["DIQKD_STATE_DIR"]
    else:
        os.environ["DIQKD_STATE_DIR"] = state_before
    return {"kills": cases.number, "families": cases.counts, "failures": cases.failures}


def main() -> int:
    """Print the report; exit code 1 if a case failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", choices=["tcp", "files", "random", []], default=[])
    parser.add_argument("--every", type=int, default=1, help="kill at every n-th point only")
    parser.add_argument("--random", type=int, default=50, help="number of kills at random times")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if "fork" not in multiprocessing.get_all_start_methods():
        parser.error("this campaign needs fork, which this platform has not")
    families = arguments.families or ["tcp", "files", "random"]
    report = campaign(families, arguments.every, arguments.random, progress=sys.stderr.isatty())
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        print(f"\n{report['kills']} kills ({report['families']}), {len(report['failures'])} failures")
        print(*report["failures"], sep="\n")
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
