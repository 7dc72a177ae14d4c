"""Search for the handler of a raised exception, by the tables that the compiler puts into a kernel.

`.eh_frame` says how to undo each stack frame (call frame information, DWARF 4 section 6.4, with the changes
of the Linux Standard Base, chapter 10). A frame's language-specific data says where its landing pads are and
which exceptions they want (Itanium C++ ABI, exception handling, level 2; read as by the firmware in
artiq/firmware/libeh/dwarf.rs, whose type table holds pointers to exception numbers).
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass, field

from sim_devices.engines.kasli.elf import Library

_OMIT = 0xFF
_PC_RELATIVE, _INDIRECT = 0x10, 0x80
_FORMATS = {0x0: "<I", 0x2: "<H", 0x3: "<I", 0x4: "<Q", 0xA: "<h", 0xB: "<i", 0xC: "<q"}
RA, SP = 1, 2


class UnwindError(Exception):
    """The tables of a kernel could not be read."""


@dataclass(slots=True)
class _Common:
    code_alignment: int
    data_alignment: int
    return_register: int
    instructions: bytes
    pointer_encoding: int
    data_encoding: int


@dataclass(slots=True)
class _Frame:
    start: int
    size: int
    common: _Common
    instructions: bytes
    language_data: int


@dataclass(slots=True)
class Rules:
    """How to undo a frame: its base, and the offsets from there of the saved registers (DWARF numbers)."""

    base_register: int = SP
    base_offset: int = 0
    saved: dict[int, int] = field(default_factory=dict)


class _Cursor:
    """Reads the image of a kernel; addresses are those of the emulated memory."""

    def __init__(self, library: Library, address: int) -> None:
        self._library = library
        self.address = address

    def bytes(self, size: int) -> bytes:
        start = self.address - self._library.base
        self.address += size
        return bytes(self._library.image[start : start + size])

    def unpack(self, code: str) -> int:
        (value,) = struct.unpack(code, self.bytes(struct.calcsize(code)))
        return int(value)

    def uleb(self) -> int:
        result = shift = 0
        while True:
            byte = self.unpack("<B")
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result

    def sleb(self) -> int:
        result = shift = 0
        while True:
            byte = self.unpack("<B")
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result - (1 << shift) if byte & 0x40 else result

    def pointer(self, encoding: int, base: int = 0) -> int:
        """A pointer in one of the encodings DW_EH_PE_*; 0 stays 0, as null pointers are not relative."""
        start = self.address
        kind = encoding & 0xF
        value = self.uleb() if kind == 1 else self.sleb() if kind == 9 else self.unpack(_FORMATS[kind])
        if value == 0:
            return 0
        value = (value + (start if encoding & 0x70 == _PC_RELATIVE else base)) & 0xFFFF_FFFF
        if encoding & _INDIRECT:
            return _Cursor(self._library, value).unpack("<I")
        return value

    def text(self) -> str:
        end = self._library.image.index(0, self.address - self._library.base)
        return self.bytes(end + 1 - (self.address - self._library.base))[:-1].decode()


class UnwindTable:
    """The frames of one kernel."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._frames = self._read_frames()
        self._starts = [frame.start for frame in self._frames]

    def _read_frames(self) -> list[_Frame]:
        cursor = _Cursor(self._library, self._frames_start())
        commons: dict[int, _Common] = {}
        frames = []
        while True:
            start = cursor.address
            if start + 4 > self._library.end:
                break
            length = cursor.unpack("<I")
            if length == 0:
                break
            end = cursor.address + length
            identity = cursor.address
            back = cursor.unpack("<I")
            if back == 0:
                commons[start] = _read_common(cursor, end)
            else:
                frames.append(_read_frame(cursor, end, commons[identity - back]))
            cursor.address = end
        return sorted(frames, key=lambda frame: frame.start)

    def _frames_start(self) -> int:
        header = self._library.frame_header
        if header is None:
            raise UnwindError("the kernel has no unwind tables")
        cursor = _Cursor(self._library, header)
        version, encoding, _, _ = cursor.bytes(4)
        if version != 1:
            raise UnwindError(f"unwind tables of version {version}")
        return cursor.pointer(encoding)

    def _find(self, address: int) -> _Frame | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._frames[index].start + self._frames[index].size:
            return None
        return self._frames[index]

    def rules(self, return_address: int) -> Rules | None:
        """How to undo the frame that `return_address` is in; None if it is not the kernel's."""
        frame = self._find(return_address - 1)
        if frame is None:
            return None
        initial = Rules()
        _run(frame.common, frame.common.instructions, initial, initial, 0, 1 << 32)
        rules = Rules(initial.base_register, initial.base_offset, dict(initial.saved))
        _run(frame.common, frame.instructions, rules, initial, frame.start, return_address - 1)
        return rules

    def landing_pad(self, return_address: int, exception_id: int) -> int | None:
        """Where the frame of `return_address` wants to go for an exception: to a handler or a clean-up."""
        frame = self._find(return_address - 1)
        if frame is None or not frame.language_data:
            return None
        cursor = _Cursor(self._library, frame.language_data)
        encoding = cursor.unpack("<B")
        base = frame.start if encoding == _OMIT else cursor.pointer(encoding)
        type_encoding = cursor.unpack("<B")
        types = 0
        if type_encoding != _OMIT:
            offset = cursor.uleb()
            types = cursor.address + offset
        site_encoding = cursor.unpack("<B")
        length = cursor.uleb()
        actions = cursor.address + length
        offset = return_address - 1 - frame.start
        while cursor.address < actions:
            start = cursor.pointer(site_encoding)
            size = cursor.pointer(site_encoding)
            pad = cursor.pointer(site_encoding)
            action = cursor.uleb()
            if start <= offset < start + size:
                if pad == 0:
                    return None
                wanted = action == 0 or self._wanted(actions + action - 1, types, type_encoding, exception_id)
                return base + pad if wanted else None
            if offset < start:
                return None
        return None

    def _wanted(self, action: int, types: int, encoding: int, exception_id: int) -> bool:
        """Whether one of a chain of actions is a clean-up or a handler for the exception."""
        clean_up = False
        while True:
            cursor = _Cursor(self._library, action)
            selected = cursor.sleb()
            next_at = cursor.address
            displacement = cursor.sleb()
            if selected == 0:
                clean_up = True
            elif selected > 0:
                size = struct.calcsize(_FORMATS[encoding & 0xF])
                handled = _Cursor(self._library, types - selected * size).pointer(encoding)
                if handled == 0 or _Cursor(self._library, handled).unpack("<I") == exception_id:
                    return True
            if displacement == 0:
                return clean_up
            action = next_at + displacement


