"""Simulated hardware of a node by RTIO channel, built from its hardware device database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sim_devices.engines.cpu_model import CpuModel
from sim_devices.engines.kasli.ad53xx import make_ad53xx
from sim_devices.engines.kasli.channels import (
    TTL,
    ClockGenerator,
    EdgeCounter,
    Entangler,
    Fastino,
    GatedInput,
)
from sim_devices.engines.kasli.rtio import Channel
from sim_devices.engines.kasli.spi import SPIBus
from sim_devices.engines.kasli.urukul import connect_urukul

Report = Callable[[int, str, str], None]


def channels(
    entries: dict[str, Any],
    apparatus: Any,
    model: CpuModel,
    coarse_mu: int,
    report: Report,
    counter: Callable[[], int],
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
    clock_sink: Any = getattr(apparatus, "clock_sink", None)
    for key in _of_class(drivers, "TTLClockGen") if clock_sink else ():
        width = drivers[key]["arguments"].get("acc_width", 24)
        add(key, ClockGenerator(key, clock_sink(key, width, coarse_mu)))
    lines: dict[str, list[Callable[[int, int], None]]] = {}

    def bus_of(key: str) -> SPIBus:
        bus = by_key[drivers[key]["arguments"]["spi_device"]]
        assert isinstance(bus, SPIBus)
        return bus

    def connect(key: str, line: str, listener: Callable[[int, int], None]) -> None:
        """Let a card listen to the TTL line that its argument `line` names."""
        name = drivers[key]["arguments"].get(line)
        if name is not None:
            lines.setdefault(name, []).append(listener)

    for key in _of_class(drivers, "CPLD"):
        connect(
            key, "io_update_device", connect_urukul(entries, key, apparatus, bus_of(key), herald_mu).io_update
        )
    for key in (*_of_class(drivers, "Zotino"), *_of_class(drivers, "AD53xx")):
        bus_of(key).card = converter = make_ad53xx(drivers[key]["arguments"], apparatus.dac_sink(key))
        connect(key, "ldac_device", converter.load)
        connect(key, "clr_device", converter.clear)
    input_line = getattr(apparatus, "input_line", None)
    for key in (*_of_class(drivers, "TTLOut"), *_of_class(drivers, "TTLInOut")):
        gated = None
        if input_line and drivers[key]["class"] == "TTLInOut":
            gated = GatedInput(input_line(key), apparatus.gate_latency_mu, counter)
        add(key, TTL(key, apparatus, model.input_mu, report, lines.get(key, []), gated))
    return result


def _of_class(drivers: dict[str, Any], name: str) -> list[str]:
    return [key for key, entry in drivers.items() if entry["class"] == name]
