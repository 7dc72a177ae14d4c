"""The engines that a test of both runs on, each with Alice's devices and an apparatus that records."""

from pathlib import Path

import pytest
from fake_apparatus import FakeApparatus

from sim_devices.compiled import missing
from sim_devices.runner import DeviceDatabase, DeviceManager

ROOT = Path(__file__).parents[3]
FILES = {"host": "alice_sim.py", "compiled": "alice_compiled.py"}
COMPILED = pytest.param(
    "compiled", marks=[pytest.mark.artiq, pytest.mark.skipif(missing() is not None, reason=missing() or "")]
)


def devices_of(engine: str) -> DeviceManager:
    database = DeviceDatabase(ROOT / "device_db" / FILES[engine])
    return DeviceManager(database, {"apparatus": FakeApparatus()})
