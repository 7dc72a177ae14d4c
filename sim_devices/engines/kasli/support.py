"""Machine code of the emulated CPU that a kernel is linked to.

On a core device, the symbols that a kernel imports are functions of the firmware. Here each is a stub in one
page of emulated memory. Most stubs store the registers in a mailbox, write to a trap page (which calls the
emulator's Python side, see `machine`), wait until the mailbox says that the call is done, and return; or, if
an exception unwound the stack meanwhile, load the registers of the landing pad and go there.

Calls into Python cost microseconds, and RTIO outputs are most of a kernel. So `rtio_output` does its work in
emulated code: it checks for underflow, takes its CPU time, and leaves the event in a ring that Python reads
at the next trap. The same holds for `rtio_get_counter`, `round` and `floor`.
"""

from __future__ import annotations

from sim_devices.engines.kasli.assembler import (
    FLOAT_REGISTERS,
    REGISTERS,
    ROUND_DOWN,
    ROUND_NEAREST_AWAY,
    Assembler,
)

CODE = 0x4000_0000  # support code
TRAP = 0x4100_0000  # writes here call Python
MAILBOX = 0x4200_0000
RING = 0x4201_0000
RING_SIZE = 0x1_0000
HEAP = 0x4300_0000  # cache rows and exceptions, which outlive a kernel's stack frames
HEAP_SIZE = 0x40_0000
PAGE = 0x1000

# Offsets in the mailbox. General registers, then floating-point registers, by their number.
X = 0
F = 0x100
SERVICE = 0x200
STATUS = 0x204
NOW_HI = 0x210
NOW_LO = 0x218
"""The cursor as the compiler addresses it: high word first, eight bytes apart (`CSR` layout of rv32g)."""
COUNTER = 0x220
OUTPUT_COST = 0x228
RING_NEXT = 0x22C
RING_END = 0x230
COUNTER_COST = 0x234
READS_LEFT = 0x240
"""Readings of the counter that go by before Python looks whether the kernel waits for it."""
LIMIT = 0x238
"""2^31 as a double: numbers below convert to integers by one instruction."""
RING_ENTRY = 16

WAITING, RETURN, RESTORE = 0, 1, 2

_SAVED = ("ra", "sp", *(f"s{i}" for i in range(12)))
_SAVED_FLOATS = tuple(f"fs{i}" for i in range(12))
_ARGUMENTS = tuple(f"a{i}" for i in range(8))
_FLOAT_ARGUMENTS = tuple(f"fa{i}" for i in range(3))

START, FINISHED, FLUSH, LATE, SPIN = "start", "finished", "flush", "late", "spin"


def support_code(services: list[str]) -> tuple[bytes, dict[str, int]]:
    """Code at `CODE` and the addresses of its symbols.

    A trap passes the index of its service in `services`, which must contain FINISHED, FLUSH, LATE and SPIN.
    """
    a = Assembler(CODE)
    natives = {"rtio_output": _output, "rtio_get_counter": _get_counter, "round": _round, "floor": _floor}
    a.label(START)
    a.call("a0")
    a.label("end")
    _trap(a, services.index(FINISHED))
    _common(a)
    for index, service in enumerate(services):
        if service not in natives and service not in (FINISHED, FLUSH, LATE, SPIN):
            a.label(service)
            _trap(a, index)
    for name, native in natives.items():
        a.label(name)
        native(a, services)
    code = a.code()
    return code, a.labels


def _trap(a: Assembler, index: int) -> None:
    a.addi("t1", "zero", index)
    a.jump("trap")


