"""Exceptions of kernels: raising, unwinding to handlers, nesting, and the report of an unhandled one.

Behaves as the firmware (artiq/firmware/ksupport/eh_artiq.rs): up to ten exceptions are in flight, each in a
slot that lives longer than the stack frame that raised it. A handler gets the slot's address; when it ends,
the exception and those that were raised within it are dropped. Unwinding visits one frame after another and
enters clean-up code too, which ends by asking to resume.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from sim_devices.engines.kasli import support
from sim_devices.engines.kasli.machine import PAYLOAD, Machine
from sim_devices.engines.kasli.unwind import RA, SP, UnwindTable

MAX_IN_FLIGHT = 10
MAX_BACKTRACE = 128
HOST_STRING = 0xFFFF_FFFF  # as the length of a string: the pointer is the host's key

# struct Exception: id, (pointer, length) of file, line, column, function and message, three parameters.
_FIELDS = "<IIIIIIIII4xqqq"
_SIZE = struct.calcsize(_FIELDS)
_SLOT = 1024
SLOTS = support.HEAP
SLOTS_SIZE = _SLOT * (MAX_IN_FLIGHT + 1)
_SAVED = (2, 8, 9, *range(18, 28))  # sp, s0 to s11 by number
_UNWIND_ARGUMENTS = (10, 11)
_WORDS_X = support.X >> 2
_LONGS_F = support.F >> 3


@dataclass(slots=True)
class _Trace:
    """Which part of the backtrace belongs to an exception, and the stack pointer it reached."""

    stack_pointer: int = 0
    start: int = 0
    end: int = 0


class KernelExceptions:
    """The exceptions of one kernel run.

    :param exception_id: number of a built-in exception by name, for those that the core device raises
    :param uncaught: called when no frame handles the exception
    """

    def __init__(
        self, machine: Machine, exception_id: Callable[[str], int], uncaught: Callable[[], None]
    ) -> None:
        self._machine = machine
        self._exception_id = exception_id
        self._uncaught = uncaught
        self.reset()

    def reset(self) -> None:
        """A new kernel starts."""
        self._used = [False] * (MAX_IN_FLIGHT + 1)
        self._stack: list[int] = []
        self._traces = [_Trace() for _ in range(MAX_IN_FLIGHT + 1)]
        self._backtrace: list[tuple[int, int]] = []
        self._table: UnwindTable | None = None

    # Services of the kernel

    def raise_from_kernel(self) -> None:
        """__artiq_raise(exception): a new one, or one in flight again."""
        address = self._machine.argument(0)
        slot = (address - SLOTS) // _SLOT
        if SLOTS <= address < SLOTS + SLOTS_SIZE:
            self._stack.remove(slot)
            self._stack.append(slot)
            self._unwind()
        else:
            self._raise_new(self._machine.read(address, _SIZE))

    def resume(self) -> None:
        """__artiq_resume(): the clean-up of a frame is done."""
        self._unwind()

    def end_catch(self) -> None:
        """__artiq_end_catch(): the handler of the latest exception ends."""
        slot = self._stack.pop()
        self._used[slot] = False
        reached = self._traces[slot].stack_pointer
        while self._stack and self._traces[self._stack[-1]].stack_pointer < reached:
            self._used[self._stack.pop()] = False
        del self._backtrace[self._traces[self._stack[-1]].end if self._stack else 0 :]

    # From the core device

    def raise_(self, name: str, message: str, *parameters: int) -> None:
        """Raise one of the core device's own exceptions at the service's caller."""
        text = message.encode()[: _SLOT - 256]
        place = b"(emulated core device)"
        slot = self._free_slot()
        strings = SLOTS + slot * _SLOT + _SIZE
        self._machine.write(strings, text + place)
        where = (strings + len(text), len(place))
        values = (*parameters, 0, 0, 0)[:3]
        self._raise_new(
            struct.pack(_FIELDS, self._exception_id(name), *where, 0, 0, *where, strings, len(text), *values)
        )

    def raise_from_host(self, name: int, message: int, parameters: tuple[int, int, int], *place: int) -> None:
        """Raise what a remote call raised; strings are keys of the host.

        :param place: file, line, column, function
        """
        file, line, column, function = place
        host = HOST_STRING
        self._raise_new(
            struct.pack(
                _FIELDS,
                name,
                file,
                host,
                line,
                column & 0xFFFF_FFFF,
                function,
                host,
                message,
                host,
                *parameters,
            )
        )

    # Inside

    def _free_slot(self) -> int:
        return self._used.index(False)

    def _raise_new(self, content: bytes) -> None:
        slot = self._free_slot()
        self._used[slot] = True
        self._machine.write(SLOTS + slot * _SLOT, content)
        self._traces[slot] = _Trace(0, len(self._backtrace), len(self._backtrace))
        self._stack.append(slot)
        if len(self._stack) > MAX_IN_FLIGHT:
            self._uncaught()
        else:
            self._unwind()

    def _unwind(self) -> None:
        """From the caller of the service to the first frame that wants the latest exception."""
        machine = self._machine
        if self._table is None:
            assert machine.library is not None
            self._table = UnwindTable(machine.library)
        slot = self._stack[-1]
        address = SLOTS + slot * _SLOT
        identity = machine.read_word(address)
        registers = {number: machine.words[_WORDS_X + number] for number in (RA, *_SAVED)}
        floats = {number: machine.longs[_LONGS_F + number] for number in (8, 9, *range(18, 28))}
        while True:
            self._record(slot, registers[RA], registers[SP])
            rules = self._table.rules(registers[RA])
            if rules is None:
                self._uncaught()
                return
            pad = self._table.landing_pad(registers[RA], identity)
            if pad is not None:
                for number in _SAVED:
                    machine.words[_WORDS_X + number] = registers[number]
                for number, content in floats.items():
                    machine.longs[_LONGS_F + number] = content
                machine.words[_WORDS_X + RA] = pad
                for number in _UNWIND_ARGUMENTS:
                    machine.words[_WORDS_X + number] = address
                machine.resume(support.RESTORE)
                return
            base = registers[rules.base_register] + rules.base_offset & 0xFFFF_FFFF
            for number, offset in rules.saved.items():
                if number < 32:
                    registers[number] = machine.read_word(base + offset)
                else:
                    floats[number - 32] = int.from_bytes(
                        machine.read(base + offset, 8), "little", signed=True
                    )
            registers[SP] = base

    def _record(self, slot: int, return_address: int, stack_pointer: int) -> None:
        if len(self._backtrace) < MAX_BACKTRACE and return_address > PAYLOAD:
            self._backtrace.append((return_address - PAYLOAD, stack_pointer))
            trace = self._traces[slot]
            trace.stack_pointer = stack_pointer
            trace.end = len(self._backtrace)

    def report(self) -> bytes:
        """Body of the message about uncaught exceptions (libproto_artiq/session_proto.rs)."""
        out = bytearray(struct.pack("<I", len(self._stack)))
        for slot in self._stack:
            content = self._machine.read(SLOTS + slot * _SLOT, _SIZE)
            identity, *values = struct.unpack(_FIELDS, content)
            file, file_size, line, column, function, function_size, message, message_size, *parameters = (
                values
            )
            out += struct.pack("<I", identity) + self._string(message, message_size)
            out += struct.pack("<qqq", *parameters) + self._string(file, file_size)
            out += struct.pack("<II", line, column) + self._string(function, function_size)
        for slot in self._stack:
            trace = self._traces[slot]
            out += struct.pack("<III", trace.stack_pointer, trace.start, trace.end)
        out += struct.pack("<I", len(self._backtrace))
        for return_address, stack_pointer in self._backtrace:
            out += struct.pack("<II", return_address, stack_pointer)
        return bytes(out)

    def _string(self, pointer: int, length: int) -> bytes:
        if length == HOST_STRING:
            return struct.pack("<II", length, pointer)
        return struct.pack("<I", length) + self._machine.read(pointer, length)
