"""The engines that a test of both runs on, each with Alice's devices and an apparatus that records."""

import pytest

from sim_devices.artiq_run import DeviceDatabase, DeviceManager
from sim_devices.engines.kasli import missing
from tests.support.fake_apparatus import FakeApparatus
from tests.support.paths import ROOT

FILES = {"host": "alice_sim.py", "compiled": "alice_compiled.py"}
COMPILED = pytest.param(
    "compiled", marks=[pytest.mark.artiq, pytest.mark.skipif(missing() is not None, reason=missing() or "")]
)


def devices_of(engine: str) -> DeviceManager:
    database = DeviceDatabase(ROOT / "device_db" / FILES[engine])
    return DeviceManager(database, {"apparatus": FakeApparatus()})
