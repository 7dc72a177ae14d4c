"""Values of remote procedure calls between a kernel's memory and the bytes that go over the network.

The layout in memory and on the wire is that of the firmware (artiq/firmware/libproto_artiq/rpc_proto.rs), so
that ARTIQ's own host code reads and writes the other end. A type is a tag: one letter and, for composite
types, the tags of the elements.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from sim_devices.engines.kasli.machine import Machine

_SCALARS = {"n": (0, 1), "b": (1, 1), "i": (4, 4), "I": (8, 8), "f": (8, 8), "O": (4, 4)}
_SLICES = "sBA"
_COPIED = "biIf"  # element types whose lists are copied as they are


class Tag(NamedTuple):
    """A type. `size` is also the distance of neighbours in a list."""

    letter: str
    elements: tuple[Tag, ...]
    num_dimensions: int
    size: int
    alignment: int


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def _parse(tag: bytes, position: int) -> tuple[Tag, int]:
    letter = chr(tag[position])
    position += 1
    if letter in _SCALARS:
        return Tag(letter, (), 0, *_SCALARS[letter]), position
    if letter in _SLICES:
        return Tag(letter, (), 0, 8, 4), position
    count = 1
    if letter in "ta":
        count = tag[position]
        position += 1
    elements = []
    for _ in range(count if letter == "t" else 1):
        element, position = _parse(tag, position)
        elements.append(element)
    first = elements[0] if elements else None
    if letter == "t":
        size, alignment = 0, max((element.alignment for element in elements), default=1)
        for element in elements:
            size = _round_up(size, element.alignment) + element.size
        return Tag(letter, tuple(elements), 0, _round_up(size, alignment), alignment), position
    if letter in "lka":
        num_dimensions = count if letter == "a" else 0
        size = 4 * (1 + num_dimensions) if letter == "a" else 4
        return Tag(letter, tuple(elements), num_dimensions, size, 4), position
    if letter == "r":
        assert first is not None
        return Tag(letter, tuple(elements), 0, 3 * first.size, first.alignment), position
    raise ValueError(f"unknown tag {letter!r} in {tag!r}")


@lru_cache(maxsize=4096)
def signature(tag: bytes) -> tuple[tuple[Tag, ...], bytes]:
    """Types of the arguments, and the tag of the result, of a call's tag `arguments:result`."""
    arguments, _, result = tag.partition(b":")
    types = []
    position = 0
    while position < len(arguments):
        argument, position = _parse(arguments, position)
        types.append(argument)
    return tuple(types), result


@lru_cache(maxsize=1024)
def result_type(tag: bytes) -> Tag:
    return _parse(tag, 0)[0]


def arguments_to_wire(machine: Machine, service: int, tag: bytes, pointers: int) -> bytes:
    """The body of a request: service, arguments with their tags, tag of the result.

    :param pointers: address of the array of pointers to the arguments
    """
    arguments, result = signature(tag)
    out = bytearray(struct.pack("<I", service))
    for index, argument in enumerate(arguments):
        _send(machine, argument, machine.read_word(pointers + 4 * index), out)
    out += b"\0" + struct.pack("<I", len(result)) + result
    return bytes(out)


def _send(machine: Machine, tag: Tag, address: int, out: bytearray) -> int:
    """Append the value at `address`; the address behind it."""
    letter = tag.letter
    out += letter.encode()
    address = _round_up(address, tag.alignment)
    if letter in _SCALARS and letter != "O":
        out += machine.read(address, tag.size)
    elif letter in _SLICES:
        content = machine.read_slice(address)
        out += struct.pack("<I", len(content)) + content
    elif letter == "O":
        out += machine.read(machine.read_word(address), 4)
    elif letter == "t":
        out.append(len(tag.elements))
        position = address
        for element in tag.elements:
            position = _send(machine, element, position, out)
    elif letter == "l":
        values = machine.read_word(address)
        length = machine.read_word(values + 4)
        out += struct.pack("<I", length)
        _send_elements(machine, tag.elements[0], length, machine.read_word(values), out)
    elif letter == "a":
        out.append(tag.num_dimensions)
        shape = machine.read(address + 4, 4 * tag.num_dimensions)
        out += shape
        length = 1
        for (extent,) in struct.iter_unpack("<I", shape):
            length *= extent
        _send_elements(machine, tag.elements[0], length, machine.read_word(address), out)
    elif letter == "r":
        position = address
        for _ in range(3):
            position = _send(machine, tag.elements[0], position, out)
    else:  # keyword argument: its name, then the value behind it
        name = machine.read_slice(address)
        out += struct.pack("<I", len(name)) + name
        _send(machine, tag.elements[0], address + 8, out)
    return address + tag.size


def _send_elements(machine: Machine, tag: Tag, length: int, address: int, out: bytearray) -> None:
    if tag.letter in _COPIED:
        out += tag.letter.encode() + machine.read(address, tag.size * length)
        return
    out += tag.letter.encode()
    for _ in range(length):
        address = _send(machine, tag, address, out)


class Source(Protocol):
    """Bytes from the host, in order."""

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""

    def word(self) -> int:
        """The next 32-bit integer."""


class Reader:
    """Bytes from the host that are there already."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, size: int) -> bytes:
        start = self._position
        self._position += size
        return self._data[start : self._position]

    def word(self) -> int:
        return int.from_bytes(self.take(4), "little")


Receiver = Generator[int, int, None]


def receive(machine: Machine, tag: bytes, reader: Source, slot: int) -> Receiver:
    """Store a call's result at `slot`.

    A generator: it yields the sizes of the buffers that the kernel has to provide for lists, strings and
    arrays, and is sent their addresses.
    """
    yield from _receive(machine, result_type(tag), reader, slot)


def _receive(machine: Machine, tag: Tag, reader: Source, address: int) -> Generator[int, int, int]:
    letter = tag.letter
    address = _round_up(address, tag.alignment)
    if letter in _SCALARS:
        machine.write(address, reader.take(tag.size))
    elif letter in _SLICES:
        length = reader.word()
        content = (yield length) if length else 1
        machine.write(address, struct.pack("<II", content, length))
        machine.write(content, reader.take(length))
    elif letter == "t":
        position = address
        for element in tag.elements:
            position = yield from _receive(machine, element, reader, position)
    elif letter == "l":
        length = reader.word()
        element = tag.elements[0]
        offset = _round_up(8, element.alignment)
        values = yield offset + element.size * length
        machine.write_word(address, values)
        machine.write(values, struct.pack("<II", values + offset, length))
        yield from _receive_elements(machine, element, length, reader, values + offset)
    elif letter == "a":
        shape = [reader.word() for _ in range(tag.num_dimensions)]
        element = tag.elements[0]
        length = 1
        for extent in shape:
            length *= extent
        buffer = (yield element.size * length) if element.size * length else 0
        machine.write(address, struct.pack(f"<{1 + len(shape)}I", buffer, *shape))
        yield from _receive_elements(machine, element, length, reader, buffer)
    else:  # range
        position = address
        for _ in range(3):
            position = yield from _receive(machine, tag.elements[0], reader, position)
    return address + tag.size


def _receive_elements(
    machine: Machine, tag: Tag, length: int, reader: Source, address: int
) -> Generator[int, int, None]:
    if tag.letter in _COPIED:
        machine.write(address, reader.take(tag.size * length))
        return
    for _ in range(length):
        address = yield from _receive(machine, tag, reader, address)
