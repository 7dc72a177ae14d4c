"""`artiq_master` and its clients as processes, on reserved ports, in a folder of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from diqkd.demo.ports import LOOPBACK, reserved_ports
from tests.support.paths import ROOT
from tests.support.witness import DEVICE_DB

START_S = 300.0
GRACE_S = 20.0


def program(name: str) -> str | None:
    """Path of a program of this interpreter's installation, or None."""
    for suffix in ("", ".exe"):
        path = Path(sys.executable).with_name(name + suffix)
        if path.is_file():
            return str(path)
    return None


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = START_S) -> Any:
    """The first true value of `condition`; AssertionError with what was waited for after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"after {timeout_s:g} s there is still no {what}")


class Programs:
    """Processes of one test; leaving the context ends those that still run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        self._ports = ExitStack()

    def reserve(self, number: int = 1) -> int:
        """The first of `number` consecutive TCP ports that nobody else gets until the test ends."""
        return self._ports.enter_context(reserved_ports(number))

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._running):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        for process in reversed(self._running):
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._ports.close()

    def start(
        self, name: str, command: Sequence[str | Path], folder: Path | None = None, **environment: str
    ) -> Path:
        """Start a program; its output goes to the file that is returned."""
        output = self.folder / f"{name}.log"
        with open(output, "ab") as file:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=folder or self.folder,
                env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self._running.append(process)
        return output

    def wait_for_line(self, output: Path, text: str, timeout_s: float = START_S) -> str:
        """The first line of an output that holds `text`."""
        process = self._running[-1]

        def line() -> str:
            lines = output.read_text(errors="replace").splitlines()
            found = next((line for line in lines if text in line), "")
            if not found and process.poll() is not None:
                raise AssertionError(f"{output.name} ended without {text!r}:\n" + "\n".join(lines[-30:]))
            return found

        return wait_until(line, f"line {text!r} in {output.name}", timeout_s)

    def start_laboratory(self, *options: str, seed: int = 3) -> str:
        """A laboratory for both nodes; returns its address."""
        command = [sys.executable, "-m", "sim_devices.laboratory", "--port", "0", "--seed", str(seed)]
        output = self.start("laboratory", [*command, *options])
        return self.wait_for_line(output, "laboratory at ").split()[-1]


class Master:
    """An `artiq_master` of one simulated node, and what a user does with it."""

    def __init__(self, programs: Programs, role: str, laboratory: str) -> None:
        self.role = role
        self.folder = programs.folder / f"{role}_master"
        self.folder.mkdir()
        kinds = ("notify", "control", "logging", "broadcast")
        first = programs.reserve(len(kinds))
        self.ports = dict(zip(kinds, range(first, first + len(kinds)), strict=True))
        command = [program("artiq_master"), "-r", ROOT / "repository", "--name", role, "-v"]
        self.testimony = self.folder / "outputs.json"
        self.device_db = self.folder / "device_db.py"
        shipped = str(ROOT / "device_db" / f"{role}_sim.py")
        self.device_db.write_text(DEVICE_DB.format(shipped=shipped, testimony=str(self.testimony)))
        command += ["--device-db", self.device_db]
        for kind, port in self.ports.items():
            command += [f"--port-{kind}", str(port)]
        search_path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = {"DIQKD_LABORATORY": laboratory, "PYTHONPATH": search_path}
        self.output = programs.start(f"{role}_master", command, self.folder, **environment)
        programs.wait_for_line(self.output, "ARTIQ master is now ready")
        wait_until(lambda: "repository scan took" in self.log, "repository scan")

    @property
    def log(self) -> str:
        """Everything that master and workers have printed."""
        return self.output.read_text(errors="replace")

    def client(self, *arguments: str | int | Path, timeout_s: float = 300.0) -> str:
        """Output of `artiq_client` with these arguments; fails if it fails."""
        command = [program("artiq_client"), "-s", LOOPBACK]
        show = arguments[0] == "show"
        command += ["--port", str(self.ports["notify" if show else "control"])]
        finished = subprocess.run(
            [*command, *map(str, arguments)], capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    def submit(self, file: str = "key_generation.py", pipeline: str = "main", **arguments: Any) -> int:
        """Submit an experiment of the repository as a user does; returns its RID."""
        # JSON is PYON in all its versions.
        given = [f"{name}={json.dumps(value)}" for name, value in ({"role": self.role} | arguments).items()]
        answer = self.client("submit", "-p", pipeline, "-R", file, *given)
        return int(answer.split()[-1])

    def rpc(self, target: str, method: str, *arguments: Any) -> Any:
        """Call a method of the master, as a dashboard does."""
        from sipyco.pc_rpc import Client

        client = Client(LOOPBACK, self.ports["control"], target, timeout=300)
        try:
            return getattr(client, method)(*arguments)
        finally:
            client.close_rpc()

    def experiments(self) -> dict[str, dict[str, Any]]:
        """The experiments that a dashboard lists, by name."""
        from sipyco.sync_struct import Subscriber

        received: list[dict[str, Any]] = []

        def take(experiments: dict[str, Any]) -> dict[str, Any]:
            received.append(experiments)
            return experiments

        async def subscribe() -> None:
            subscriber = Subscriber("explist", take)
            await subscriber.connect(LOOPBACK, self.ports["notify"])
            try:
                while not received:
                    await asyncio.sleep(0.05)
            finally:
                await subscriber.close()

        asyncio.run(asyncio.wait_for(subscribe(), START_S))
        return received[0]

    def schedule(self) -> dict[int, dict[str, Any]]:
        """Experiments in the schedule, by RID."""
        return self.rpc("schedule", "get_status")

    def dataset(self, key: str, default: Any = None) -> Any:
        """Current value of a broadcast dataset."""
        try:
            return self.rpc("dataset_db", "get", key)
        except Exception:  # sipyco makes its own classes for remote errors
            return default

    def wait_until_done(self, rid: int, timeout_s: float = 300.0) -> None:
        """Wait until an experiment has left the schedule."""
        try:
            wait_until(lambda: rid not in self.schedule(), f"end of {self.role}'s RID {rid}", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log[-3000:]}") from None

    def outputs(self) -> dict[str, float]:
        """What the last experiment left the node's outputs at."""
        return json.loads(self.testimony.read_text())

    def results_file(self, rid: int) -> Path:
        """The HDF5 file of an experiment."""
        return next(self.folder.glob(f"results/**/{rid:09}-*.h5"))
