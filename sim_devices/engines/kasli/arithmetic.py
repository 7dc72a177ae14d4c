"""Functions of the C runtime that the compiler calls: 64-bit integers, conversions, libm, memory.

They are those of the firmware's table of exports (artiq/firmware/ksupport/api.rs), not more: a kernel that
needs another function would not load on a core device either. An rv32g CPU has 32-bit integers and basic
floating-point arithmetic in hardware; what is here is rare in kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from sim_devices.engines.kasli.machine import Machine

Service = Callable[[], None]

# numpy's functions give the special values of C99 where those of `math` raise
_LIBM: dict[str, tuple[Any, int]] = {
    **{name: (getattr(np, name), 1) for name in ("cbrt", "ceil", "cos", "cosh", "exp", "expm1", "fabs")},
    **{name: (getattr(np, name), 1) for name in ("floor", "log", "log10", "rint", "sin", "sinh", "sqrt")},
    **{name: (getattr(np, name), 1) for name in ("tan", "tanh")},
    **{f"a{name}": (getattr(np, f"arc{name}"), 1) for name in ("cos", "cosh", "sin", "sinh", "tan", "tanh")},
    **{name: (getattr(np, name), 2) for name in ("copysign", "fmod", "hypot", "nextafter")},
    **{name: (getattr(special, name), 1) for name in ("erf", "erfc", "j0", "j1", "y0", "y1")},
    "atan2": (np.arctan2, 2),
    "lgamma": (special.gammaln, 1),
    "pow": (np.power, 2),
}
_MASK = (1 << 64) - 1


def _round(value: float) -> float:
    """Half away from zero, as in C; Python rounds half to even."""
    if not abs(value) < 1 << 52:
        return value
    whole = math.floor(abs(value))
    return math.copysign(whole + (abs(value) - whole >= 0.5), value)


def _to_long(value: float) -> int:
    """Saturating, as compiler-rt."""
    if math.isnan(value):
        return 0
    if abs(value) >= 2.0**63:
        return (1 << 63) - 1 if value > 0 else -(1 << 63)
    return int(value)


def _divide(dividend: int, divisor: int) -> int:
    """Towards zero, as C; by zero as the division instructions: all bits set."""
    if divisor == 0:
        return -1
    quotient = abs(dividend) // abs(divisor)
    return quotient if (dividend < 0) == (divisor < 0) else -quotient


def _remainder(dividend: int, divisor: int) -> int:
    return dividend if divisor == 0 else dividend - divisor * _divide(dividend, divisor)


def services(machine: Machine) -> dict[str, Service]:
    """The functions by their symbols."""
    return _floats(machine) | _integers(machine) | _memory(machine)


def _floats(machine: Machine) -> dict[str, Service]:
    def service(function: Any, num_arguments: int) -> Service:
        def call() -> None:
            with np.errstate(all="ignore"):
                arguments = [np.float64(machine.double_argument(i)) for i in range(num_arguments)]
                machine.set_double_result(float(function(*arguments)))

        return call

    def with_integer(function: Any) -> Service:
        def call() -> None:
            with np.errstate(all="ignore"):
                value = np.float64(machine.double_argument(0))
                machine.set_double_result(float(function(value, machine.signed_argument(0))))

        return call

    return {name: service(*entry) for name, entry in _LIBM.items()} | {
        "round": lambda: machine.set_double_result(_round(machine.double_argument(0))),
        "ldexp": with_integer(np.ldexp),
        "__powidf2": with_integer(np.power),
        "jn": with_integer(lambda value, order: special.jn(order, value)),
        "yn": with_integer(lambda value, order: special.yn(order, value)),
        "__floatdidf": lambda: machine.set_double_result(float(machine.long_argument(0))),
        "__fixdfdi": lambda: machine.set_long_result(_to_long(machine.double_argument(0))),
    }


def _integers(machine: Machine) -> dict[str, Service]:
    def long(operation: Callable[[int, int], int]) -> Service:
        return lambda: machine.set_long_result(operation(machine.long_argument(0), machine.long_argument(2)))

    def unsigned(operation: Callable[[int, int], int]) -> Service:
        return long(lambda first, second: operation(first & _MASK, second & _MASK))

    def shift(operation: Callable[[int, int], int]) -> Service:
        return lambda: machine.set_long_result(operation(machine.long_argument(0), machine.argument(2) & 63))

    def word(operation: Callable[[int, int], int]) -> Service:
        return lambda: machine.set_result(operation(machine.signed_argument(0), machine.signed_argument(1)))

    return {
        "__divdi3": long(_divide),
        "__moddi3": long(_remainder),
        "__muldi3": long(lambda first, second: first * second),
        "__udivdi3": unsigned(_divide),
        "__umoddi3": unsigned(_remainder),
        "__ashldi3": shift(lambda value, by: value << by),
        "__ashrdi3": shift(lambda value, by: value >> by),
        "__lshrdi3": shift(lambda value, by: (value & _MASK) >> by),
        "__divsi3": word(_divide),
        "__modsi3": word(_remainder),
    }


def _memory(machine: Machine) -> dict[str, Service]:
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
        **{"memcpy": copy, "memmove": copy, "memset": fill},
        **{"memcmp": compare, "bcmp": compare, "strlen": length},
    }
