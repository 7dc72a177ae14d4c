"""Both engines on the device databases of the repository; makes this directory's modules importable."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from both_engines import COMPILED, devices_of  # noqa: E402

from sim_devices.runner import DeviceManager  # noqa: E402


@pytest.fixture(params=["host", COMPILED])
def engine(request: pytest.FixtureRequest) -> str:
    """Name of the engine."""
    return request.param


@pytest.fixture
def devices(engine: str) -> Iterator[DeviceManager]:
    """Alice's devices on that engine."""
    manager = devices_of(engine)
    yield manager
    manager.close_devices()
