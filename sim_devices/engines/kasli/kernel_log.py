"""Text that kernels print on the core device (`core_log`, `rtio_log`): C format strings, to our log."""

from __future__ import annotations

import logging
import re
import struct

from sim_devices.engines.kasli.machine import Machine

logger = logging.getLogger("kernel")

_CONVERSION = re.compile(
    r"%(?P<flags>[-+ 0#]*)(?P<width>\d*)(?:\.(?P<precision>\*|\d+))?(?:l*)(?P<kind>[diuxXfgesc%])"
)
# A record of `rtio_log` is channel, \x1e, text, \x1d (artiq/coredevice/comm_analyzer.py).
_END_OF_CHANNEL = "\x1e"
_END_OF_RECORD = re.compile("[\n\x1d]")


class KernelLog:
    """Formats the variable arguments of a call: in registers a1 to a7, then on the stack."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._text = ""

    def format(self) -> str:
        """The text of core_log(format, ...) or rtio_log(format, ...)."""
        template = self._string(self._machine.argument(0), None)
        self._next = 1
        return _CONVERSION.sub(self._convert, template)

    def print(self, text: str) -> None:
        """One record a line."""
        self._text += text
        *lines, self._text = _END_OF_RECORD.split(self._text)
        for line in lines:
            logger.info("%s", line.replace(_END_OF_CHANNEL, ": "))

    def _word(self) -> int:
        index = self._next
        self._next += 1
        if index < 8:
            return self._machine.argument(index)
        return self._machine.read_word(self._machine.stack_pointer + 4 * (index - 8))

    def _pair(self) -> bytes:
        """Eight-byte arguments start at an even register."""
        self._next += self._next & 1
        return struct.pack("<II", self._word(), self._word())

    def _string(self, address: int, length: int | None) -> str:
        content = bytearray()
        while length is None or len(content) < length:
            byte = self._machine.read(address + len(content), 1)
            if byte == b"\0":
                break
            content += byte
        return content.decode(errors="replace")

    def _convert(self, match: re.Match[str]) -> str:
        kind = match["kind"]
        if kind == "%":
            return "%"
        precision = match["precision"]
        if precision == "*":
            precision = str(self._word())
        form = f"%{match['flags']}{match['width']}"
        if kind == "s":
            return (form + "s") % self._string(self._word(), int(precision) if precision else None)
        if kind == "c":
            return chr(self._word() & 0xFF)
        if kind in "fge":
            number: float = struct.unpack("<d", self._pair())[0]
            return (form + (f".{precision}" if precision else "") + kind) % number
        if "ll" in match[0]:
            integer: int = struct.unpack("<q" if kind in "di" else "<Q", self._pair())[0]
        else:
            integer = self._word()
            if kind in "di" and integer >= 1 << 31:
                integer -= 1 << 32
        return (form + (kind if kind in "xX" else "d")) % integer
