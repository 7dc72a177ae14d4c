"""RTIO analyzer: a ring of what went in and out, in the format of the core device (port 1382).

Message layout: artiq/gateware/rtio/analyzer.py; buffer and header: artiq/firmware/runtime/analyzer.rs. An
output's counter is that at which the batch was taken from the CPU's ring, less the CPU time of the outputs
behind it.
"""

from __future__ import annotations

import struct
from collections import deque

from sim_devices.engines.kasli import support

BUFFER_SIZE = 512 * 1024
_OUTPUT, _INPUT, _EXCEPTION, _STOPPED = range(4)
_MESSAGE = struct.Struct(">QIQQI")
_SIZE = _MESSAGE.size
_CAPACITY = BUFFER_SIZE // _SIZE
_WORDS = support.RING_ENTRY // 4
_LOW = (1 << 64) - 1
UNDERFLOW, OVERFLOW = 0b010100, 0b100001


class Analyzer:
    """What was recorded since the last dump; the oldest messages give way.

    :param log_channel: number of the channel that carries `rtio_log`
    """

    def __init__(self, output_mu: int, log_channel: int = 0) -> None:
        self._output_mu = output_mu
        self.log_channel = log_channel
        self._batches: deque[tuple[int, list[int] | bytes, int]] = deque()
        self._kept = 0
        self._total = 0

    def _append(self, count: int, messages: list[int] | bytes, counter: int = 0) -> None:
        self._batches.append((count, messages, counter))
        self._kept += count
        self._total += count
        while self._kept - self._batches[0][0] >= _CAPACITY:
            self._kept -= self._batches.popleft()[0]

    def outputs(self, words: list[int], counter: int) -> None:
        """Entries of the CPU's output ring, four words each, at `counter` after the last of them.

        They become messages only when somebody asks: this is on the way of every output.
        """
        self._append(len(words) // _WORDS, words, counter)

    def _messages(self, words: list[int], counter: int) -> bytes:
        first = counter - (len(words) // _WORDS - 1) * self._output_mu
        messages = bytearray()
        for position in range(0, len(words), _WORDS):
            target, data, low, high = words[position : position + _WORDS]
            submitted = first + position // _WORDS * self._output_mu
            messages += _MESSAGE.pack(
                data, target & 0xFF, max(submitted, 0), high << 32 | low, target >> 8 << 2 | _OUTPUT
            )
        return bytes(messages)

    def output(self, channel: int, address: int, data: int, time: int, counter: int) -> None:
        """One output; of wide data the lowest 64 bits."""
        self._append(1, _MESSAGE.pack(data & _LOW, address, counter, time & _LOW, channel << 2 | _OUTPUT))

    def input(self, channel: int, data: int, time: int, counter: int) -> None:
        """An input event that the kernel has read."""
        self._append(1, _MESSAGE.pack(data & _LOW, 0, counter, time, channel << 2 | _INPUT))

    def exception(self, channel: int, kind: int, counter: int) -> None:
        """UNDERFLOW or OVERFLOW."""
        self._append(1, bytes(11) + struct.pack(">BQQI", kind, counter, 0, channel << 2 | _EXCEPTION))

    def log(self, text: bytes, time: int, counter: int) -> None:
        """Text of `rtio_log`, four characters a word."""
        for position in range(0, len(text), 4):
            word = int.from_bytes(text[position : position + 4], "big")
            self.output(self.log_channel, 0, word, time, counter)

    def dump(self, counter: int) -> bytes:
        """Everything as a client of the port gets it; recording starts anew."""
        self._append(1, bytes(12) + struct.pack(">QQI", counter, 0, _STOPPED))
        batches, total = list(self._batches), self._total
        self._batches.clear()
        self._kept = self._total = 0
        messages = b"".join(
            content if isinstance(content, bytes) else self._messages(content, counter)
            for _, content, counter in batches
        )[-BUFFER_SIZE:]
        header = struct.pack("<IQBBB", len(messages), total * _SIZE, 0, self.log_channel, 1)
        return b"e" + header + messages