def _common(a: Assembler) -> None:
    a.label("trap")
    a.lui("t0", MAILBOX)
    for name in (*_SAVED, *_ARGUMENTS):
        a.sw(name, "t0", X + 4 * REGISTERS[name])
    for name in (*_SAVED_FLOATS, *_FLOAT_ARGUMENTS):
        a.fsd(name, "t0", F + 8 * FLOAT_REGISTERS[name])
    a.sw("t1", "t0", SERVICE)
    a.sw("zero", "t0", STATUS)
    a.lui("t2", TRAP)
    a.sw("t1", "t2", 0)
    a.label("wait")
    a.lw("t1", "t0", STATUS)
    a.branch("beq", "t1", "zero", "wait")
    a.addi("t1", "t1", -RETURN)
    a.branch("bne", "t1", "zero", "restore")
    a.lw("a0", "t0", X + 4 * REGISTERS["a0"])
    a.lw("a1", "t0", X + 4 * REGISTERS["a1"])
    a.fld("fa0", "t0", F + 8 * FLOAT_REGISTERS["fa0"])
    a.ret()
    # To the landing pad: its address is in the place of ra.
    a.label("restore")
    for name in _SAVED_FLOATS:
        a.fld(name, "t0", F + 8 * FLOAT_REGISTERS[name])
    for name in (*_SAVED, "a0", "a1"):
        a.lw(name, "t0", X + 4 * REGISTERS[name])
    a.ret()


def _output(a: Assembler, services: list[str]) -> None:
    """rtio_output(target, data): the counter takes the cost; an event before it is late."""
    a.lui("t0", MAILBOX)
    a.lw("t4", "t0", COUNTER)
    a.lw("t5", "t0", COUNTER + 4)
    a.lw("t6", "t0", OUTPUT_COST)
    a.lw("t2", "t0", NOW_LO)
    a.lw("t3", "t0", NOW_HI)
    a.add("t4", "t4", "t6")
    a.sltu("t6", "t4", "t6")
    a.add("t5", "t5", "t6")
    a.branch("blt", "t3", "t5", "output_late")
    a.branch("bne", "t3", "t5", "output_in_time")
    a.branch("bltu", "t2", "t4", "output_late")
    a.label("output_in_time")
    a.lw("t1", "t0", RING_NEXT)
    a.lw("t6", "t0", RING_END)
    a.sw("t4", "t0", COUNTER)
    a.sw("t5", "t0", COUNTER + 4)
    a.sw("a0", "t1", 0)
    a.sw("a1", "t1", 4)
    a.sw("t2", "t1", 8)
    a.sw("t3", "t1", 12)
    a.addi("t1", "t1", RING_ENTRY)
    a.sw("t1", "t0", RING_NEXT)
    a.branch("bgeu", "t1", "t6", "output_full")
    a.ret()
    a.label("output_full")
    _trap(a, services.index(FLUSH))
    a.label("output_late")
    _trap(a, services.index(LATE))


def _get_counter(a: Assembler, services: list[str]) -> None:
    """rtio_get_counter() -> i64. Reading takes time, so that waiting for the counter ends."""
    a.lui("t0", MAILBOX)
    a.lw("a0", "t0", COUNTER)
    a.lw("a1", "t0", COUNTER + 4)
    a.lw("t6", "t0", COUNTER_COST)
    a.add("t4", "a0", "t6")
    a.sltu("t6", "t4", "t6")
    a.add("t5", "a1", "t6")
    a.sw("t4", "t0", COUNTER)
    a.sw("t5", "t0", COUNTER + 4)
    a.lw("t6", "t0", READS_LEFT)
    a.addi("t6", "t6", -1)
    a.sw("t6", "t0", READS_LEFT)
    a.branch("beq", "t6", "zero", "spin")
    a.ret()
    a.label("spin")
    _trap(a, services.index(SPIN))


def _to_integral(a: Assembler, name: str, rounding: int, service: int) -> None:
    """fa0 = fa0 rounded to an integer; what does not fit in 32 bits goes to Python."""
    a.lui("t0", MAILBOX)
    a.fld("ft0", "t0", LIMIT)
    a.fabs_d("ft1", "fa0")
    a.flt_d("t1", "ft1", "ft0")
    a.branch("beq", "t1", "zero", f"{name}_large")
    a.fcvt_w_d("t1", "fa0", rounding)
    a.fcvt_d_w("ft1", "t1")
    a.fsgnj_d("fa0", "ft1", "fa0")
    a.ret()
    a.label(f"{name}_large")
    _trap(a, service)


def _round(a: Assembler, services: list[str]) -> None:
    _to_integral(a, "round", ROUND_NEAREST_AWAY, services.index("round"))


def _floor(a: Assembler, services: list[str]) -> None:
    _to_integral(a, "floor", ROUND_DOWN, services.index("floor"))
