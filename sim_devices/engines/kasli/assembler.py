"""RISC-V assembler for the instructions of the support code that kernels are linked to (see `support`).

Encodings: The RISC-V Instruction Set Manual, volume I, chapters 2 (RV32I) and 12 (D). Registers have their
ABI names; a branch or jump names a label.
"""

from __future__ import annotations

REGISTERS: dict[str, int] = {"zero": 0, "ra": 1, "sp": 2, "gp": 3, "tp": 4, "t0": 5, "t1": 6, "t2": 7}
REGISTERS |= {"s0": 8, "s1": 9}
REGISTERS |= {f"a{i}": 10 + i for i in range(8)}
REGISTERS |= {f"s{i}": 16 + i for i in range(2, 12)}
REGISTERS |= {f"t{i}": 25 + i for i in range(3, 7)}

FLOAT_REGISTERS: dict[str, int] = {f"ft{i}": i for i in range(8)}
FLOAT_REGISTERS |= {"fs0": 8, "fs1": 9}
FLOAT_REGISTERS |= {f"fa{i}": 10 + i for i in range(8)}
FLOAT_REGISTERS |= {f"fs{i}": 16 + i for i in range(2, 12)}
FLOAT_REGISTERS |= {f"ft{i}": 20 + i for i in range(8, 12)}

_BRANCHES = {"beq": 0, "bne": 1, "blt": 4, "bge": 5, "bltu": 6, "bgeu": 7}
ROUND_DOWN, ROUND_NEAREST_AWAY = 2, 4


class Assembler:
    """Instructions one after another from `origin` on."""

    def __init__(self, origin: int) -> None:
        self.origin = origin
        self.labels: dict[str, int] = {}
        self._words: list[int] = []
        self._references: list[tuple[int, str, str]] = []

    @property
    def here(self) -> int:
        """Address of the next instruction."""
        return self.origin + 4 * len(self._words)

    def label(self, name: str) -> None:
        self.labels[name] = self.here

    def code(self) -> bytes:
        """All instructions, with the addresses of the labels filled in."""
        for index, kind, name in self._references:
            offset = self.labels[name] - (self.origin + 4 * index)
            self._words[index] |= _jump_offset(offset) if kind == "jump" else _branch_offset(offset)
        self._references.clear()
        return b"".join(word.to_bytes(4, "little") for word in self._words)

    def _immediate(self, opcode: int, function: int, target: int, source: int, immediate: int) -> None:
        if not -2048 <= immediate < 2048:
            raise ValueError(f"immediate {immediate} does not fit in 12 bits")
        self._words.append((immediate & 0xFFF) << 20 | source << 15 | function << 12 | target << 7 | opcode)

    def _store(self, opcode: int, function: int, source: int, base: int, offset: int) -> None:
        if not -2048 <= offset < 2048:
            raise ValueError(f"offset {offset} does not fit in 12 bits")
        offset &= 0xFFF
        word = (offset >> 5) << 25 | source << 20 | base << 15 | function << 12 | (offset & 31) << 7
        self._words.append(word | opcode)

    def _register(self, opcode: int, function: int, high: int, target: int, first: int, second: int) -> None:
        self._words.append(high << 25 | second << 20 | first << 15 | function << 12 | target << 7 | opcode)

    # Integers

    def lui(self, target: str, value: int) -> None:
        """Load an address whose low twelve bits are zero."""
        if value & 0xFFF:
            raise ValueError(f"{value:#x} is not a multiple of 4096")
        self._words.append(value & 0xFFFF_F000 | REGISTERS[target] << 7 | 0x37)

    def addi(self, target: str, source: str, immediate: int) -> None:
        self._immediate(0x13, 0, REGISTERS[target], REGISTERS[source], immediate)

    def add(self, target: str, first: str, second: str) -> None:
        self._register(0x33, 0, 0, REGISTERS[target], REGISTERS[first], REGISTERS[second])

    def sltu(self, target: str, first: str, second: str) -> None:
        self._register(0x33, 3, 0, REGISTERS[target], REGISTERS[first], REGISTERS[second])

    def lw(self, target: str, base: str, offset: int) -> None:
        self._immediate(0x03, 2, REGISTERS[target], REGISTERS[base], offset)

    def sw(self, source: str, base: str, offset: int) -> None:
        self._store(0x23, 2, REGISTERS[source], REGISTERS[base], offset)

    def branch(self, kind: str, first: str, second: str, label: str) -> None:
        self._references.append((len(self._words), "branch", label))
        registers = REGISTERS[second] << 20 | REGISTERS[first] << 15
        self._words.append(registers | _BRANCHES[kind] << 12 | 0x63)

    def jump(self, label: str) -> None:
        self._references.append((len(self._words), "jump", label))
        self._words.append(0x6F)

    def call(self, register: str) -> None:
        """Jump to the address in a register; the return address goes to ra."""
        self._immediate(0x67, 0, REGISTERS["ra"], REGISTERS[register], 0)

    def jump_to(self, register: str) -> None:
        self._immediate(0x67, 0, 0, REGISTERS[register], 0)

    def ret(self) -> None:
        self.jump_to("ra")

    # Double precision

    def fld(self, target: str, base: str, offset: int) -> None:
        self._immediate(0x07, 3, FLOAT_REGISTERS[target], REGISTERS[base], offset)

    def fsd(self, source: str, base: str, offset: int) -> None:
        self._store(0x27, 3, FLOAT_REGISTERS[source], REGISTERS[base], offset)

    def fcvt_w_d(self, target: str, source: str, rounding: int) -> None:
        self._register(0x53, rounding, 0x61, REGISTERS[target], FLOAT_REGISTERS[source], 0)

    def fcvt_d_w(self, target: str, source: str) -> None:
        self._register(0x53, 0, 0x69, FLOAT_REGISTERS[target], REGISTERS[source], 0)

    def fsgnj_d(self, target: str, magnitude: str, sign: str) -> None:
        self._register(
            0x53, 0, 0x11, FLOAT_REGISTERS[target], FLOAT_REGISTERS[magnitude], FLOAT_REGISTERS[sign]
        )

    def fabs_d(self, target: str, source: str) -> None:
        number = FLOAT_REGISTERS[source]
        self._register(0x53, 2, 0x11, FLOAT_REGISTERS[target], number, number)

    def flt_d(self, target: str, first: str, second: str) -> None:
        self._register(0x53, 1, 0x51, REGISTERS[target], FLOAT_REGISTERS[first], FLOAT_REGISTERS[second])


def _branch_offset(offset: int) -> int:
    if not -4096 <= offset < 4096:
        raise ValueError(f"branch over {offset} bytes")
    bits = offset & 0x1FFF
    return (bits >> 12) << 31 | (bits >> 5 & 63) << 25 | (bits >> 1 & 15) << 8 | (bits >> 11 & 1) << 7


def _jump_offset(offset: int) -> int:
    bits = offset & 0x1F_FFFF
    return (bits >> 20) << 31 | (bits >> 1 & 0x3FF) << 21 | (bits >> 11 & 1) << 20 | (bits >> 12 & 0xFF) << 12
