"""Zotino 32-channel DAC (`artiq.coredevice.zotino`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sim_devices.engines.host.timeline import RTIOCollisionError

BUSY_MU = 1_500


class Zotino:
    """Channels are programmed one after another on an SPI bus and change together at `load`."""

    def __init__(
        self,
        dmgr: Any,
        spi_device: str,
        ldac_device: str | None = None,
        clr_device: str | None = None,
        div_write: int = 4,
        div_read: int = 16,
        vref: float = 5.0,
        core: str = "core",
        *,
        key: str,
    ) -> None:
        self.core = dmgr.get(core)
        self.key = key
        self.vref = vref
        self.offset_dacs = 0x2000
        self._transfer_mu = (25 * div_write + 1) * 8
        self._bus_free_at = 0
        self._staged: dict[int, float] = {}
        self._timeline = self.core.timeline
        self._timeline.reset_hooks.append(self._release_bus)
        self._sink = self._timeline.traced(key, dmgr.get("apparatus").dac_sink(key))

    def _release_bus(self) -> None:
        self._bus_free_at = 0

    def _spend(self, num_events: int, action: Any, *args: Any) -> bool:
        timeline = self._timeline
        cost = num_events * timeline.model.output_mu
        if timeline.now < timeline.cpu + timeline.model.output_mu:
            timeline.late(self.key, cost, action, *args)
            return False
        timeline.cpu += cost
        return True

    def init(self, blind: bool = False) -> None:
        """Configure the DAC; advances the cursor by about 50 us."""
        self._spend(10, self._no_operation)
        self._timeline.now += 50_000
        if not blind:
            self._timeline.wait_until(self._timeline.now - 15_000)

    def _no_operation(self) -> None:
        """Replays a write to a register that nothing hangs on."""

    def write_dac_mu(self, channel: int, value: int) -> None:
        """Stage a code; advances the cursor by one SPI transfer."""
        volts = (int(value) - self.offset_dacs * 4) * 4 * self.vref / 0x10000
        self.write_dac(channel, volts)

    def write_dac(self, channel: int, voltage: float) -> None:
        """Stage a voltage; advances the cursor by one SPI transfer."""
        self.voltage_to_mu(voltage)
        timeline = self._timeline
        now = timeline.now
        if self._spend(1, self.write_dac, channel, voltage):
            if now < self._bus_free_at:
                raise RTIOCollisionError(f"{self.key}: SPI transfer at {now} mu while the bus is busy")
            self._bus_free_at = now + self._transfer_mu
            self._staged[int(channel)] = voltage
        timeline.now = now + self._transfer_mu

    def load(self) -> None:
        """Let all staged voltages out; advances the cursor by two coarse cycles."""
        timeline = self._timeline
        now = timeline.now
        if self._spend(2, self.load):
            for channel, voltage in self._staged.items():
                self._sink(now, channel, voltage)
            self._staged.clear()
        timeline.now = now + 16

    def set_dac_mu(self, values: Sequence[int], channels: Sequence[int] = range(40)) -> None:
        """Codes of several channels at the cursor, which stays: the transfers happen before it."""
        timeline = self._timeline
        now = timeline.now
        timeline.now = now - BUSY_MU - len(values) * self._transfer_mu
        for channel, value in zip(channels, values, strict=False):
            self.write_dac_mu(channel, value)
        timeline.now += BUSY_MU
        self.load()
        timeline.now = now

    def set_dac(self, voltages: Sequence[float], channels: Sequence[int] = range(40)) -> None:
        """Voltages of several channels at the cursor, which stays: the transfers happen before it."""
        self.set_dac_mu([self.voltage_to_mu(voltage) for voltage in voltages], channels)

    def voltage_to_mu(self, voltage: float) -> int:
        """Code of a voltage."""
        code = round(0x10000 * (voltage / (4.0 * self.vref)) + self.offset_dacs * 4)
        if not 0 <= code <= 0xFFFF:
            raise ValueError("Invalid DAC voltage!")
        return code

    def set_leds(self, leds: int) -> None:
        """User LEDs as a bit field; advances the cursor by one short SPI transfer."""
        self._spend(3, self._no_operation)
        self._timeline.now += 312
