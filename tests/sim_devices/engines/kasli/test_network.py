"""`diqkd kasli` in front of stock ARTIQ clients: what they can do, and what no client can break."""

import contextlib
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sim_devices.engines.kasli import missing
from tests.support.kasli_process import KasliProcess

pytestmark = [pytest.mark.artiq, pytest.mark.skipif(missing() is not None, reason=missing() or "")]

ENDLESS = """
from artiq.experiment import *

class Endless(EnvExperiment):
    def build(self):
        self.setattr_device("core")

    def started(self):
        print("started", flush=True)

    @kernel
    def run(self):
        self.core.reset()
        self.started()
        while True:
            pass
"""
WAITING = """
from artiq.experiment import *

class Waiting(EnvExperiment):
    def build(self):
        self.setattr_device("core")

    @kernel
    def run(self):
        self.core.reset()
        target = now_mu() + 1_000_000_000
        self.core.wait_until_mu(target)
        self.late(self.core.get_rtio_counter_mu() - target)
        delay(300*s)
        self.core.wait_until_mu(now_mu())
        self.late(self.core.get_rtio_counter_mu() - now_mu())

    def late(self, time_mu):
        print("late by", time_mu)
"""


@pytest.fixture(scope="module")
def kasli(tmp_path_factory):
    with KasliProcess(tmp_path_factory.mktemp("kasli")) as process:
        yield process


def experiment(folder: Path, text: str) -> str:
    path = folder / "experiment.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_artiq_run_waits_at_no_cost_and_to_the_reading(kasli):
    result = kasli.run("artiq_run", experiment(kasli.folder, WAITING))
    assert result.returncode == 0, result.stderr
    late = [int(line.split()[-1]) for line in result.stdout.splitlines()]
    assert len(late) == 2 and all(0 <= time < 1_000 for time in late)


def test_coremgmt_keeps_a_configuration(kasli):
    from artiq.coredevice.comm_mgmt import CommMgmt

    assert kasli.run("artiq_coremgmt", "config", "write", "-s", "label", "alice").returncode == 0
    management = CommMgmt(kasli.address)
    try:
        assert management.config_read("label") in ("alice", b"alice")  # ARTIQ 8, 9
        management.config_remove("label")
        with pytest.raises(OSError, match="may not exist"):
            management.config_read("label")
    finally:
        management.close()


def test_coremgmt_reboots(kasli):
    assert kasli.run("artiq_coremgmt", "reboot").returncode == 0
    assert "rebooted" in kasli.run("artiq_coremgmt", "log").stdout


def test_coreanalyzer_prints_and_writes_a_vcd(kasli):
    trace = kasli.folder / "trace.vcd"
    result = kasli.run("artiq_coreanalyzer", "-p", "-w", str(trace))
    assert result.returncode == 0, result.stderr
    assert "StoppedMessage" in result.stdout and "$timescale" in trace.read_text()


@pytest.mark.parametrize("port", [1380, 1381, 1383])
@pytest.mark.parametrize(
    "said",
    [b"", b"GET / HTTP/1.1\r\n\r\n" * 20, bytes(4096), b"ARTIQ coredev\n" + b"\xff" * 64],
    ids=["nothing", "http", "zeros", "messages"],
)
def test_garbage_is_hung_up_on(kasli, port, said):
    stranger = socket.create_connection((kasli.address, port), 20)
    with stranger, contextlib.suppress(OSError):
        stranger.sendall(said)
        stranger.shutdown(socket.SHUT_WR)
        while stranger.recv(4096):
            pass
    assert_answers(kasli)


def test_a_length_that_nobody_means_takes_no_memory(kasli):
    with socket.create_connection((kasli.address, 1381), 20) as stranger:
        stranger.sendall(b"ARTIQ coredev\n")
        assert stranger.recv(1) == b"e"
        stranger.sendall(b"\x5a" * 4 + struct.pack("<BI", 5, 0xFFFF_FFF0))
        with contextlib.suppress(OSError):
            assert stranger.recv(1) == b""
    assert_answers(kasli)


def test_what_is_no_kernel_is_refused(kasli):
    with socket.create_connection((kasli.address, 1381), 20) as client:
        client.sendall(
            b"ARTIQ coredev\n" + b"\x5a" * 4 + struct.pack("<BI", 5, 8) + b"\x7fELF\x01\x01\x01\x00"
        )
        assert receive(client, 6) == b"e" + b"\x5a" * 4 + b"\x06"
        client.sendall(b"\x5a" * 4 + b"\x06")
        length = int.from_bytes(receive(client, 4), "little")
        receive(client, length)
        assert receive(client, 5) == b"\x5a" * 4 + b"\x08"


def receive(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = client.recv(size - len(data))
        assert part, "hung up"
        data += part
    return data


def assert_answers(kasli: KasliProcess) -> None:
    """A new client of the kernel port gets the version."""
    with socket.create_connection((kasli.address, 1381), 20) as client:
        client.sendall(b"ARTIQ coredev\n" + b"\x5a" * 4 + b"\x03")
        assert receive(client, 10) == b"e" + b"\x5a" * 4 + b"\x02AROR"


def endless_kernel(kasli: KasliProcess):
    """artiq_run with a kernel that never ends, once it runs."""

    path = experiment(kasli.folder, ENDLESS)
    client = subprocess.Popen(
        [sys.executable, "-m", "artiq.frontend.artiq_run", path],
        env=kasli.environment,
        cwd=kasli.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert client.stdout is not None
    assert client.stdout.readline() == "started\n"
    return client


def test_hanging_up_ends_a_kernel(kasli):
    with endless_kernel(kasli) as client:
        client.kill()
    assert_answers(kasli)


def test_the_next_client_takes_over(kasli):
    with endless_kernel(kasli) as client:
        assert_answers(kasli)
        assert client.wait(60) != 0
        assert "closed unexpectedly" in client.stderr.read() or "reset" in client.stderr.read()


def test_sigint_ends_an_endless_kernel(tmp_path):
    with KasliProcess(tmp_path) as kasli, endless_kernel(kasli) as client:
        ended = threading.Timer(30, client.kill)
        ended.start()
        assert kasli.stop() == 0
        client.wait()
        ended.cancel()


def test_a_port_in_use_is_named(kasli):

    result = subprocess.run(kasli.command(), env=kasli.environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert f"1380 to 1383 of {kasli.address} cannot be had" in result.stderr and "--host" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--host", "192.168.1.70"), "no loopback address"),
        (("--host", "127.0.0.3", "--loopback", "loop_out"), "OUT=IN is needed"),
        (("--host", "127.0.0.3", "--loopback", "loop_out=nothing"), "OUT=IN is needed"),
    ],
)
def test_wrong_arguments_are_named(kasli, arguments, message):

    result = subprocess.run(kasli.command(*arguments), env=kasli.environment, capture_output=True, text=True)
    assert result.returncode == 2 and message in result.stderr
