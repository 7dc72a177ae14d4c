"""Loader of the shared library that the ARTIQ compiler makes of a kernel (ELF32, RISC-V).

Does what the firmware's dynamic linker does (artiq/firmware/libdyld): copies the loadable segments, applies
the dynamic relocations and resolves imports by name. Format: System V ABI, chapters 4 and 5, and the RISC-V
ELF psABI for the relocation types.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

_PT_LOAD, _PT_DYNAMIC, _PT_GNU_EH_FRAME = 1, 2, 0x6474_E550
_DT_PLTRELSZ, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_RELA, _DT_RELASZ, _DT_JMPREL = 2, 4, 5, 6, 7, 8, 23
_R_NONE, _R_32, _R_RELATIVE, _R_JUMP_SLOT = 0, 1, 3, 5
_EM_RISCV, _ET_DYN = 243, 3
_DOUBLE_FLOAT_ABI = 4


class LoadError(Exception):
    """The library cannot run on the emulated core device."""


@dataclass(frozen=True, slots=True)
class Library:
    """A kernel's memory image for its base address, and the addresses of its symbols."""

    base: int
    image: bytearray
    symbols: dict[str, int]
    imports: tuple[str, ...]
    frame_header: int | None = None

    @property
    def end(self) -> int:
        """First address behind the image."""
        return self.base + len(self.image)


def load(data: bytes, base: int, resolve: Callable[[str], int | None]) -> Library:
    """Image of the library `data` at `base`; imported names are looked up with `resolve`.

    :raises LoadError: for another architecture, an unknown relocation or an import that nobody provides
    """
    if data[:7] != b"\x7fELF\x01\x01\x01":
        raise LoadError("not a little-endian 32-bit ELF file")
    kind, machine = struct.unpack_from("<HH", data, 16)
    if kind != _ET_DYN or machine != _EM_RISCV:
        raise LoadError(f"not a RISC-V shared library (type {kind}, machine {machine})")
    header_offset, _, flags, _, header_size, num_headers = struct.unpack_from("<IIIHHH", data, 28)
    if flags & 6 != _DOUBLE_FLOAT_ABI:
        raise LoadError("only rv32g kernels run here: set the core's target to rv32g")
    headers = [struct.unpack_from("<8I", data, header_offset + i * header_size) for i in range(num_headers)]
    image = bytearray(
        max(address + size for kind, _, address, _, _, size, _, _ in headers if kind == _PT_LOAD)
    )
    dynamic = 0
    frame_header = None
    for kind, offset, address, _, file_size, _, _, _ in headers:
        if kind == _PT_LOAD:
            image[address : address + file_size] = data[offset : offset + file_size]
        elif kind == _PT_DYNAMIC:
            dynamic = address
        elif kind == _PT_GNU_EH_FRAME:
            frame_header = base + address
    tags = _dynamic_tags(image, dynamic)
    symbols, names = _symbols(image, tags, base)
    imports: list[str] = []

    def value(index: int) -> int:
        name = names[index]
        if name in symbols:
            return symbols[name]
        address = resolve(name)
        if address is None:
            raise LoadError(f"the kernel needs {name!r}, which the emulated core device does not have")
        imports.append(name)
        return address

    tables = [(tags.get(_DT_RELA, 0), tags.get(_DT_RELASZ, 0))]
    tables.append((tags.get(_DT_JMPREL, 0), tags.get(_DT_PLTRELSZ, 0)))
    for table, size in tables:
        for where, info, addend in struct.iter_unpack("<IIi", image[table : table + size]):
            relocation = info & 0xFF
            if relocation == _R_RELATIVE:
                target = base + addend
            elif relocation in (_R_32, _R_JUMP_SLOT):
                target = value(info >> 8) + addend
            elif relocation == _R_NONE:
                continue
            else:
                raise LoadError(f"unknown relocation type {relocation}")
            struct.pack_into("<I", image, where, target & 0xFFFF_FFFF)
    return Library(base, image, symbols, tuple(imports), frame_header)


def _dynamic_tags(image: bytearray, dynamic: int) -> dict[int, int]:
    tags: dict[int, int] = {}
    while dynamic + 8 <= len(image):
        tag, content = struct.unpack_from("<II", image, dynamic)
        if tag == 0:
            break
        tags[tag] = content
        dynamic += 8
    return tags


def _symbols(image: bytearray, tags: dict[int, int], base: int) -> tuple[dict[str, int], list[str]]:
    """Addresses of the defined symbols, and all names by index."""
    _, num_symbols = struct.unpack_from("<II", image, tags[_DT_HASH])
    symbols: dict[str, int] = {}
    names: list[str] = []
    for index in range(num_symbols):
        name_offset, content, _, _, _, section = struct.unpack_from(
            "<IIIBBH", image, tags[_DT_SYMTAB] + 16 * index
        )
        start = tags[_DT_STRTAB] + name_offset
        name = image[start : image.index(0, start)].decode()
        names.append(name)
        if section != 0 and name:
            symbols[name] = base + content
    return symbols, names
