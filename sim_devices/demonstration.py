"""`diqkd demo`: the whole main job on one machine, by the programs that two laboratories would run.

Every party is a process of its own, started through the command line that a user would type: the laboratory
(ions and heralding station), one node each for Alice and Bob, then one post-processing each. This module
starts them in order, shows their progress and compares the two key stores at the end, which only a
demonstration can do.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from diqkd_postproc.commands import balance_table
from diqkd_postproc.console import ProgressDisplay, peak_memory_mib, print_json
from diqkd_postproc.errors import DiqkdError, ProtocolAbort, StorageError
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.parameters import ProtocolParameters
from diqkd_postproc.records.private_files import make_private_directory
from diqkd_postproc.report import write_report
from diqkd_postproc.security.design import design_parameters, minimum_rounds
from sim_devices.laboratory.client import ADDRESS_VARIABLE
from sim_devices.qrng import SimulatedQuantis
from sim_devices.simulated_database import QRNG_SEED_VARIABLE

ROLES = ("alice", "bob")
LOOPBACK = "127.0.0.1"
CLI = (sys.executable, "-m", "diqkd_postproc.cli")
LABORATORY = (sys.executable, "-m", "sim_devices.laboratory")
# A child gets this long to store what it has after the first request to stop.
GRACE_S = 20.0
# Alice is started once Bob listens; longer than this she only takes if nobody is left to start her.
MEETING_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Parameters to agree on, and the laboratory's options for the link that they meet."""

    name: str
    parameters: ProtocolParameters
    laboratory: tuple[str, ...] = ()


def requested_scenario(arguments: Namespace) -> Scenario:
    """What the command line says; by default the published run: design S = 2.64, link S = 2.677."""
    parameters = design_parameters(
        arguments.rounds,
        arguments.gamma,
        arguments.chsh_score,
        arguments.qber,
        arguments.soundness,
        syndrome_bits=arguments.syndrome_bits,
        proof=arguments.proof,
        bound=arguments.bound,
        extractor=arguments.extractor,
    )
    return Scenario(
        name=f"the {arguments.link} link",
        parameters=parameters,
        laboratory=("--link", arguments.link, "--success-probability", str(arguments.herald_probability)),
    )


def source_file(name: str) -> Path:
    """A file of `repository/` or `device_db/`: from the source tree, or where the wheel puts it."""
    here = Path(__file__).resolve().parent
    for root in (here.parent, here / "installed"):
        if (root / name).is_file():
            return root / name
    raise StorageError(f"{name} is missing next to the package; install diqkd again")


