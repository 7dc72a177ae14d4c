"""AD53xx converters behind their SPI bus, alone or on a Zotino card.

Registers: data sheet AD5370/AD5372 (tables 8 to 17), driven by artiq/coredevice/ad53xx.py. Codes wait in
input registers; the LDAC line, low, lets them through to the outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sim_devices.engines.kasli.spi import Chip

NUM_CHANNELS = 40
_SPECIAL, _GAIN, _OFFSET, _DATA = 0, 1, 2, 3
_CONTROL, _READ = 1, 5
_FIRST_CHANNEL = 8


class AD53xx(Chip):
    """One converter; `load` and `clear` are its LDAC and CLR lines."""

    def __init__(self, vref: float, chip_select: int, sink: Callable[[int, int, float], None]) -> None:
        super().__init__()
        self._vref = vref
        self._chip_select = chip_select
        self._sink = sink
        self._registers = {_DATA: [0x8000] * NUM_CHANNELS, _OFFSET: [0x8000] * NUM_CHANNELS}
        self._registers[_GAIN] = [0xFFFF] * NUM_CHANNELS
        self._special = {_CONTROL: 0, 2: 0x1555, 3: 0x1555}
        self._waiting: set[int] = set()
        self._transparent = False
        self._to_read = 0

    def select(self, chip_select: int) -> list[Chip]:
        return [self] if chip_select == self._chip_select else []

    def answer(self, bits: int, num_bits: int, length: int) -> int:
        """The register that the transaction before asked for."""
        return self._read(self._to_read >> 7 & 0x1FF)

    def _read(self, address: int) -> int:
        if address & 0x100:
            return self._special.get(address & 0xF, 0)
        kind = {0: _DATA, 2: _OFFSET, 3: _GAIN}.get(address >> 6)
        channel = (address & 0x3F) - _FIRST_CHANNEL
        if kind is None or not 0 <= channel < NUM_CHANNELS:
            return 0
        return self._registers[kind][channel]

    def finish(self, bits: int, num_bits: int, started: int) -> None:
        mode, address, value = bits >> 22, bits >> 16 & 0x3F, bits & 0xFFFF
        if mode == _SPECIAL:
            if address == _READ:
                self._to_read = value
            elif address:
                self._special[address] = value
            return
        channel = address - _FIRST_CHANNEL
        if 0 <= channel < NUM_CHANNELS:
            self._registers[mode][channel] = value
            self._waiting.add(channel)
            if self._transparent:
                self.load(started, 0)

    def volts(self, channel: int) -> float:
        """Voltage of what is in a channel's registers."""
        gain, offset = self._registers[_GAIN][channel], self._registers[_OFFSET][channel]
        code = self._registers[_DATA][channel] * (gain + 1) / 0x10000 + offset - 0x8000
        return 4 * self._vref * (code - 4 * self._special[2 if channel < 8 else 3]) / 0x10000

    def load(self, time: int, level: int) -> None:
        """The LDAC line."""
        self._transparent = not level
        if not level:
            for channel in sorted(self._waiting):
                self._sink(time, channel, self.volts(channel))
            self._waiting.clear()

    def clear(self, time: int, level: int) -> None:
        """The CLR line: low grounds the outputs."""
        if not level:
            for channel in range(NUM_CHANNELS):
                self._sink(time, channel, 0.0)


def make_ad53xx(arguments: dict[str, Any], sink: Callable[[int, int, float], None]) -> AD53xx:
    """The converter of a device database's entry of class AD53xx or Zotino."""
    return AD53xx(arguments.get("vref", 5.0), arguments.get("chip_select", 1), sink)
