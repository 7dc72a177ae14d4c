"""Both nodes' processes running one experiment in a simulated laboratory."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.laboratory.server import LaboratoryServer
from tests.support.paths import ROOT

# Arguments: experiment, role, number of scheduler queries after which to ask for the end (0 = never), root,
# and the experiment's arguments.
NODE = """
import sys
from itertools import count
from sim_devices.artiq_run import parse_arguments, run_experiment
experiment, role, stop_after, root, *arguments = sys.argv[1:]
queries = count(1)
run_experiment(
    f"{root}/repository/{experiment}.py", None, f"{root}/device_db/{role}_sim.py",
    {"role": role} | parse_arguments(arguments),
    dataset_sink=lambda key, value: print("dataset", key, value),
    stop_requested=lambda: 0 < int(stop_after) <= next(queries),
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
        thread.join(10.0)


def run_both(
    experiment: str,
    directory: Path,
    address: str,
    stop_alice_after: int = 0,
    own: Mapping[str, Mapping[str, object]] | None = None,
    **arguments: object,
) -> dict[str, tuple[int, str]]:
    """(exit code, output) of each node's process; run directories are `directory/ROLE`. `own`: arguments of
    one role."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    own = own or {}
    processes = {}
    for role, stop_after in (("alice", stop_alice_after), ("bob", 0)):
        given = {"run_directory": directory / role, "peer_port": port} | arguments | own.get(role, {})
        texts = [f"{name}={value}" for name, value in given.items()]
        processes[role] = subprocess.Popen(
            [sys.executable, "-c", NODE, experiment, role, str(stop_after), str(ROOT), *texts],
            env=os.environ | {"DIQKD_LABORATORY": address},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        return {
            role: (process.communicate(timeout=200)[0], process.returncode)[::-1]
            for role, process in processes.items()
        }
    finally:
        for process in processes.values():
            process.kill()
