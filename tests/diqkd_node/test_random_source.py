"""The random number generator as a device: constructed as the device database says."""

import os
import runpy
from pathlib import Path

import pytest

from diqkd_node.random_source import QuantisDevice
from diqkd_postproc.protocol.errors import DiqkdError
from tests.support.paths import ROOT

DIRECTORY = ROOT / "device_db"


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_entry_names_this_driver(role: str) -> None:
    entry = runpy.run_path(str(DIRECTORY / f"{role}.py"))["device_db"]["qrng"]
    assert (entry["module"], entry["class"]) == (QuantisDevice.__module__, QuantisDevice.__name__)
    assert set(entry["arguments"]) == {"path"}


@pytest.mark.skipif(os.name != "posix", reason="needs a character device")
def test_reads_its_device() -> None:
    source = QuantisDevice(None, path="/dev/urandom")
    assert len(source.read(100)) == 100
    assert source.ping()
    source.close()


def test_missing_device_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiqkdError, match="absent"):
        QuantisDevice(None, path=str(tmp_path / "absent"))