def _read_common(cursor: _Cursor, end: int) -> _Common:
    version = cursor.unpack("<B")
    augmentation = cursor.text()
    code_alignment, data_alignment = cursor.uleb(), cursor.sleb()
    return_register = cursor.unpack("<B") if version == 1 else cursor.uleb()
    pointer_encoding, data_encoding = 0, _OMIT
    if augmentation.startswith("z"):
        cursor.uleb()
        for letter in augmentation[1:]:
            if letter == "R":
                pointer_encoding = cursor.unpack("<B")
            elif letter == "L":
                data_encoding = cursor.unpack("<B")
            elif letter == "P":
                cursor.pointer(cursor.unpack("<B") & ~_INDIRECT)
    instructions = cursor.bytes(end - cursor.address)
    return _Common(
        code_alignment, data_alignment, return_register, instructions, pointer_encoding, data_encoding
    )


def _read_frame(cursor: _Cursor, end: int, common: _Common) -> _Frame:
    start = cursor.pointer(common.pointer_encoding)
    size = cursor.pointer(common.pointer_encoding & 0xF)
    length = cursor.uleb()
    behind = cursor.address + length
    language_data = 0
    if common.data_encoding != _OMIT and length:
        language_data = cursor.pointer(common.data_encoding)
    cursor.address = behind
    return _Frame(start, size, common, cursor.bytes(end - behind), language_data)


def _run(
    common: _Common, instructions: bytes, rules: Rules, initial: Rules, location: int, target: int
) -> None:
    """Apply call frame instructions up to the address `target` to `rules`."""
    program = _Cursor(Library(0, bytearray(instructions), {}, (), None), 0)
    stack: list[Rules] = []
    while program.address < len(instructions):
        byte = program.unpack("<B")
        high, low = byte & 0xC0, byte & 0x3F
        advance = 0
        if high == 0x40:
            advance = low
        elif high == 0x80:
            rules.saved[low] = program.uleb() * common.data_alignment
        elif high == 0xC0:
            _restore(rules, initial, low)
        elif byte in (0x02, 0x03, 0x04):
            advance = program.unpack({2: "<B", 3: "<H", 4: "<I"}[byte])
        elif byte == 0x05:
            register = program.uleb()
            rules.saved[register] = program.uleb() * common.data_alignment
        elif byte == 0x06:
            _restore(rules, initial, program.uleb())
        elif byte in (0x07, 0x08):
            rules.saved.pop(program.uleb(), None)
        elif byte == 0x0A:
            stack.append(Rules(rules.base_register, rules.base_offset, dict(rules.saved)))
        elif byte == 0x0B:
            kept = stack.pop()
            rules.base_register, rules.base_offset, rules.saved = (
                kept.base_register,
                kept.base_offset,
                kept.saved,
            )
        elif byte == 0x0C:
            rules.base_register, rules.base_offset = program.uleb(), program.uleb()
        elif byte == 0x0D:
            rules.base_register = program.uleb()
        elif byte == 0x0E:
            rules.base_offset = program.uleb()
        elif byte != 0:
            raise UnwindError(f"call frame instruction {byte:#x}")
        location += advance * common.code_alignment
        if location > target:
            break


def _restore(rules: Rules, initial: Rules, register: int) -> None:
    if register in initial.saved:
        rules.saved[register] = initial.saved[register]
    else:
        rules.saved.pop(register, None)
