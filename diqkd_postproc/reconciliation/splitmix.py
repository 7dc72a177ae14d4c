"""A public pseudo-random sequence that both parties can reproduce bit for bit.

The code construction and the position shuffle must come out the same at both nodes, whatever versions of
numpy they run; numpy promises that for no distribution of `Generator`. So the rule is spelled out here:
SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), whose state
advances by a constant and whose output is a bijective mix of the state, and integers below a bound from the
high 32 bits by multiplication and shift. Nothing here is secret; the small bias of that map is harmless.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

INCREMENT = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)


@nb.njit("uint64(uint64[::1])", cache=True, nogil=True)
def next_word(state):  # type: ignore[no-untyped-def]
    """Advance `state` ((1,) uint64) and return the next 64-bit word."""
    state[0] = state[0] + INCREMENT
    z = state[0]
    z = (z ^ (z >> _S30)) * MIX_1
    z = (z ^ (z >> _S27)) * MIX_2
    return z ^ (z >> _S31)


@nb.njit("int64(uint64[::1], int64)", cache=True, nogil=True)
def below(state, bound):  # type: ignore[no-untyped-def]
    """Next integer in [0, bound), 1 <= bound < 2**32: the high half of the word, scaled."""
    return np.int64(((next_word(state) >> _S32) * np.uint64(bound)) >> _S32)


@nb.njit("void(uint64[::1], int32[::1])", cache=True, nogil=True)
def shuffle(state, values):  # type: ignore[no-untyped-def]
    """Fisher-Yates shuffle in place, from the last element down."""
    for i in range(values.size - 1, 0, -1):
        j = below(state, i + 1)
        held = values[i]
        values[i] = values[j]
        values[j] = held


def new_state(seed: int) -> NDArray[np.uint64]:
    """State of a sequence; seeds that differ in any of 64 bits give unrelated sequences."""
    return np.array([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64)


def permutation(seed: int, size: int) -> NDArray[np.int32]:
    """Pseudo-random permutation of range(size), (size,) int32.

    `shuffle` of range(size) from `new_state(seed)`; part of the definition of every code.
    """
    values = np.arange(size, dtype=np.int32)
    shuffle(new_state(seed), values)
    return values
