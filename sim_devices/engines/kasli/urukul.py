"""Urukul cards behind their SPI bus: the CPLD, AD9910 and AD9912 synthesisers, decoded from SPI transfers.

Register maps: data sheets AD9910 Rev. E (Table 17 and following) and AD9912 Rev. F (Table 12), and the CPLD
as in artiq/coredevice/urukul.py. What a chip was told becomes a call of the apparatus' `dds_sink` at the
IO_UPDATE pulse, with the arguments that the host engine's drivers give.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sim_devices.engines.kasli.spi import Chip, SPIBus

_CS_CONFIG, _CS_ATTENUATORS, _CS_MULTIPLE = 1, 2, 3
DEFAULT_PROFILE = 7

Sink = Callable[[int, float, float, float, int], None]


class AD9910(Chip):
    """Registers by address; `update` takes what was written since the last one.

    Phase: if CFR1 asks to clear the phase accumulator at the update, the phase is the phase word at a fixed
    latency before the update. This latency is part of the calibration of the apparatus, as is the length of
    its cables; here it is the time since the profile register's transfer began, so that the phase word holds
    at the cursor time for which `AD9910.set_mu` computes it.
    """

    _CFR1, _AUX_DAC, _PROFILE0 = 0x00, 0x03, 0x0E
    _WIDTHS = {0x04: 32, 0x08: 16, 0x0B: 64, 0x0C: 64, 0x0D: 32} | {0x0E + i: 64 for i in range(8)}
    _AUTOCLEAR = 1 << 13
    _CFR2, _SYNC = 0x01, 0x0A
    _VALIDATION_DISABLED, _RECEIVER_ENABLED = 1 << 5, 1 << 27
    # Taps of 75 ps at which SYNC_IN is sampled right: the middle, and how far from it, of a board.
    _SYNC_MIDDLE, _SYNC_REACH = 17, 6

    def __init__(self, sysclk: float, reference_mu: Callable[[], int], sink: Sink) -> None:
        super().__init__()
        self._ftw_per_hz = (1 << 32) / sysclk
        self._sysclk_per_mu = round(sysclk * 1e-9)
        self._reference_mu = reference_mu
        self._sink = sink
        self.profile = DEFAULT_PROFILE
        self._registers: dict[int, int] = {self._AUX_DAC: 0x7F}
        self._profile_written_mu = 0
        self._changed = False

    def answer(self, bits: int, num_bits: int, length: int) -> int:
        if num_bits < 8:
            return 0
        instruction = bits >> num_bits - 8
        if not instruction & 0x80:
            return 0
        address = instruction & 0x1F
        width = self._WIDTHS.get(address, 32)
        return self._registers.get(address, 0) >> max(width - (num_bits - 8) - length, 0) & (1 << length) - 1

    @property
    def sampling_error(self) -> bool:
        """SMP_ERR: SYNC_IN changes within the validation window around the tap."""
        word = self._registers.get(self._SYNC, 0)
        if (
            self._registers.get(self._CFR2, 0) & self._VALIDATION_DISABLED
            or not word & self._RECEIVER_ENABLED
        ):
            return False
        return abs((word >> 3 & 0x1F) - self._SYNC_MIDDLE) + (word >> 28) > self._SYNC_REACH

    def finish(self, bits: int, num_bits: int, started: int) -> None:
        instruction = bits >> num_bits - 8
        if instruction & 0x80 or num_bits == 8:
            return
        address = instruction & 0x1F
        self._registers[address] = bits & (1 << num_bits - 8) - 1
        if address >= self._PROFILE0:
            self._profile_written_mu = started
            self._changed = True

    def update(self, time: int) -> None:
        if not self._changed:
            return
        self._changed = False
        content = self._registers.get(self._PROFILE0 + self.profile, 0)
        ftw, phase_word = content & 0xFFFF_FFFF, content >> 32 & 0xFFFF
        turns = phase_word / 0x10000
        reference = -1
        if self._registers.get(self._CFR1, 0) & self._AUTOCLEAR:
            origin = self._profile_written_mu
            reference = self._reference_mu()
            if reference < 0:
                reference = origin
            elapsed = (reference - origin) * self._sysclk_per_mu
            turns = ((phase_word << 16) + elapsed * ftw & 0xFFFF_FFFF) / 0x1_0000_0000
        self._sink(time, ftw / self._ftw_per_hz, turns, (content >> 48 & 0x3FFF) / 0x3FFF, reference)


class AD9912(Chip):
    """Registers are bytes, addressed downwards within a transfer."""

    _PRODUCT_LOW, _PRODUCT_HIGH = 0x02, 0x03
    _FTW0, _POW1 = 0x1A6, 0x1AD

    def __init__(self, sysclk: float, sink: Sink) -> None:
        super().__init__()
        self._ftw_per_hz = (1 << 48) / sysclk
        self._sink = sink
        self._registers = {self._PRODUCT_LOW: 0x82, self._PRODUCT_HIGH: 0x19}
        self._changed = False

    def answer(self, bits: int, num_bits: int, length: int) -> int:
        if num_bits < 16:
            return 0
        instruction = bits >> num_bits - 16
        if not instruction & 0x8000:
            return 0
        address = (instruction & 0x1FFF) - (num_bits - 16) // 8
        result = 0
        for position in range(length // 8):
            result = result << 8 | self._registers.get(address - position, 0)
        return result

    def finish(self, bits: int, num_bits: int, started: int) -> None:
        instruction = bits >> num_bits - 16
        if instruction & 0x8000:
            return
        address = instruction & 0x1FFF
        for shift in range(num_bits - 24, -1, -8):
            self._registers[address] = bits >> shift & 0xFF
            self._changed = self._changed or self._FTW0 <= address <= self._POW1
            address -= 1

    def update(self, time: int) -> None:
        if not self._changed:
            return
        self._changed = False
        ftw = sum(self._registers.get(self._FTW0 + i, 0) << 8 * i for i in range(6))
        phase_word = sum(self._registers.get(self._POW1 - 1 + i, 0) << 8 * i for i in range(2)) & 0x3FFF
        self._sink(time, ftw / self._ftw_per_hz, phase_word / 0x4000, 1.0, -1)


class CPLD(Chip):
    """The card's configuration register, in both revisions: 24 bits in one transfer, or 52 in two."""

    _IO_UPDATE_8, _IO_UPDATE_9, _PROFILE = 12, 32, 8

    def __init__(self, synthesisers: dict[int, AD9910 | AD9912]) -> None:
        super().__init__()
        self._synthesisers = synthesisers
        self._updating = 0
        self.attenuators = Attenuators()

    def answer(self, bits: int, num_bits: int, length: int) -> int:
        """Status: revision (told from the length of the transaction), all PLLs locked, errors of SYNC_IN."""
        revision = 9 if num_bits else 8
        errors = sum(
            chip.sampling_error << number
            for number, chip in self._synthesisers.items()
            if isinstance(chip, AD9910)
        )
        return revision << 16 | 0xF << 8 | errors << 4

    def finish(self, bits: int, num_bits: int, started: int) -> None:
        second = num_bits > 24
        updating = bits >> self._IO_UPDATE_9 & 0xF if second else 0xF * (bits >> self._IO_UPDATE_8 & 1)
        for number, chip in self._synthesisers.items():
            if isinstance(chip, AD9910):
                chip.profile = bits >> self._PROFILE + (3 * number if second else 0) & 7
            if updating & ~self._updating & 1 << number:
                chip.update(started)
        self._updating = updating

    def io_update(self, time: int, level: int) -> None:
        """The IO_UPDATE line; a rising edge reaches all synthesisers."""
        if level:
            for chip in self._synthesisers.values():
                chip.update(time)

    def select(self, chip_select: int) -> list[Chip]:
        if chip_select == _CS_CONFIG:
            return [self]
        if chip_select == _CS_ATTENUATORS:
            return [self.attenuators]
        if chip_select == _CS_MULTIPLE:
            return list(self._synthesisers.values())
        chip = self._synthesisers.get(chip_select - 4)
        return [chip] if chip is not None else []


