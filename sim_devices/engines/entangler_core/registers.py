"""Register map of the entangler core, and the words that its driver writes.

Addresses with bit 5 set are read, all others are written (`entangler/driver.py`, `entangler/phy.py`).
"""

from collections.abc import Sequence

COARSE_MU = 8
"""Machine units (1 ns) in a coarse cycle."""

STROBE_DELAY = 1
"""Coarse cycles from an event to the core's strobe: n attempts end n (N + 4) + 2 after the run event."""

RTIO_STROBE_DELAY = 9
"""The same behind the eight lanes of ARTIQ's RTIO core: n attempts end n (N + 4) + 10 after the event.

Input events are stamped without a delay, so the output lanes' latency shows in the time of a run's end.
"""

TIMEOUT_REASON = 0x3FFF
"""Reason of a run that ended without a herald."""

CONFIG = 0x00
RUN = 0x01
CYCLE_LENGTH = 0x02
HERALDS = 0x03
TIMING = 0x08
"""First of eight timing registers: four sequencer outputs, then the gates of the four detectors."""
COUNTER_PATTERNS = 0x10
"""First of the registers with the patterns of the four pattern counters."""
STATUS = 0x20
NUM_CYCLES = 0x21
TIME_REMAINING = 0x22
NUM_TRIGGERS = 0x23
TIMESTAMPS = 0x28
"""First of five timestamps: four detectors, then the reference."""
COUNTS = 0x30
"""First of eight counters: clicks of the four detectors, then the four pattern counters."""

READY, SUCCESS, TIMED_OUT = 1, 2, 4
"""Bits of the status register."""

NUM_DETECTORS = 4
NUM_SLOTS = 4
"""Patterns that herald, and patterns of each pattern counter."""

CYCLE_MASK = 0x3FF
"""Width of the state machine's counter and of the cycle length."""
OUTPUT_MASK = 0x7FF
"""Width of the outputs' times, in coarse cycles."""
MASK_14 = 0x3FFF
"""Width of the gates' times in ns, of the event counters and of every value that is read."""
DURATION_MASK = 0xFFFFFFFF


def heralds_word(patterns: Sequence[int]) -> int:
    """Data of the `HERALDS` register for up to four patterns, detector 0 in bit 0.

    The remaining slots hold 0000 and are disabled. They do not herald, but the reason has their bits set
    where no detector clicked. Raises ValueError for more than four patterns.
    """
    if len(patterns) > NUM_SLOTS:
        raise ValueError(
            f"{len(patterns)} patterns, but the entangler core has {NUM_SLOTS} slots: leave some out"
        )
    return sum((pattern & 0xF) << 4 * slot | 1 << 16 + slot for slot, pattern in enumerate(patterns))


def counter_patterns_word(patterns: Sequence[int]) -> int:
    """Data of a `COUNTER_PATTERNS` register for one to four patterns; the first fills the other slots.

    Raises ValueError for another number of patterns.
    """
    if not 1 <= len(patterns) <= NUM_SLOTS:
        raise ValueError(f"{len(patterns)} patterns, but a pattern counter takes 1 to {NUM_SLOTS}")
    return heralds_word([*patterns, *[patterns[0]] * (NUM_SLOTS - len(patterns))])


def timing_word(channel: int, start_ns: int, stop_ns: int) -> int:
    """Data of timing register `channel` (`TIMING` to `TIMING` + 7), with the driver's rounding and its
    offset.

    An output's times count from the start of the attempt, in whole coarse cycles; a gate's count from the
    reference. The driver adds one unit to either: a gate sees edges from start + 1 to stop + 1 inclusively.
    """
    shift = 3 if channel < TIMING + NUM_DETECTORS else 0
    start, stop = ((time >> shift) + 1 & MASK_14 for time in (start_ns, stop_ns))
    return stop << 16 | start
