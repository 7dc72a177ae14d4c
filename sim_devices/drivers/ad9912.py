"""AD9912 DDS channels (`artiq.coredevice.ad9912`): no amplitude, no phase modes."""

from __future__ import annotations

from typing import Any

from sim_devices.drivers.dds_channel import DDSChannel

TRANSFER_MU = 1_376
IO_UPDATE_MU = 10
NUM_EVENTS = 8


class AD9912(DDSChannel):
    """One AD9912."""

    def __init__(
        self,
        dmgr: Any,
        chip_select: int,
        cpld_device: str,
        sw_device: str | None = None,
        pll_n: int = 10,
        pll_en: int = 1,
        *,
        key: str,
    ) -> None:
        super().__init__(dmgr, chip_select, cpld_device, sw_device, 4, key)
        refclk = self.cpld.refclk
        if pll_en:
            doubled = refclk * 2 if refclk < 11e6 else refclk
            self.sysclk = doubled / (1, 1, 2, 4)[self.cpld.clk_div] * pll_n
        else:
            self.sysclk = refclk
        if self.sysclk > 1e9:
            raise ValueError(f"{key}: system clock of {self.sysclk / 1e9:g} GHz; the limit is 1 GHz")
        self.ftw_per_hz = (1 << 48) / self.sysclk
        self._registers = (0.0, 0.0)
        self._sink = self.core.timeline.traced(key, dmgr.get("apparatus").dds_sink(key))

    def init(self) -> None:
        """Start the chip; advances the cursor by about 1.1 ms."""
        self.cpld.transfer(1_065_000, 20)

    def set(self, frequency: float, phase: float = 0.0) -> None:
        """Set frequency (Hz) and phase (turns); advances the cursor by the transfer and the update pulse."""
        timeline, cpld = self.core.timeline, self.cpld
        now = timeline.now
        cost = timeline.model.output_mu
        end = now + TRANSFER_MU + IO_UPDATE_MU
        if now < timeline.cpu + cost or end < timeline.cpu + NUM_EVENTS * cost:
            timeline.late(self.key, NUM_EVENTS * cost, self.set, frequency, phase)
            timeline.now = end
            return
        if now < cpld.bus_free_at:
            cpld.bus_busy(now)
        timeline.cpu += NUM_EVENTS * cost
        timeline.now = cpld.bus_free_at = end
        self._registers = (frequency, phase)
        self._sink(now + TRANSFER_MU, frequency, phase, 1.0, -1)

    def set_mu(self, ftw: int, pow_: int = 0) -> None:
        """Set tuning word (48 bits) and phase word (14 bits)."""
        self.set(self.ftw_to_frequency(ftw), self.pow_to_turns(pow_))

    def get(self) -> tuple[float, float]:
        """Frequency and phase as last set; consumes all slack."""
        self.cpld.transfer(10_000, 8)
        self.core.timeline.wait_until(self.core.timeline.now)
        return self._registers

    def frequency_to_ftw(self, frequency: float) -> int:
        return round(self.ftw_per_hz * frequency) & ((1 << 48) - 1)

    def ftw_to_frequency(self, ftw: int) -> float:
        return int(ftw) / self.ftw_per_hz

    def turns_to_pow(self, phase: float) -> int:
        return round((1 << 14) * phase) & 0xFFFF

    def pow_to_turns(self, pow_: int) -> float:
        return pow_ / (1 << 14)