def free_port() -> int:
    """A TCP port on loopback that is free now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@dataclass
class Child:
    """One program of the demonstration; its progress lines go to `on_event`, the rest of stderr is kept."""

    name: str
    process: subprocess.Popen[str]
    on_event: Callable[[dict[str, Any]], None]
    messages: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    readers: list[threading.Thread] = field(default_factory=list)

    def follow(self) -> None:
        """Read both streams in threads until the program ends."""

        def read_events(stream: IO[str]) -> None:
            for line in stream:
                try:
                    event = json.loads(line)
                except json.JSONDecodeError:
                    event = None
                if isinstance(event, dict):
                    self.on_event(event)
                else:
                    self.messages.append(line.rstrip())

        def read_output(stream: IO[str]) -> None:
            self.output.extend(stream)

        assert self.process.stdout is not None and self.process.stderr is not None
        for target, stream in ((read_output, self.process.stdout), (read_events, self.process.stderr)):
            thread = threading.Thread(target=target, args=(stream,), daemon=True)
            thread.start()
            self.readers.append(thread)

    def result(self) -> dict[str, Any]:
        """The JSON document that the program printed; its own error and exit code if it failed."""
        code = self.process.wait()
        for reader in self.readers:
            reader.join(timeout=5)
        if code != 0:
            raise ChildError(self.name, code, self.messages)
        document: dict[str, Any] = json.loads("".join(self.output))
        return document


class ChildError(DiqkdError):
    """A program of the demonstration ended with an error; carries its exit code."""

    def __init__(self, name: str, code: int, messages: Sequence[str]) -> None:
        last = [line.removeprefix("diqkd: ") for line in messages if line.strip()][-1:]
        super().__init__(f"{name}: {last[0] if last else f'ended with exit code {code}'}")
        self.exit_code = code if code > 0 else 1


class Programs:
    """The running children; leaving the context stops those that still run."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *_: object) -> None:
        running = [child.process for child in self._children if child.process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: dict[str, str],
        on_event: Callable[[dict[str, Any]], None] = lambda event: None,
        stdin: int = subprocess.DEVNULL,
    ) -> Child:
        """Start a program; its own session keeps Ctrl-C for this process, which then stops it in order."""
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
            start_new_session=True,
        )
        child = Child(name, process, on_event)
        self._children.append(child)
        return child

    def results(self, children: dict[str, Child]) -> dict[str, dict[str, Any]]:
        """Results of all; if one fails the others are asked to stop, and the first failure is raised."""
        waiting = dict(children)
        done: dict[str, dict[str, Any]] = {}
        failures: list[ChildError] = []
        while waiting:
            for role, child in list(waiting.items()):
                if child.process.poll() is None:
                    continue
                del waiting[role]
                try:
                    done[role] = child.result()
                except ChildError as error:
                    failures.append(error)
            if failures and waiting:
                self._let_end(waiting.values())
            time.sleep(0.05)
        if failures:
            raise min(failures, key=lambda error: (error.exit_code == 130, error.exit_code < 3))
        return done

    @staticmethod
    def _let_end(children: Iterator[Child] | Any) -> None:
        """Give the peer of a failed program time to report its own side, then stop it."""
        deadline = time.monotonic() + GRACE_S
        for child in children:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.send_signal(signal.SIGTERM)


@contextmanager
def laboratory(programs: Programs, options: Sequence[str], environment: dict[str, str]) -> Iterator[str]:
    """The laboratory's process; gives its address. It ends with this process, however that ends, and the
    nodes end for want of it."""
    command = [*LABORATORY, "--stdin", "--port", "0", *options]
    child = programs.start("laboratory", command, environment, stdin=subprocess.PIPE)
    assert child.process.stdout is not None
    first_line = child.process.stdout.readline()
    if not first_line.startswith("laboratory at "):
        child.follow()
        child.result()
    child.follow()
    try:
        yield first_line.split()[-1]
    finally:
        child.process.terminate()
        child.process.wait()


def acquire(
    scenario: Scenario, directory: Path, seed: int | None, programs: Programs, progress: ProgressDisplay
) -> tuple[dict[str, dict[str, Any]], float]:
    """Both nodes run the experiment until each has sealed its record; their results and the seconds taken."""
    environment = dict(os.environ)
    options = list(scenario.laboratory)
    if seed is not None:
        environment[QRNG_SEED_VARIABLE] = str(seed)
        options += ["--seed", str(seed)]
    with laboratory(programs, options, environment) as address:
        environment[ADDRESS_VARIABLE] = address
        port = free_port()
        started = time.monotonic()
        num_rounds = scenario.parameters.num_rounds

        def show(event: dict[str, Any]) -> None:
            if event.get("stage") == "rounds":
                done = event["done"]
                rate = done / (time.monotonic() - started)
                progress("acquisition", done, num_rounds, f"{rate:,.0f} rounds/s")

        progress("acquisition", 0, num_rounds)
        nodes = {}
        for role in ROLES:
            command = [*CLI, "node", str(source_file("repository/key_generation.py"))]
            command += ["--device-db", str(source_file(f"device_db/{role}_sim.py"))]
            command += ["--progress", "lines" if role == "alice" else "none", "--json"]
            command += [f"role={role}", f"parameters_file={directory / 'parameters.toml'}"]
            command += [f"run_directory={directory / role}", f"peer_host={LOOPBACK}", f"peer_port={port}"]
            nodes[role] = programs.start(f"{role}'s node", command, environment, show)
            nodes[role].follow()
        results = programs.results(nodes)
        progress("acquisition", num_rounds, num_rounds)
        return results, time.monotonic() - started


