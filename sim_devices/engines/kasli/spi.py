"""SPI buses: the RTIO master, and what its slaves have in common."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from sim_devices.engines.kasli.channels import NEVER, Silent
from sim_devices.engines.kasli.rtio import BUSY, BlockedError

_END, _INPUT = 0x02, 0x04


class Chip:
    """A slave on the bus. A transaction is a number of transfers; bits come in with the first one on top."""

    def __init__(self) -> None:
        self._bits = 0
        self._num_bits = 0

    def transfer(self, bits: int, length: int, started: int, last: bool) -> int:
        """Shift `length` bits in and out; `started` is the time at which the transaction was configured."""
        result = self.answer(self._bits, self._num_bits, length)
        self._bits = self._bits << length | bits
        self._num_bits += length
        if last:
            content, count = self._bits, self._num_bits
            self._bits = self._num_bits = 0
            self.finish(content, count, started)
        return result

    def answer(self, bits: int, num_bits: int, length: int) -> int:
        """What the chip sends during a transfer, after `num_bits` bits of its transaction."""
        return 0

    def finish(self, bits: int, num_bits: int, started: int) -> None:
        """The transaction is complete."""


class Card(Protocol):
    """Chips on one bus."""

    def select(self, chip_select: int) -> Sequence[Chip]:
        """Chips that listen for a chip select word."""


class SPIBus(Silent):
    """An SPI master (artiq/gateware/rtio/phy/spi2.py): address 0 data, 1 configuration."""

    def __init__(
        self, key: str, input_mu: int, coarse_mu: int, report: Callable[[int, str, str], None]
    ) -> None:
        super().__init__(key)
        self._latency = input_mu
        self._coarse_mu = coarse_mu
        self._report = report
        self.card: Card | None = None
        self._flags, self._length, self._divider, self._select = 0, 8, 2, 0
        self._started = 0
        self._in_transaction = False
        self._busy_until = NEVER
        self._inputs: deque[tuple[int, int]] = deque()

    def output(self, address: int, data: int, time: int) -> None:
        if time < self._busy_until:
            self._report(BUSY, self.key, f"SPI access at {time} mu, busy until {self._busy_until} mu")
            return
        if address == 1:
            self._flags = data & 0xFF
            self._length = (data >> 8 & 31) + 1
            self._divider = (data >> 16 & 0xFF) + 2
            self._select = data >> 24
            if not self._in_transaction:
                self._started = time
            return
        last = bool(self._flags & _END)
        self._in_transaction = not last
        # the gateware is ready again one cycle of the bus before the driver's cursor
        self._busy_until = time + self._length * self._divider * self._coarse_mu
        bits = (data & 0xFFFF_FFFF) >> 32 - self._length
        value = 0
        for chip in self.card.select(self._select) if self.card else ():
            value |= chip.transfer(bits, self._length, self._started, last)
        if self._flags & _INPUT:
            self._inputs.append((self._busy_until, value))

    def data(self, timeout: int) -> tuple[int, int, int]:
        if not self._inputs:
            if timeout < 0:
                raise BlockedError(f"{self.key}: read() would block for ever: no input was requested")
            return -1, 0, timeout
        time, value = self._inputs.popleft()
        return time, value, time + self._latency

    def reset(self) -> None:
        self._inputs.clear()
        self._busy_until = NEVER
