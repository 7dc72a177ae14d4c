"""`diqkd node` as `artiq_run` would be used: progress, signals and exit codes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENT = """
from artiq.experiment import *


class Waiting(EnvExperiment):
    def build(self):
        self.setattr_device("scheduler")

    def run(self):
        self.set_dataset("diqkd.num_rounds", 500, broadcast=True)
        self.set_dataset("diqkd.rounds_done", 100, broadcast=True)
        while True:
            self.scheduler.pause()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of another process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_as_an_interrupt(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "waiting.py").write_text(EXPERIMENT)
    (tmp_path / "device_db.py").write_text("device_db = {}\n")
    command = [sys.executable, "-m", "diqkd", "node", "waiting.py", "--progress", "lines"]
    with subprocess.Popen(
        [*command, "--device-db", "device_db.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert json.loads(process.stderr.readline()) == {"stage": "rounds", "done": 100, "total": 500}
        process.send_signal(number)
        _, messages = process.communicate(timeout=300)
    assert process.returncode == 130
    assert messages.startswith("diqkd: interrupted") and "Traceback" not in messages
