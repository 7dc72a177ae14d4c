"""`diqkd kasli` as a process, with the crate of `suite_crate` on a loopback address that nobody else has."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.suite_crate import CABLES

CRATE = ROOT / "tests" / "support" / "suite_crate.py"
ADDRESS_VARIABLE = "SUITE_CORE_ADDRESS"
_UP = "core device at"


class KasliProcess:
    """Starts with the context and is interrupted at its end. `folder` gets `device_db.py`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.device_db = folder / "device_db.py"
        shutil.copy(CRATE, self.device_db)

    def command(self, *arguments: str) -> list[str]:
        cables = [f"{source}={target}" for source, target in CABLES.items()]
        start = [sys.executable, "-m", "diqkd", "kasli", "--device-db", str(self.device_db)]
        return [*start, "--loopback", *cables, *arguments]

    def __enter__(self) -> KasliProcess:
        numbers = random.SystemRandom()
        while True:
            self.address = ".".join(("127", *(str(numbers.randrange(1, 255)) for _ in range(3))))
            self.environment = os.environ | {ADDRESS_VARIABLE: self.address, "PYTHONPATH": str(ROOT)}
            self.process = subprocess.Popen(
                self.command(), env=self.environment, stderr=subprocess.PIPE, text=True
            )
            assert self.process.stderr is not None
            said = self.process.stderr.readline()
            if _UP in said:
                return self
            self.process.wait()
            assert "cannot be had" in said, said

    def stop(self) -> int:
        """SIGINT; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def run(self, program: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """A program of ARTIQ, as a module of `artiq.frontend`."""
        command = [sys.executable, "-m", f"artiq.frontend.{program}", *arguments]
        return subprocess.run(
            command, env=self.environment, cwd=cwd or self.folder, capture_output=True, text=True, timeout=300
        )
