"""An apparatus without physics, and a device manager without a file, for tests of engine and drivers."""

from typing import Any

from sim_devices.drivers.ttl import TTLOut
from sim_devices.engines.entangler_core import Clicks
from sim_devices.engines.host.core import Core


class FakeApparatus:
    """Records what drivers send; inputs come from the attributes, which a test sets."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.edges: dict[str, list[int]] = {}
        self.levels: dict[str, int] = {}
        self.runs: list[Clicks | None] = []
        self.run_calls: list[tuple[Any, ...]] = []

    def _sink(self, key: str):
        def record(*event: Any) -> None:
            self.events.append((key, *event))

        return record

    level_sink = dds_sink = dac_sink = _sink

    def edge_source(self, key: str):
        return lambda start, stop: sum(start <= edge <= stop for edge in self.edges.get(key, []))

    def first_edge_source(self, key: str):
        return lambda start, stop: min(
            (edge for edge in self.edges.get(key, []) if start <= edge <= stop), default=-1
        )

    def level_source(self, key: str):
        return lambda time: self.levels.get(key, 0)

    def entangler_source(self, key: str):
        return self

    def attach(self, core):
        """Nothing depends on the core's registers here."""

    def clicks(self, start, window):
        self.run_calls.append((start, window))
        return self.runs.pop(0) if self.runs else None

    def dark_runs_ahead(self, start, window, outputs):
        return 0

    def end_run(self, end, success):
        self.events.append(("entangler", end, success))


class FakeDevices:
    """Device manager holding a core and a fake apparatus."""

    def __init__(self, **core_arguments: Any) -> None:
        self.apparatus = FakeApparatus()
        self.devices: dict[str, Any] = {"apparatus": self.apparatus}
        self.devices["core"] = Core(self, **core_arguments)

    def get(self, key: str) -> Any:
        return self.devices[key]

    def add(self, driver: type, key: str, *args: Any, **kwargs: Any) -> Any:
        """Make a driver and keep it under its key."""
        self.devices[key] = driver(self, *args, key=key, **kwargs)
        return self.devices[key]


class Kernels:
    """Base of the objects whose kernels are tested."""

    def __init__(self, devices=None):
        self.devices = devices or FakeDevices()
        self.core = self.devices.get("core")
        self.ttl = self.devices.devices.get("ttl") or self.devices.add(TTLOut, "ttl", 0)

    @property
    def events(self):
        return self.devices.apparatus.events
