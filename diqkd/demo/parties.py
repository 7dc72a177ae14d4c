"""Laboratory, nodes and post-processing of a demonstration, each started as a user would start it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sim_devices
from diqkd.console import ProgressDisplay
from diqkd.demo.ports import LOOPBACK
from diqkd.demo.programs import Child, Programs
from diqkd.demo.scenario import Scenario
from diqkd_node.controllers.simulated_quantis import SimulatedQuantis
from diqkd_postproc.files import make_private_directory
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import ROLES
from sim_devices.apparatus.client import ADDRESS_VARIABLE
from sim_devices.databases.simulated import QRNG_SEED_VARIABLE

BATCH_ROUNDS = 10_000  # over a second: simulated rounds come seventy times as fast as real ones
CLI = (sys.executable, "-m", "diqkd")
LABORATORY = (sys.executable, "-m", "sim_devices.laboratory")
# Alice is started once Bob listens; longer than this she only takes if nobody is left to start her.
CONNECT_TIMEOUT_S = 120.0


def source_file(name: str) -> Path:
    """A file of `repository/` or `device_db/`: from the source tree, or where the wheel puts it."""
    here = Path(sim_devices.__file__).resolve().parent
    for root in (here.parent, here / "installed"):
        if (root / name).is_file():
            return root / name
    raise StorageError(f"{name} is missing next to the package; install diqkd again")


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
        # First: a node that loses its laboratory within a round loses an outcome, and with it the key.
        programs.stop(but=child)
        child.process.terminate()
        child.process.wait()


def acquire(
    scenario: Scenario, directory: Path, seed: int | None, programs: Programs, progress: ProgressDisplay
) -> tuple[dict[str, dict[str, Any]], float]:
    """Both nodes run the experiment until each has sealed its record; their results and the seconds taken.

    seed: of the nodes' random settings, for a reproducible run; None for a real source of randomness.
    """
    environment = dict(os.environ)
    if seed is not None:
        environment[QRNG_SEED_VARIABLE] = str(seed)
    with laboratory(programs, scenario.laboratory, environment) as address:
        environment[ADDRESS_VARIABLE] = address
        started = time.monotonic()
        num_rounds = scenario.parameters.num_rounds

        def show(event: dict[str, Any]) -> None:
            if event.get("stage") == "rounds":
                done = event["done"]
                rate = done / (time.monotonic() - started)
                progress("acquisition", done, num_rounds, f"{rate:,.0f} rounds/s")

        def start(role: str, port: str, on_event: Callable[[dict[str, Any]], None]) -> Child:
            command = [*CLI, "node", str(source_file("repository/key_generation.py"))]
            command += ["--device-db", str(source_file(f"device_db/{role}_sim.py"))]
            command += ["--progress", "lines", "--json"]
            command += [f"role={role}", f"parameters_file={directory / 'parameters.toml'}"]
            command += [f"run_directory={directory / role}", f"peer_host={LOOPBACK}", f"peer_port={port}"]
            command += [f"batch_rounds={BATCH_ROUNDS}"]
            child = programs.start(f"{role}'s node", command, environment, on_event)
            child.follow()
            return child

        progress("acquisition", 0, num_rounds)
        bob = start("bob", "0", lambda event: None)
        alice = start("alice", bob.wait_for_address().rpartition(":")[2], show)
        results = programs.results({"alice": alice, "bob": bob})
        progress("acquisition", num_rounds, num_rounds)
        return results, time.monotonic() - started


def postprocess(
    directory: Path,
    programs: Programs,
    progress: ProgressDisplay,
    relay: Callable[[tuple[str, int]], tuple[str, int]] | None = None,
    impostor_keys: Path | None = None,
) -> tuple[dict[str, dict[str, Any]], float]:
    """Both parties' post-processing over loopback; their results and the seconds taken.

    relay: takes the address where Bob listens and gives the one to which Alice connects. impostor_keys: the
    key store of somebody who takes Bob's place; then only Alice's result counts."""
    started = time.monotonic()

    def show(event: dict[str, Any]) -> None:
        if "stage" in event:
            progress(event["stage"], event["done"], event["total"])

    def command(role: str, where: str, target: str) -> list[str]:
        folder = directory / role
        keys = impostor_keys if impostor_keys and role == "bob" else folder / "keys.sqlite"
        return [
            *(*CLI, "postprocess", role, "--json", "--progress", "lines"),
            *("--parameters", str(directory / "parameters.toml"), "--timeout", str(CONNECT_TIMEOUT_S)),
            *("--record", str(folder / "record.h5"), "--keys", str(keys)),
            *(where, target),
        ]

    bob = programs.start("Bob", command("bob", "--listen", f"{LOOPBACK}:0"), dict(os.environ), show)
    bob.follow()
    address = bob.wait_for_address()
    if relay is not None:
        host, _, port = address.rpartition(":")
        address = ":".join(map(str, relay((host, int(port)))))
    alice = programs.start("Alice", command("alice", "--connect", address), dict(os.environ))
    alice.follow()
    parties = {"alice": alice} if impostor_keys is not None else {"alice": alice, "bob": bob}
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
