"""Both engines on the device databases of the repository."""

from collections.abc import Iterator

import pytest

from sim_devices.artiq_run import DeviceManager
from tests.support.both_engines import COMPILED, devices_of


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
