"""Both nodes' processes running one experiment in a simulated laboratory."""

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diqkd.demo.programs import Child, Programs
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.laboratory.server import LaboratoryServer
from tests.support.paths import ROOT

TIMEOUT_S = 600.0  # of wall clock, for a run of seconds: a machine may have much else to do
# Arguments: experiment, role, device database, number of scheduler queries after which to ask for the end
# (0 = never), root, and the experiment's arguments.
NODE = """
import json, sys
from itertools import count
from sim_devices.artiq_run import parse_arguments, run_experiment
experiment, role, database, stop_after, root, *arguments = sys.argv[1:]
queries = count(1)
def show(key, value):
    if key == "diqkd.listening":
        print(json.dumps({"listening": value}), file=sys.stderr, flush=True)
    else:
        plain = value.tolist() if hasattr(value, "tolist") else value
        print("dataset", json.dumps([key, type(value).__name__, plain]))
run_experiment(
    f"{root}/repository/{experiment}.py", None, f"{root}/device_db/{role}_{database}.py",
    {"role": role} | parse_arguments(arguments),
    dataset_sink=show, stop_requested=lambda: 0 < int(stop_after) <= next(queries),
)
"""


@contextmanager
def laboratory(configuration: LaboratoryConfiguration) -> Iterator[str]:
    """Address of a laboratory that serves within the block."""
    server = LaboratoryServer(configuration)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield f"{server.address[0]}:{server.address[1]}"
    finally:
        server.stop()
        thread.join(300.0)


def run_both(
    experiment: str,
    directory: Path,
    address: str,
    stop_alice_after: int = 0,
    own: Mapping[str, Mapping[str, object]] | None = None,
    database: str = "sim",
    environment: Mapping[str, str] | None = None,
    **arguments: object,
) -> dict[str, tuple[int, str]]:
    """(exit code, output) of each node's process; run directories are `directory/ROLE`.

    own: arguments of one role. database: "sim" or "compiled".
    """
    variables = {**os.environ, "DIQKD_LABORATORY": address, **(environment or {})}

    def start(role: str, stop_after: int, port: str) -> Child:
        given = {"run_directory": directory / role, "peer_port": port} | arguments | (own or {}).get(role, {})
        command = [sys.executable, "-c", NODE, experiment, role, database, str(stop_after), str(ROOT)]
        command += [f"{name}={value}" for name, value in given.items()]
        child = programs.start(role, command, variables)
        child.follow()
        return child

    with Programs() as programs:
        bob = start("bob", 0, "0")
        alice = start("alice", stop_alice_after, bob.wait_for_address().rpartition(":")[2])
        return {"alice": finished(alice), "bob": finished(bob)}


def finished(child: Child) -> tuple[int, str]:
    """Exit code and output of a process that ends by itself."""
    code = child.process.wait(TIMEOUT_S)
    for reader in child.readers:
        reader.join()
    return code, "".join(child.output) + "\n".join(child.messages)


def datasets(output: str) -> list[tuple[str, str, Any]]:
    """Name, type and value of every broadcast in a node's output, in order."""
    found = []
    for line in output.splitlines():
        if line.startswith("dataset "):
            name, kind, value = json.loads(line.removeprefix("dataset "))
            found.append((name, kind, value))
    return found
