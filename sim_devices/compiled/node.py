"""The simulated hardware of a node by RTIO channel, put together from its hardware device database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sim_devices.compiled.channels import TTL, EdgeCounter, Entangler, Fastino
from sim_devices.compiled.rtio import Channel
from sim_devices.compiled.urukul import SPIBus, connect_urukul
from sim_devices.engine.cpu_model import CpuModel

Report = Callable[[int, str, str], None]


def channels(
    entries: dict[str, Any], apparatus: Any, model: CpuModel, coarse_mu: int, report: Report
) -> dict[int, Channel]:
    """Channels by number. Devices of unknown classes have none: their outputs vanish.

    :param entries: the device database
    """
    drivers = {
        key: entry
        for key, entry in entries.items()
        if isinstance(entry, dict) and entry.get("type") == "local" and "class" in entry
    }
    result: dict[int, Channel] = {}
    by_key: dict[str, Channel] = {}

    def add(key: str, channel: Channel) -> None:
        result[drivers[key]["arguments"]["channel"]] = by_key[key] = channel

    for key in _of_class(drivers, "Entangler"):
        add(key, Entangler(key, apparatus, model.input_mu))

    def herald_mu() -> int:
        heralds = [channel.herald_mu for channel in result.values() if isinstance(channel, Entangler)]
        return max(heralds, default=-1)

    for key in _of_class(drivers, "EdgeCounter"):
        add(key, EdgeCounter(key, apparatus, model.input_mu))
    for key in _of_class(drivers, "Fastino"):
        log2_width = drivers[key]["arguments"].get("log2_width", 0)
        add(key, Fastino(key, apparatus, log2_width))
    for key in _of_class(drivers, "SPIMaster"):
        add(key, SPIBus(key, model.input_mu, coarse_mu, report))
    updates: dict[str, list[Callable[[int, int], None]]] = {}
    for key in _of_class(drivers, "CPLD"):
        arguments = drivers[key]["arguments"]
        bus = by_key[arguments["spi_device"]]
        assert isinstance(bus, SPIBus)
        card = connect_urukul(entries, key, apparatus, bus, herald_mu)
        updates.setdefault(arguments.get("io_update_device", ""), []).append(card.io_update)
    for key in (*_of_class(drivers, "TTLOut"), *_of_class(drivers, "TTLInOut")):
        add(key, TTL(key, apparatus, model.input_mu, report, updates.get(key, [])))
    for key, entry in entries.items():
        # an IO_UPDATE line that has no entry of its own cannot be switched
        if isinstance(entry, str) and key in updates:
            raise ValueError(f"io_update_device {key!r} is an alias; name the device itself")
    return result


def _of_class(drivers: dict[str, Any], name: str) -> list[str]:
    return [key for key, entry in drivers.items() if entry["class"] == name]
