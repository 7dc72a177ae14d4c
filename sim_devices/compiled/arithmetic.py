"""Functions of the C runtime that the compiler calls: 64-bit integers, conversions, libm, memory.

Named as in the firmware's table of exports (artiq/firmware/ksupport/api.rs). An rv32g CPU has 32-bit integer
and all floating-point arithmetic in hardware; what is here is slow, and rare in kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from sim_devices.compiled.machine import Machine

_ONE = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "cbrt",
    "ceil",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "expm1",
    "fabs",
    "floor",
    "lgamma",
    "log",
    "log10",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
]
_TWO = ["atan2", "copysign", "fmod", "hypot", "nextafter", "pow"]


def _libm(name: str, *values: float) -> float:
    """C99 results where Python raises: nan for domain errors, infinities for poles and overflow."""
    if name in ("ceil", "floor") and not math.isfinite(values[0]):
        return values[0]
    try:
        return float(getattr(math, name)(*values))
    except OverflowError:
        odd = name == "pow" and values[0] < 0 and math.fmod(values[1], 2.0) != 0.0
        negative = odd or (name == "sinh" and values[0] < 0)
        return -math.inf if negative else math.inf
    except ValueError:
        if name in ("log", "log10") and values[0] == 0:
            return -math.inf
        if name == "pow" and values[0] == 0:
            return math.copysign(math.inf, values[0]) if math.fmod(values[1], 2.0) else math.inf
        if name == "atanh" and abs(values[0]) == 1:
            return math.copysign(math.inf, values[0])
        return math.inf if name == "lgamma" else math.nan


def _round(value: float) -> float:
    """Half away from zero, as C; Python rounds half to even."""
    if not math.isfinite(value) or abs(value) >= 1 << 52:
        return value
    return math.copysign(math.floor(abs(value) + 0.5) if abs(value) != 0.49999999999999994 else 0.0, value)


def _rint(value: float) -> float:
    return value if not math.isfinite(value) else math.copysign(float(round(value)), value)


def _to_long(value: float) -> int:
    if math.isnan(value):
        return (1 << 63) - 1
    return max(
        -(1 << 63),
        min((1 << 63) - 1, int(value) if math.isfinite(value) else int(value > 0) * (1 << 64) - (1 << 63)),
    )


def _divide(dividend: int, divisor: int) -> int:
    """Towards zero, as C; by zero as the division instructions: all bits set."""
    if divisor == 0:
        return -1
    quotient = abs(dividend) // abs(divisor)
    return quotient if (dividend < 0) == (divisor < 0) else -quotient


def _remainder(dividend: int, divisor: int) -> int:
    return dividend if divisor == 0 else dividend - divisor * _divide(dividend, divisor)


def services(machine: Machine) -> dict[str, Callable[[], None]]:
    """The functions by their symbols."""
    result: dict[str, Callable[[], None]] = {}

    def unary(name: str) -> Callable[[], None]:
        return lambda: machine.set_double_result(_libm(name, machine.double_argument(0)))

    def binary(name: str) -> Callable[[], None]:
        return lambda: machine.set_double_result(
            _libm(name, machine.double_argument(0), machine.double_argument(1))
        )

    def long(operation: Callable[[int, int], int]) -> Callable[[], None]:
        return lambda: machine.set_long_result(operation(machine.long_argument(0), machine.long_argument(2)))

    def unsigned(operation: Callable[[int, int], int]) -> Callable[[], None]:
        mask = (1 << 64) - 1
        return lambda: machine.set_long_result(
            operation(machine.long_argument(0) & mask, machine.long_argument(2) & mask)
        )

    def shift(operation: Callable[[int, int], int]) -> Callable[[], None]:
        return lambda: machine.set_long_result(operation(machine.long_argument(0), machine.argument(2) & 63))

    def integer(operation: Callable[[int, int], int]) -> Callable[[], None]:
        return lambda: machine.set_result(operation(machine.signed_argument(0), machine.signed_argument(1)))

    result |= {name: unary(name) for name in _ONE}
    result |= {name: binary(name) for name in _TWO}
    result |= {
        "round": lambda: machine.set_double_result(_round(machine.double_argument(0))),
        "rint": lambda: machine.set_double_result(_rint(machine.double_argument(0))),
        "trunc": lambda: machine.set_double_result(_trunc(machine.double_argument(0))),
        "ldexp": lambda: machine.set_double_result(
            _libm("ldexp", machine.double_argument(0), machine.signed_argument(0))
        ),
        "__powidf2": lambda: machine.set_double_result(
            _libm("pow", machine.double_argument(0), float(machine.signed_argument(0)))
        ),
        "__divdi3": long(_divide),
        "__moddi3": long(_remainder),
        "__muldi3": long(lambda first, second: first * second),
        "__udivdi3": unsigned(lambda first, second: first // second if second else -1),
        "__umoddi3": unsigned(lambda first, second: first % second if second else first),
        "__ashldi3": shift(lambda value, by: value << by),
        "__ashrdi3": shift(lambda value, by: value >> by),
        "__lshrdi3": shift(lambda value, by: (value & (1 << 64) - 1) >> by),
        "__divsi3": integer(_divide),
        "__modsi3": integer(_remainder),
        "__floatdidf": lambda: machine.set_double_result(float(machine.long_argument(0))),
        "__floatundidf": lambda: machine.set_double_result(float(machine.long_argument(0) & (1 << 64) - 1)),
        "__fixdfdi": lambda: machine.set_long_result(_to_long(machine.double_argument(0))),
        "__fixunsdfdi": lambda: machine.set_long_result(
            max(0, min((1 << 64) - 1, int(machine.double_argument(0))))
        ),
    }
    return result | _memory(machine)


def _trunc(value: float) -> float:
    return math.copysign(math.floor(abs(value)), value) if math.isfinite(value) else value


def _memory(machine: Machine) -> dict[str, Callable[[], None]]:
    def copy() -> None:
        machine.write(machine.argument(0), machine.read(machine.argument(1), machine.argument(2)))

    def fill() -> None:
        machine.write(machine.argument(0), bytes([machine.argument(1) & 0xFF]) * machine.argument(2))

    def compare() -> None:
        size = machine.argument(2)
        first, second = machine.read(machine.argument(0), size), machine.read(machine.argument(1), size)
        machine.set_result((first > second) - (first < second))

    def length() -> None:
        address = machine.argument(0)
        count = 0
        while machine.read(address + count, 1) != b"\0":
            count += 1
        machine.set_result(count)

    return {
        "memcpy": copy,
        "memmove": copy,
        "memset": fill,
        "memcmp": compare,
        "bcmp": compare,
        "strlen": length,
    }
