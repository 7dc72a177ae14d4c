from __future__ import annotations

import os
from pathlib import Path

import pytest

from diqkd_postproc.protocol.errors import QrngFailure
from diqkd_postproc.records.qrng import QuantisByteSource

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs a device file or a named pipe")


def test_missing_device_is_named(tmp_path: Path) -> None:
    with pytest.raises(QrngFailure, match=r"qrandom9.*plugged in"):
        QuantisByteSource(tmp_path / "qrandom9")


def test_exact_number_of_bytes_then_the_end(tmp_path: Path) -> None:
    (tmp_path / "device").write_bytes(bytes(range(256)) * 1000)
    source = QuantisByteSource(tmp_path / "device")
    assert source.ping()
    assert source.read(200_000) == (bytes(range(256)) * 1000)[1:200_001]
    with pytest.raises(QrngFailure, match="ended"):
        source.read(100_000)
    assert not source.ping()
    source.close()
    source.close()
    with pytest.raises(QrngFailure, match="closed"):
        source.read(1)


@posix_only
def test_character_device() -> None:
    source = QuantisByteSource("/dev/urandom")
    assert source.ping() and len(source.read(100_000)) == 100_000
    source.close()


@posix_only
def test_silent_device_times_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "device")
    source = QuantisByteSource(tmp_path / "device", timeout_s=0.05)
    writer = os.open(tmp_path / "device", os.O_WRONLY)
    os.write(writer, b"abc")
    assert source.read(2) == b"ab"
    with pytest.raises(QrngFailure, match=r"no byte for 0.05 s"):
        source.read(2)
    os.close(writer)
    source.close()
