"""Parts of the compiled engine that need neither ARTIQ nor the emulator: machine code, loading, values."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_devices.engines.kasli import elf, rpc
from sim_devices.engines.kasli.assembler import ROUND_DOWN, ROUND_NEAREST_AWAY, Assembler

# from `llvm-mc --triple=riscv32 --mattr=+d` (LLVM 14), in the order of the function below
LLVM = """
    b7020042 1303b0ff b38efe01 b3bffe01 03a58201 832d0180 23a23207 232e05fe 63040300 e34aeeff 637ff37f
    6f100000 6ff01fff e7000500 67800000 07b50215 27b0b211 534305c2 532305c2 d30003d2 5385a022 d320a522
    539300a2
"""


def test_instructions_are_encoded_as_by_llvm():
    a = Assembler(0x1000)

    def at(offset: int) -> str:
        """A label relative to the next instruction."""
        name = str(len(a.labels))
        a.labels[name] = a.here + offset
        return name

    a.lui("t0", 0x4200_0000)
    a.addi("t1", "zero", -5)
    a.add("t4", "t4", "t6")
    a.sltu("t6", "t4", "t6")
    a.lw("a0", "t0", 24)
    a.lw("s11", "sp", -2048)
    a.sw("s3", "t0", 100)
    a.sw("zero", "a0", -4)
    a.branch("beq", "t1", "zero", at(8))
    a.branch("blt", "t3", "t5", at(-12))
    a.branch("bgeu", "t1", "t6", at(2046))
    a.jump(at(4096))
    a.jump(at(-16))
    a.call("a0")
    a.ret()
    a.fld("fa0", "t0", 336)
    a.fsd("fs11", "t0", 256)
    a.fcvt_w_d("t1", "fa0", ROUND_NEAREST_AWAY)
    a.fcvt_w_d("t1", "fa0", ROUND_DOWN)
    a.fcvt_d_w("ft1", "t1")
    a.fsgnj_d("fa0", "ft1", "fa0")
    a.fabs_d("ft1", "fa0")
    a.flt_d("t1", "ft1", "ft0")
    assert a.code() == bytes.fromhex(LLVM)


def test_immediates_that_do_not_fit_are_refused():
    a = Assembler(0)
    with pytest.raises(ValueError, match="12 bits"):
        a.addi("t0", "t0", 2048)
    with pytest.raises(ValueError, match="12 bits"):
        a.sw("t0", "t0", -2049)
    with pytest.raises(ValueError, match="multiple of 4096"):
        a.lui("t0", 0x123)
    a.branch("beq", "t0", "t1", "far")
    a.labels["far"] = 5000
    with pytest.raises(ValueError, match="branch over"):
        a.code()


@pytest.mark.parametrize(
    ("kind", "machine", "flags", "message"),
    [(3, 62, 4, "not a RISC-V"), (1, 243, 4, "not a RISC-V"), (3, 243, 0, "only rv32g")],
)
def test_foreign_libraries_are_refused(kind, machine, flags, message):
    """x86-64, an object file, and soft floats."""
    header = (
        b"\x7fELF\x01\x01\x01"
        + bytes(9)
        + struct.pack("<HHIIIIIHHH", kind, machine, 1, 0, 52, 0, flags, 52, 32, 0)
    )
    with pytest.raises(elf.LoadError, match=message):
        elf.load(header, 0x1000, lambda name: None)
    with pytest.raises(elf.LoadError, match="not a little-endian"):
        elf.load(b"MZ" + header, 0x1000, lambda name: None)


class Memory:
    """What of a `Machine` the conversion of values needs."""

    def __init__(self) -> None:
        self.content = bytearray(1 << 16)
        self.next = 1 << 12

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.content[address : address + size])

    def write(self, address: int, data: bytes) -> None:
        self.content[address : address + len(data)] = data

    def read_word(self, address: int) -> int:
        return int.from_bytes(self.read(address, 4), "little")

    def write_word(self, address: int, value: int) -> None:
        self.write(address, value.to_bytes(4, "little"))

    def read_slice(self, address: int) -> bytes:
        return self.read(self.read_word(address), self.read_word(address + 4))

    def allocate(self, size: int) -> int:
        address, self.next = self.next, self.next + -(-size // 8) * 8
        return address


SCALARS = {"b": "?", "i": "i", "I": "q", "f": "d"}


def values_of(tag: tuple) -> st.SearchStrategy:
    kind = tag[0]
    if kind in SCALARS:
        bits = 31 if kind == "i" else 63
        numbers = {"b": st.booleans(), "f": st.floats(allow_nan=False)}
        return numbers.get(kind, st.integers(-(1 << bits), (1 << bits) - 1))
    if kind == "s":
        return st.text("a\u00b5\u20ac", max_size=3)
    if kind == "l":
        return st.lists(values_of(tag[1]), max_size=3)
    return st.tuples(*map(values_of, tag[1:]))


TAGS = st.recursive(
    st.sampled_from([("b",), ("i",), ("I",), ("f",), ("s",)]),
    lambda inner: (
        st.tuples(st.just("l"), inner)
        | st.lists(inner, min_size=1, max_size=4).map(lambda tags: ("t", *tags))
    ),
    max_leaves=5,
)


def tag_bytes(tag: tuple) -> bytes:
    own = tag[0].encode() + (bytes([len(tag) - 1]) if tag[0] == "t" else b"")
    return own + b"".join(map(tag_bytes, tag[1:]))


def to_kernel(tag: tuple, value) -> bytes:
    """As the host's comm_kernel.py sends results: values without tags."""
    if tag[0] in SCALARS:
        return struct.pack("<" + SCALARS[tag[0]], value)
    if tag[0] == "s":
        return struct.pack("<I", len(value.encode())) + value.encode()
    if tag[0] == "l":
        return struct.pack("<I", len(value)) + b"".join(to_kernel(tag[1], item) for item in value)
    return b"".join(map(to_kernel, tag[1:], value))


def to_host(tag: tuple, value) -> bytes:
    """As the host's comm_kernel.py reads arguments: each value with its tag."""
    if tag[0] == "t":
        return b"t" + bytes([len(value)]) + b"".join(map(to_host, tag[1:], value))
    if tag[0] != "l":
        return tag[0].encode() + to_kernel(tag, value)
    items = b"".join((to_kernel if tag[1][0] in SCALARS else to_host)(tag[1], item) for item in value)
    return b"l" + struct.pack("<I", len(value)) + tag[1][0].encode() + items


@settings(max_examples=80)
@given(st.data())
def test_values_come_back_as_they_went(data):
    """From the host into the kernel's memory and out again, for nested types."""
    tag = data.draw(TAGS)
    value = data.draw(values_of(tag))
    memory = Memory()
    slot = memory.allocate(256)
    receiver = rpc.receive(memory, tag_bytes(tag), rpc.Reader(to_kernel(tag, value)), slot)
    try:
        size = next(receiver)
        while True:
            assert size > 0
            size = receiver.send(memory.allocate(size))
    except StopIteration:
        pass
    pointers = memory.allocate(4)
    memory.write_word(pointers, slot)
    wire = rpc.arguments_to_wire(memory, 77, tag_bytes(tag) + b":n", pointers)
    assert wire == struct.pack("<I", 77) + to_host(tag, value) + b"\0" + struct.pack("<I", 1) + b"n"
