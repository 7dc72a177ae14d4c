"""Exact cyclic convolution of bit strings, by a number-theoretic transform.

The transform is a discrete Fourier transform in the field of p = 3 * 2^30 + 1 elements, which has roots of
unity of every order 2^k up to 2^30. A convolution of two strings of 0 and 1 counts coincidences; a count is
at most the length of the shorter string, hence below p, and comes out exactly: nothing is rounded anywhere.

Products are reduced by Montgomery's method with R = 2^32, in the form that subtracts, so that p may exceed
2^31: r = floor(t / R) - floor(((t mod R) p^-1 mod R) p / R), plus p where negative, is t / R modulo p.
Twiddle factors are kept as w R, so that their products need no conversion.

The forward transform decimates in frequency (natural order in, bit-reversed out), the backward one in time
(the reverse), so that no permutation is needed. Blocks that fit the cache run through all their remaining
stages at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba import njit, uint32, uint64, void

PRIME = 3 * 2**30 + 1
GENERATOR = 5
"""Generates the multiplicative group: 5^((p-1)/2) and 5^((p-1)/3) differ from 1, and p - 1 = 2^30 * 3."""

MAX_LOG2_LENGTH = 30

_INVERSE = pow(PRIME, -1, 2**32)
_LOG2_BLOCK = 13

_P = np.uint64(PRIME)
_P_INVERSE = np.uint64(_INVERSE)
_LOW_HALF = np.uint64(2**32 - 1)
_HALF_WORD = np.uint64(32)

Words = npt.NDArray[np.uint32]


@njit(uint64(uint64, uint64), inline="always", cache=True)
def _product(a, b):  # type: ignore[no-untyped-def]
    """a b / 2^32 modulo p, for a b < 2^32 p."""
    t = a * b
    m = ((t & _LOW_HALF) * _P_INVERSE) & _LOW_HALF
    high = t >> _HALF_WORD
    subtrahend = (m * _P) >> _HALF_WORD
    return high - subtrahend if high >= subtrahend else high + _P - subtrahend


@njit(void(uint32[::1], uint32[::1], uint64, uint64, uint64), nogil=True, cache=True)
def _forward_stage(values, twiddles, start, stop, half):  # type: ignore[no-untyped-def]
    for block in range(start, stop, 2 * half):
        low, high = values[block : block + half], values[block + half : block + 2 * half]
        factors = twiddles[half : 2 * half]
        for j in range(half):
            u, v = uint64(low[j]), uint64(high[j])
            total = u + v
            low[j] = uint32(total - _P if total >= _P else total)
            high[j] = uint32(_product(u - v if u >= v else u + _P - v, uint64(factors[j])))


@njit(void(uint32[::1], uint32[::1], uint64, uint64, uint64), nogil=True, cache=True)
def _backward_stage(values, twiddles, start, stop, half):  # type: ignore[no-untyped-def]
    for block in range(start, stop, 2 * half):
        low, high = values[block : block + half], values[block + half : block + 2 * half]
        factors = twiddles[half : 2 * half]
        for j in range(half):
            u, v = uint64(low[j]), _product(uint64(high[j]), uint64(factors[j]))
            total = u + v
            low[j] = uint32(total - _P if total >= _P else total)
            high[j] = uint32(u - v if u >= v else u + _P - v)


@njit(void(uint32[::1], uint32[::1], uint64), nogil=True, cache=True)
def _forward(values, twiddles, block):  # type: ignore[no-untyped-def]
    length = uint64(values.size)
    half = length // 2
    while 2 * half > block and half > 0:
        _forward_stage(values, twiddles, 0, length, half)
        half //= 2
    for start in range(0, length, block):
        inner = min(half, block // 2)
        while inner > 0:
            _forward_stage(values, twiddles, start, start + block, inner)
            inner //= 2


@njit(void(uint32[::1], uint32[::1], uint64), nogil=True, cache=True)
def _backward(values, twiddles, block):  # type: ignore[no-untyped-def]
    length = uint64(values.size)
    for start in range(0, length, block):
        half = uint64(1)
        while 2 * half <= block:
            _backward_stage(values, twiddles, start, start + block, half)
            half *= 2
    half = block
    while 2 * half <= length:
        _backward_stage(values, twiddles, 0, length, half)
        half *= 2


@njit(void(uint32[::1], uint32[::1], uint64), nogil=True, cache=True)
def _multiply(values, others, factor):  # type: ignore[no-untyped-def]
    """values <- values * others * factor / 2^64."""
    for i in range(values.size):
        values[i] = uint32(_product(_product(uint64(values[i]), uint64(others[i])), factor))


@njit(void(uint32[::1], uint64, uint64), nogil=True, cache=True)
def _fill_powers(powers, root, one):  # type: ignore[no-untyped-def]
    """powers[j] = root^j; root and one as multiples of 2^32."""
    power = one
    for j in range(powers.size):
        powers[j] = uint32(power)
        power = _product(power, root)


@lru_cache(maxsize=2)
def _twiddles(log2_length: int, inverse: bool) -> Words:
    """(2^k,) uint32: at [h, 2h) the powers of the root of order 2h, times 2^32, for h = 1, 2, 4, ..."""
    length = 1 << log2_length
    table = np.zeros(max(length, 2), dtype=np.uint32)
    one = (1 << 32) % PRIME
    half = length // 2
    if half:
        root = pow(GENERATOR, (PRIME - 1) // length, PRIME)
        root = pow(root, -1, PRIME) if inverse else root
        _fill_powers(table[half : 2 * half], np.uint64(root * one % PRIME), np.uint64(one))
    while half > 1:
        table[half // 2 : half] = table[half : 2 * half : 2]
        half //= 2
    return table


def cyclic_convolution(
    first: npt.NDArray[np.uint8],
    second: npt.NDArray[np.uint8],
    log2_length: int,
    between: Callable[[int], None] = lambda step: None,
) -> Words:
    """(2^k,) uint32: sum over j of first[j] second[i - j], indices modulo 2^k.

    first, second: uint8 of 0 and 1, at most 2^k long, zeros where they are shorter. between: called with
    1, 2, 3 after each of the three transforms.
    """
    if not 0 <= log2_length <= MAX_LOG2_LENGTH:
        raise ValueError(f"log2_length={log2_length} is outside [0, {MAX_LOG2_LENGTH}]")
    length = 1 << log2_length
    block = np.uint64(min(length, 1 << _LOG2_BLOCK))
    table = _twiddles(log2_length, False)
    transforms = []
    for step, bits in enumerate((first, second), start=1):
        values = np.zeros(length, dtype=np.uint32)
        values[: bits.size] = bits
        _forward(values, table, block)
        transforms.append(values)
        between(step)
    product, other = transforms
    # The pointwise product divides by 2^64, the factor restores that and divides by the length.
    factor = pow(length, -1, PRIME) * pow(2, 64, PRIME) % PRIME
    _multiply(product, other, np.uint64(factor))
    _backward(product, _twiddles(log2_length, True), block)
    between(3)
    return product
