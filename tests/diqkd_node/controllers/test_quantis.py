"""The controller of the random number generator, without the network."""

import logging
import os

import pytest

from diqkd_node.controllers.quantis import MAX_READ_BYTES, QuantisController
from diqkd_node.controllers.server import leaves_this_computer
from diqkd_postproc.protocol.errors import ParameterError, QrngFailure
from diqkd_postproc.records.qrng import QuantisByteSource


class BreakingSource:
    """Good bytes until it is broken, then always the same."""

    def __init__(self) -> None:
        self.broken = False
        self.closed = False

    def read(self, num_bytes: int) -> bytes:
        return b"\x5a" * num_bytes if self.broken else os.urandom(num_bytes)

    def ping(self) -> bool:
        return not self.broken

    def close(self) -> None:
        self.closed = True


def test_a_healthy_source_gives_fresh_bytes():
    controller = QuantisController(BreakingSource())
    first, second = controller.read(1000), controller.read(1000)
    assert len(first) == 1000 and first != second
    assert controller.status() == {"healthy": True, "failure": "", "bytes_read": 2000, "min_entropy": 7.0}
    assert controller.ping() is True
    assert controller.read(0) == b""


def test_a_source_broken_from_the_start_is_refused():
    source = BreakingSource()
    source.broken = True
    with pytest.raises(QrngFailure, match="repetition count"):
        QuantisController(source)


def test_after_a_failure_no_byte_is_given_out_even_if_the_source_recovers(caplog):
    source = BreakingSource()
    controller = QuantisController(source)
    controller.read(100)
    source.broken = True
    with caplog.at_level(logging.DEBUG):
        for _ in range(2):
            with pytest.raises(QrngFailure, match="do not use it"):
                controller.read(100)
            source.broken = False
    assert "5a" not in caplog.text and "Z" * 4 not in caplog.text
    assert len(caplog.records) == 1
    status = controller.status()
    assert status["healthy"] is False and status["bytes_read"] == 100
    assert "repetition count" in str(status["failure"])
    # The process answers: a restart by the controller manager would forget the failure.
    assert controller.ping() is True


@pytest.mark.parametrize("num_bytes", [-1, MAX_READ_BYTES + 1, 1.5, "all"])
def test_unreasonable_reads_are_refused(num_bytes):
    with pytest.raises(ParameterError, match="num_bytes"):
        QuantisController(BreakingSource()).read(num_bytes)


def test_closing_releases_the_device():
    source = BreakingSource()
    QuantisController(source).close()
    assert source.closed


@pytest.mark.skipif(os.name != "posix", reason="needs a character device")
def test_a_device_file_is_read():
    controller = QuantisController(QuantisByteSource("/dev/urandom"))
    assert len(controller.read(10_000)) == 10_000
    controller.close()
    with pytest.raises(QrngFailure, match="closed"):
        controller.read(1)


def test_addresses_of_this_computer():
    assert not leaves_this_computer([])
    assert not leaves_this_computer(["127.0.0.1", "::1", "localhost"])
    assert leaves_this_computer(["::1", "192.0.2.7"])
    assert leaves_this_computer(["*"])
    assert leaves_this_computer(["lab-pc"])