class Attenuators(Chip):
    """A shift register of 32 bits, latched at the end of a transaction."""

    def __init__(self) -> None:
        super().__init__()
        self.content = 0

    def answer(self, bits: int, num_bits: int, length: int) -> int:
        return self.content >> 32 - length

    def finish(self, bits: int, num_bits: int, started: int) -> None:
        self.content = bits & 0xFFFF_FFFF


def connect_urukul(
    entries: dict[str, Any], key: str, apparatus: Any, bus: SPIBus, reference_mu: Callable[[], int]
) -> CPLD:
    """The card `key` of a device database with its synthesisers, on its bus."""
    arguments = entries[key].get("arguments", {})
    refclk, clk_div = arguments.get("refclk", 125e6), arguments.get("clk_div", 0)
    chips: dict[int, AD9910 | AD9912] = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict) or entry.get("arguments", {}).get("cpld_device") != key:
            continue
        settings = entry["arguments"]
        pll = bool(settings.get("pll_en", 1))
        number = settings["chip_select"] - 4
        if entry["class"] == "AD9910":
            clk = refclk / (4, 1, 2, 4)[clk_div]
            sysclk = clk * settings.get("pll_n", 40) if pll else clk
            chips[number] = AD9910(sysclk, reference_mu, apparatus.dds_sink(name))
        elif entry["class"] == "AD9912":
            doubled = refclk * 2 if refclk < 11e6 else refclk
            sysclk = doubled / (1, 1, 2, 4)[clk_div] * settings.get("pll_n", 10) if pll else refclk
            chips[number] = AD9912(sysclk, apparatus.dds_sink(name))
    bus.card = card = CPLD(chips)
    return card
