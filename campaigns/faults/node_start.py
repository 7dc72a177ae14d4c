"""Starts a node's process for a trial: as a command, or from a server that has everything imported already.

Both run `diqkd node` with the same arguments. A command is what a laboratory runs, and takes a second of
processor time until its first round; a fork server makes campaigns of hundreds of starts affordable. Where a
platform has none, a process of its own is spawned.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FunctionType

from diqkd.demo.parties import CLI

WARM_MODULES = (
    "diqkd_node.run.coordinator",
    "diqkd_node.sequence.node",
    "diqkd.cli",
    "diqkd.commands.postprocess",
    "sim_devices.drivers.entangler",
    "campaigns.faults.apparatus",
    "sim_devices.apparatus.ion_loader",
    "sim_devices.artiq_run",
)


class CommandNode:
    """A node started by its command line."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*CLI, *arguments], env=os.environ | dict(environment), stdout=output, stderr=output
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Ask it to end in order."""
        self._process.terminate()


class ServedNode:
    """A node forked from a warm server."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._process: BaseProcess = _context().Process(
            target=_run_node, args=(list(arguments), dict(environment), str(log)), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def terminate(self) -> None:
        self._process.terminate()


NODES = {"command": CommandNode, "server": ServedNode}


def _context() -> BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__ + "_warm"])
    return context


def _run_node(arguments: list[str], environment: dict[str, str], log: str) -> None:
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    from diqkd import cli

    sys.exit(cli.main(arguments))


def warm() -> None:
    """Import what a node imports, and translate all its kernels."""
    for name in WARM_MODULES:
        importlib.import_module(name)
    from sim_devices.engines.host.transform import translated

    for module in [module for name, module in sys.modules.items() if name.startswith(("diqkd_node", "sim_"))]:
        for _, item in inspect.getmembers(module, inspect.isclass):
            for function in vars(item).values():
                source = getattr(getattr(function, "artiq_embedded", None), "function", None)
                if isinstance(source, FunctionType):
                    with contextlib.suppress(ValueError):  # not a kernel of the host engine
                        translated(source, 1e-9)
