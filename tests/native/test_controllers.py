"""The controllers as `artiq_ctlmgr` starts them, and by themselves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.artiq_programs import LOOPBACK, Master, program, wait_until

pytestmark = pytest.mark.artiq


def client(port, target):
    from sipyco.pc_rpc import Client

    return Client(LOOPBACK, port, target, timeout=300)


def connected(port, target):
    """A client once the controller listens."""

    def connect():
        try:
            return client(port, target)
        except OSError:
            return None

    return wait_until(connect, f"controller {target} at port {port}")


def search_path():
    """PATH on which the programs of this Python's installation come first."""
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))


@pytest.fixture
def installed():
    for name in ("artiq_ctlmgr", "aqctl_quantis", "aqctl_laser_lock"):
        if program(name) is None:
            pytest.skip(f"no program {name} next to this Python; install this project and ARTIQ there")


def test_the_controller_manager_starts_both(programs, installed):
    ports = {name: programs.reserve() for name in ("quantis", "laser_lock")}
    master = Master(programs, "alice", "127.0.0.1:1")
    with open(master.device_db, "a", encoding="utf-8") as file:
        for name, port in ports.items():
            file.write(f'device_db["{name}"] |= {{"host": "{LOOPBACK}", "port": {port}}}\n')
    master.client("scan-devices")
    command = [program("artiq_ctlmgr"), "-s", LOOPBACK, "--port-notify", master.ports["notify"]]
    command += ["--port-logging", master.ports["logging"], "--port-control", programs.reserve(), "-v"]
    output = programs.start("ctlmgr", command, PATH=search_path())
    with_quantis = connected(ports["quantis"], "quantis")
    data = with_quantis.read(100_000)
    assert len(data) == 100_000 and len(set(data)) == 256
    assert with_quantis.ping() is True
    assert with_quantis.status()["healthy"] is True
    with_quantis.close_rpc()
    lock = connected(ports["laser_lock"], "laser_lock")
    assert lock.is_locked() is True
    lock.set_simulated_lock(False)
    assert lock.status()["num_losses"] == 1
    lock.close_rpc()
    wait_until(lambda: "has lost its lock" in output.read_text(), "log line of the lost lock")
    assert "--simulation" in output.read_text()


def test_a_run_may_read_through_the_controller(programs, installed):
    from diqkd_postproc.records.health_tests import HealthTested

    port = programs.reserve()
    programs.start("quantis", [program("aqctl_quantis"), "-p", port, "--simulation", "-vv"])
    remote = connected(port, "quantis")
    assert len(HealthTested(remote).read(5000)) == 5000
    with pytest.raises(Exception, match="num_bytes"):
        remote.read(-1)
    remote.close_rpc()
    log = (programs.folder / "quantis.log").read_text(errors="replace")
    assert len(log) < 5000, "the log is long enough to hold the bytes"


def test_a_missing_generator_is_reported(programs, installed, tmp_path):
    command = [program("aqctl_quantis"), "-p", str(programs.reserve()), "--device", str(tmp_path / "none")]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 6
    assert "cannot open the random number generator" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_random_bytes_stay_on_this_computer(installed):
    command = [program("aqctl_quantis"), "--simulation", "--bind", "192.0.2.7"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 2
    assert "must not leave this computer" in finished.stderr
