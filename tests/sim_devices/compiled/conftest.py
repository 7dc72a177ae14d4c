"""Both engines on the device databases of the repository, with an apparatus that records."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from fake_apparatus import FakeApparatus  # noqa: E402

from sim_devices.compiled import missing  # noqa: E402
from sim_devices.runner import DeviceDatabase, DeviceManager  # noqa: E402

ROOT = Path(__file__).parents[3]
FILES = {"host": "alice_sim.py", "compiled": "alice_compiled.py"}
COMPILED = pytest.param(
    "compiled", marks=[pytest.mark.artiq, pytest.mark.skipif(missing() is not None, reason=missing() or "")]
)


def devices_of(engine: str) -> DeviceManager:
    database = DeviceDatabase(ROOT / "device_db" / FILES[engine])
    return DeviceManager(database, {"apparatus": FakeApparatus()})


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