def postprocess(
    directory: Path, programs: Programs, progress: ProgressDisplay
) -> tuple[dict[str, dict[str, Any]], float]:
    """Both parties' post-processing over loopback; their results and the seconds taken."""
    started = time.monotonic()
    ready = threading.Event()
    address = ""

    def show(event: dict[str, Any]) -> None:
        nonlocal address
        if "listening" in event:
            address = event["listening"]
            ready.set()
        elif "stage" in event:
            progress(event["stage"], event["done"], event["total"])

    def command(role: str, where: str, target: str) -> list[str]:
        folder = directory / role
        return [
            *(*CLI, "postprocess", role, "--json", "--progress", "lines"),
            *("--parameters", str(directory / "parameters.toml"), "--timeout", str(MEETING_S)),
            *("--record", str(folder / "record.h5"), "--keys", str(folder / "keys.sqlite")),
            *(where, target),
        ]

    parties = {
        "bob": programs.start("Bob", command("bob", "--listen", f"{LOOPBACK}:0"), dict(os.environ), show)
    }
    parties["bob"].follow()
    while not ready.wait(0.1):
        if parties["bob"].process.poll() is not None:
            parties["bob"].result()
    parties["alice"] = programs.start("Alice", command("alice", "--connect", address), dict(os.environ))
    parties["alice"].follow()
    return programs.results(parties), time.monotonic() - started


def prepare_run(directory: Path, parameters: ProtocolParameters, seed: int | None) -> None:
    """Folders, parameter file and key stores of a new run, or of an interrupted one that goes on."""
    file = directory / "parameters.toml"
    if file.exists() and ProtocolParameters.load(file).digest != parameters.digest:
        raise StorageError(
            f"{directory} holds a run with other parameters; name another folder with --run-dir"
        )
    make_private_directory(directory)
    # These keys are for show: what is remembered of them stays with the run.
    os.environ.setdefault("DIQKD_STATE_DIR", str((directory / "state").resolve()))
    for role in ROLES:
        make_private_directory(directory / role)
    stores = [directory / role / "keys.sqlite" for role in ROLES]
    if not file.exists():
        parameters.save(file)
    present = [store for store in stores if store.exists()]
    if len(present) == 1:
        (missing,) = set(stores) - set(present)
        raise StorageError(
            f"{present[0]} is half of a pair, {missing} is missing: put it back, or, if an interruption has "
            f"kept it from being made, remove {present[0]}; both are then made anew"
        )
    if not present:
        source = SimulatedQuantis(seed=seed, stream="initial key")
        for store in KeyStore.create_pair(*stores, parameters, source.read):
            store.close()


