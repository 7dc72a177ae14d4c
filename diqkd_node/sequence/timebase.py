"""Seconds to machine units, as the compiler does it.

`core.seconds_to_mu` floors on the host and rounds in a kernel; 300 us would differ by one unit. All times
are therefore converted once, here, in `prepare()`.
"""

from numpy import int32, int64

CYCLE_MU = int64(8)
"""A coarse cycle, in which the core device's eight lanes take eight output events; a ninth would be dropped
with a sequence error."""


def machine_units(core, seconds: float) -> int64:
    """Nearest whole number of RTIO reference periods in `seconds`: what timeline functions take."""
    return int64(round(seconds / core.ref_period))


def register_units(core, seconds: float) -> int32:
    """The same as a 32-bit number, for drivers that write a time into a register."""
    return int32(round(seconds / core.ref_period))