@contextmanager
def told_how_to_go_on(console: Console, directory: Path) -> Iterator[None]:
    """Name the folder with which the same command goes on, if the run is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        console.print(f"interrupted; add `--run-dir {directory}` to go on with this run", soft_wrap=True)
        raise


def demonstrate(arguments: Namespace) -> None:
    """Run everything and report; raises DiqkdError with the exit code of the part that failed."""
    console = Console(stderr=True)
    started = time.monotonic()
    scenario = requested_scenario(arguments)
    parameters = scenario.parameters
    if parameters.key_bits == 0:
        needed = minimum_rounds(
            parameters.gamma,
            parameters.design_chsh_score,
            parameters.design_qber,
            parameters.soundness_error,
            proof=parameters.proof,
            bound=parameters.bound,
            extractor=parameters.extractor,
        )
        remedy = f"about {needed:,} would do" if needed else "no number of rounds would do"
        raise ProtocolAbort(
            f"no key is possible with {parameters.num_rounds:,} rounds at this design point: {remedy}"
        )
    directory = arguments.run_dir or Path("run") / time.strftime("demo-%Y%m%d-%H%M%S")
    prepare_run(directory, parameters, arguments.seed)
    console.print(
        f"{parameters.num_rounds:,} rounds over {scenario.name}, gamma = {parameters.gamma}; accepting up to "
        f"{parameters.max_losses:,} lost tests; syndrome {parameters.syndrome_bits:,} bits; "
        f"key {parameters.key_bits:,} bits"
    )
    with (
        told_how_to_go_on(console, directory),
        Programs() as programs,
        ProgressDisplay(arguments.progress) as progress,
    ):
        nodes, acquisition_s = acquire(scenario, directory, arguments.seed, programs, progress)
        try:
            parties, postprocessing_s = postprocess(directory, programs, progress)
        except ChildError as error:
            if error.exit_code == ProtocolAbort.exit_code:
                page = write_report(directory)["report"]
                console.print(f"Report of the run: {page}", soft_wrap=True)
            raise
    page = write_report(directory)["report"]
    with (
        KeyStore.open(directory / "alice" / "keys.sqlite") as alice,
        KeyStore.open(directory / "bob" / "keys.sqlite") as bob,
    ):
        identical = alice.has_same_key(bob)
        sheet = alice.balance_sheet()
    if not identical:
        raise DiqkdError("the two keys differ although both sides accepted: this is a bug, please report it")
    bob_result = parties["bob"]
    memory = {f"{role} node": nodes[role].get("peak_memory_mib") for role in ROLES}
    memory |= {f"{role} post-processing": parties[role].get("peak_memory_mib") for role in ROLES}
    memory["demo"] = peak_memory_mib()
    report = {
        "identical_keys": identical,
        "key_bits": sheet.generated,
        "k0_bits": sheet.k0_bits,
        "k1_bits": sheet.k1_bits,
        "net_gain": sheet.net_gain,
        "proof": parameters.proof,
        "bound": parameters.bound,
        "extractor": parameters.extractor,
        "proof_status": parameters.proof_status,
        "num_rounds": parameters.num_rounds,
        "num_tests": bob_result["num_tests"],
        "num_losses": bob_result["num_losses"],
        "max_losses": parameters.max_losses,
        "acquisition_seconds": round(acquisition_s, 1),
        "rounds_per_second": round(parameters.num_rounds / acquisition_s),
        "postprocessing_seconds": round(postprocessing_s, 1),
        "total_seconds": round(time.monotonic() - started, 1),
        "peak_memory_mib": memory,
        "balance_sheet": sheet.to_dict(),
        "run_directory": str(directory),
        "report": page,
    }
    if arguments.json:
        print_json(report)
        return
    out = Console()
    out.print(balance_table(sheet))
    tests, losses = bob_result["num_tests"], bob_result["num_losses"]
    largest = max(filter(None, memory.values()), default=0.0)
    out.print(f"[bold green]Both nodes hold the same {sheet.generated:,}-bit secret key.[/]")
    if losses is not None:  # counted in an earlier, interrupted session
        out.print(
            f"Bell test: {losses:,} of {tests:,} test rounds lost (S = {4 - 8 * losses / tests:.3f}), "
            f"{parameters.max_losses:,} were allowed"
        )
    out.print(
        f"acquisition {acquisition_s:.0f} s ({report['rounds_per_second']:,} rounds/s), "
        f"post-processing {postprocessing_s:.0f} s, peak memory {largest:.0f} MiB a process"
    )
    out.print(f"Alice's and Bob's files, each private to its node: {directory}")
    out.print(f"Report of the run: {page}", soft_wrap=True)
