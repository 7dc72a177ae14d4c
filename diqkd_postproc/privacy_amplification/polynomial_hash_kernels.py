"""Compiled kernels of the one-bit extractor: many output bits of one source, each with its own seed bits.

For output i, with evaluation point x and Hadamard mask h in GF(2^k) picked from the seed by the weak design,
the bit is the parity of h & P(x), P(x) = sum over e < N of d_e x^e and d_e the coefficients of the source.

*Carry-less kernel.* The powers x^0 ... x^{B-1} are computed once an output (baby steps), and the powers of
y = x^B (giant steps). Each block of B coefficients gives an unreduced dot product with the baby powers; the
blocks' sums are reduced together, `lanes` at a time, and their dot product with the giant powers is P(x).
Dot products take half a multiplication a coefficient (`carryless.pairwise_dot`); the sums over the
coefficients alone that this needs are the same for every output and are made once (`block_offsets`).

*Portable kernel.* Horner's rule in several interleaved chains, all of which multiply by the same y = x^c; so
multiplying is one table look-up and XOR a byte. The table of k/8 times 256 multiples is rebuilt for each
output. Table look-ups at secret addresses leave traces in the cache that another user of the *same machine*
could in principle read; the node's post-processing computer is inside the trusted laboratory.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, no-any-return"

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types

from diqkd_postproc.fields import carryless
from diqkd_postproc.fields.carryless import multiply_rows, pairwise_dot, reduce_rows

_U64 = types.uint64
_WORDS = types.Array(_U64, 1, "C")
_POSITIONS = types.Array(types.int64, 1, "C")
_BITS = types.Array(types.uint8, 1, "C", readonly=True)
_OUT = types.Array(types.uint8, 1, "C")
MAX_DIGITS = 64  # of a 63-bit number in any base
PORTABLE_CHAINS = 8
TABLE_BITS = 8
TABLE_SIZE = 1 << TABLE_BITS
# numba caches on disk by the file that a kernel is in and by the variables that it closes over, not by the
# intrinsics that it calls. Closing over their digest keeps a stale kernel from making another key.
_INTRINSICS = hashlib.sha256(Path(carryless.__file__).read_bytes()).hexdigest()


@njit(types.void(types.int64, _POSITIONS, types.int64, _BITS, types.int64, _WORDS), cache=True, nogil=True)
def pick_seed_bits(index, block_starts, field_size, seed, degree, picked):
    """Evaluation point and mask of output `index`, as two elements of len(picked)/2 words each.

    The set's first `degree` elements give the point, the next `degree` the mask, highest coefficient first
    (see weak_design.BlockWeakDesign.members).
    """
    block = 0
    while block_starts[block + 1] <= index:
        block += 1
    number = index - block_starts[block]
    digits = np.zeros(MAX_DIGITS, np.int64)
    num_digits = 0
    while num_digits == 0 or number > 0:
        digits[num_digits] = number % field_size
        number //= field_size
        num_digits += 1
    base = block * field_size * field_size
    words = len(picked) // 2
    for half in range(2):
        for word in range(words):
            picked[half * words + word] = np.uint64(0)
        for i in range(degree):
            point = half * degree + i
            value = np.int64(0)
            for digit in range(num_digits - 1, -1, -1):
                value = (value * point + digits[digit]) % field_size
            bit = np.uint64(seed[base + value * field_size + point])
            position = degree - 1 - i
            picked[half * words + (position >> 6)] |= bit << np.uint64(position & 63)


@njit(types.uint8(_U64), cache=True, nogil=True)
def _parity(value):
    for shift in (32, 16, 8, 4, 2, 1):
        value ^= value >> np.uint64(shift)
    return np.uint8(value & np.uint64(1))


@cache
def carryless_kernel(words: int, lanes: int, tail_words: int) -> Callable[..., Any]:
    """Kernel `(first, last, rows, block_offsets, baby_rows, field, block_starts, field_size, seed, degree,
    out)`.

    rows: coefficients, coefficient e in row e // lanes, lane e % lanes, row-major (rows, words, lanes), zero
    padded to whole blocks of `baby_rows` rows (even); block_offsets: see `block_offsets_kernel`; `out`:
    (last - first,) uint8. Compiled with an explicit signature on the first call, and cached on disk.
    """
    row_words = words * lanes
    intrinsics = _INTRINSICS

    signature = types.void(
        types.int64, types.int64, _WORDS, _WORDS, types.int64, _WORDS,
        _POSITIONS, types.int64, _BITS, types.int64, _OUT,
    )  # fmt: skip

    @njit(signature, cache=True, nogil=True)
    def kernel(
        first, last, rows, block_offsets, baby_rows, field, block_starts, field_size, seed, degree, out
    ):
        _ = intrinsics
        row_bytes = 8 * row_words
        block_bytes = row_bytes * baby_rows
        num_blocks = len(rows) // (row_words * baby_rows)
        giant_rows = 2 * ((num_blocks + 2 * lanes - 1) // (2 * lanes))
        most_rows = max(baby_rows, giant_rows)
        zeros = np.zeros(most_rows * row_words + 8, np.uint64)
        baby = np.zeros(baby_rows * row_words + 8, np.uint64)
        giant = np.zeros(giant_rows * row_words + 8, np.uint64)
        unreduced = np.zeros(2 * giant_rows * row_words, np.uint64)
        sums = np.zeros(giant_rows * row_words + 8, np.uint64)
        step = np.zeros(row_words, np.uint64)
        factor = np.zeros(row_words, np.uint64)
        picked = np.zeros(2 * words, np.uint64)
        total = np.zeros(2 * words, np.uint64)
        part = np.zeros(2 * words, np.uint64)
        final = np.zeros(2 * row_words, np.uint64)
        field_at = field.ctypes.data
        step_at = step.ctypes.data
        factor_at = factor.ctypes.data
        part_at = part.ctypes.data
        # Rows start on cache lines.
        align = (64 - baby.ctypes.data % 64) % 64
        baby_at = baby.ctypes.data + align
        giant_align = (64 - giant.ctypes.data % 64) % 64
        giant_at = giant.ctypes.data + giant_align
        sums_at = sums.ctypes.data + (64 - sums.ctypes.data % 64) % 64
        zeros_at = zeros.ctypes.data
        rows_at = rows.ctypes.data

        for index in range(first, last):
            pick_seed_bits(index, block_starts, field_size, seed, degree, picked)
            for word in range(words):
                for lane in range(lanes):
                    step[word * lanes + lane] = picked[word]
            for stage in range(2):
                target_at = baby_at if stage == 0 else giant_at
                target = baby if stage == 0 else giant
                start = (align if stage == 0 else giant_align) // 8
                num_rows = baby_rows if stage == 0 else giant_rows
                # Row 0: powers 0 ... lanes-1, by the binary digits of the lane number.
                for position in range(row_words):
                    target[start + position] = np.uint64(1 if position < lanes else 0)
                digit = 1
                while digit < lanes:
                    for position in range(row_words):
                        factor[position] = np.uint64(1 if position < lanes else 0)
                        if (position % lanes) & digit:
                            factor[position] = step[position]
                    multiply_rows(words, lanes, tail_words, field_at, target_at, factor_at, 1, 1, target_at)
                    multiply_rows(words, lanes, tail_words, field_at, step_at, step_at, 1, 1, step_at)
                    digit *= 2
                # Rows filled -> 2 filled; step = (power of the filled elements).
                filled = 1
                while filled < num_rows:
                    count = min(filled, num_rows - filled)
                    multiply_rows(
                        words, lanes, tail_words, field_at, target_at, step_at, 0, count,
                        target_at + filled * row_bytes,
                    )  # fmt: skip
                    filled *= 2
                    if filled < num_rows:
                        multiply_rows(words, lanes, tail_words, field_at, step_at, step_at, 1, 1, step_at)
                if stage == 0:
                    # x^B = x^{B-1} x: the last baby power, times power 1.
                    for word in range(words):
                        last_power = baby[start + (baby_rows - 1) * row_words + word * lanes + lanes - 1]
                        for lane in range(lanes):
                            step[word * lanes + lane] = last_power
                            factor[word * lanes + lane] = picked[word]
                    multiply_rows(words, lanes, tail_words, field_at, step_at, factor_at, 1, 1, step_at)

            pairwise_dot(words, lanes, zeros_at, baby_at, baby_rows // 2, total.ctypes.data)
            for block in range(num_blocks):
                pairwise_dot(words, lanes, rows_at + block * block_bytes, baby_at, baby_rows // 2, part_at)
                base = (block // lanes) * 2 * row_words + block % lanes
                for word in range(2 * words):
                    unreduced[base + word * lanes] = (
                        part[word] ^ total[word] ^ block_offsets[block * 2 * words + word]
                    )
            reduce_rows(words, lanes, tail_words, field_at, unreduced.ctypes.data, giant_rows, sums_at)
            pairwise_dot(words, lanes, sums_at, giant_at, giant_rows // 2, part_at)
            for word in range(2 * words):
                final[word * lanes] = part[word]
            pairwise_dot(words, lanes, zeros_at, giant_at, giant_rows // 2, part_at)
            for word in range(2 * words):
                final[word * lanes] ^= part[word]
            pairwise_dot(words, lanes, sums_at, zeros_at, giant_rows // 2, part_at)
            for word in range(2 * words):
                final[word * lanes] ^= part[word]
            reduce_rows(words, lanes, tail_words, field_at, final.ctypes.data, 1, step_at)
            masked = np.uint64(0)
            for word in range(words):
                masked ^= step[word * lanes] & picked[words + word]
            out[index - first] = _parity(masked)
        # numba frees an array after its last use by name, and these are used by address: keep them until
        # here.
        zeros[:] = np.uint64(0)
        sums[:] = np.uint64(0)

    return kernel


@cache
def block_offsets_kernel(words: int, lanes: int) -> Callable[..., Any]:
    """Kernel `(rows, baby_rows, block_offsets)`: the coefficients' own part of Winograd's identity, a block.

    block_offsets: (num_blocks * 2 * words,) uint64, overwritten.
    """
    row_words = words * lanes
    intrinsics = _INTRINSICS

    @njit(types.void(_WORDS, types.int64, _WORDS), cache=True, nogil=True)
    def kernel(rows, baby_rows, block_offsets):
        _ = intrinsics
        zeros = np.zeros(baby_rows * row_words, np.uint64)
        zeros_at = zeros.ctypes.data
        rows_at = rows.ctypes.data
        out_at = block_offsets.ctypes.data
        for block in range(len(rows) // (row_words * baby_rows)):
            pairwise_dot(
                words, lanes, rows_at + block * 8 * row_words * baby_rows, zeros_at, baby_rows // 2,
                out_at + block * 16 * words,
            )  # fmt: skip
        zeros[:] = np.uint64(0)  # keeps the array alive until here; it was used by address

    return kernel


@cache
def portable_kernel(words: int) -> Callable[..., Any]:
    """Kernel `(first, last, coefficients, tail, block_starts, field_size, seed, degree, out)`, any processor.

    coefficients: (num_steps * PORTABLE_CHAINS * words,) uint64, highest power first, zero padded in front;
    tail: (words,) uint64, the field polynomial without its leading term.
    """
    chains = PORTABLE_CHAINS

    @njit(
        types.void(
            types.int64, types.int64, _WORDS, _WORDS, _POSITIONS, types.int64, _BITS, types.int64, _OUT
        ),
        cache=True,
        nogil=True,
    )
    def kernel(first, last, coefficients, tail, block_starts, field_size, seed, degree, out):
        num_pieces = (degree + TABLE_BITS - 1) // TABLE_BITS
        table = np.zeros(num_pieces * TABLE_SIZE * words, np.uint64)
        picked = np.zeros(2 * words, np.uint64)
        element = np.zeros(words, np.uint64)
        power = np.zeros(words, np.uint64)
        sums = np.zeros(chains * words, np.uint64)
        num_steps = len(coefficients) // (chains * words)
        top_word = (degree - 1) >> 6
        top_shift = np.uint64((degree - 1) & 63)
        top_mask = (np.uint64(2) << top_shift) - np.uint64(1) if top_shift < 63 else ~np.uint64(0)
        for index in range(first, last):
            pick_seed_bits(index, block_starts, field_size, seed, degree, picked)
            for word in range(words):
                power[word] = picked[word]
                element[word] = np.uint64(0)
            # Two passes: a table of multiples of x gives y = x^chains; a table of multiples of y does the
            # rest.
            for stage in range(2):
                for word in range(words):
                    element[word] = power[word]
                for position in range(num_pieces * TABLE_BITS):
                    # element = power * z^position, the entry of bit `position`.
                    start = position // TABLE_BITS * TABLE_SIZE * words
                    size = (1 << (position % TABLE_BITS)) * words
                    entry = start + size
                    for word in range(words):
                        table[entry + word] = element[word]
                    for offset in range(words, size, words):
                        for word in range(words):
                            table[entry + offset + word] = table[start + offset + word] ^ element[word]
                    carry = (element[top_word] >> top_shift) & np.uint64(1)
                    for word in range(words - 1, 0, -1):
                        element[word] = (element[word] << np.uint64(1)) | (element[word - 1] >> np.uint64(63))
                    element[0] = element[0] << np.uint64(1)
                    element[top_word] &= top_mask
                    if carry:
                        for word in range(words):
                            element[word] ^= tail[word]
                if stage == 0:
                    for _ in range(chains - 1):
                        _multiply_by_table(words, table, num_pieces, power, 0, element)
                        for word in range(words):
                            power[word] = element[word]
            for position in range(chains * words):
                sums[position] = np.uint64(0)
            for step in range(num_steps):
                base = step * chains * words
                for chain in range(chains):
                    _multiply_by_table(words, table, num_pieces, sums, chain * words, element)
                    for word in range(words):
                        sums[chain * words + word] = element[word] ^ coefficients[base + chain * words + word]
            # Chain c holds the powers that are chains - 1 - c modulo chains: finish by Horner's rule in x.
            _horner(words, sums, chains, picked, tail, top_word, top_shift, top_mask, degree, element)
            masked = np.uint64(0)
            for word in range(words):
                masked ^= element[word] & picked[words + word]
            out[index - first] = _parity(masked)

    return kernel


@njit(inline="always")
def _multiply_by_table(words, table, num_pieces, source, start, out):
    """out = source[start : start + words] times the table's element, in local sums: arrays may alias."""
    sum_0 = sum_1 = sum_2 = sum_3 = np.uint64(0)
    entry = np.uint64(0)
    for word in range(words):
        value = source[start + word]
        # All words but the last are full: a constant count, which the compiler unrolls.
        pieces = 64 // TABLE_BITS if word < words - 1 else num_pieces - (words - 1) * (64 // TABLE_BITS)
        for _ in range(pieces):
            # Unsigned indices: numba need not allow for negative ones.
            place = entry + (value & np.uint64(TABLE_SIZE - 1)) * np.uint64(words)
            value >>= np.uint64(TABLE_BITS)
            entry += np.uint64(TABLE_SIZE * words)
            sum_0 ^= table[place]
            if words > 1:
                sum_1 ^= table[place + np.uint64(1)]
            if words > 2:
                sum_2 ^= table[place + np.uint64(2)]
            if words > 3:
                sum_3 ^= table[place + np.uint64(3)]
    out[0] = sum_0
    if words > 1:
        out[1] = sum_1
    if words > 2:
        out[2] = sum_2
    if words > 3:
        out[3] = sum_3


@njit(inline="always")
def _horner(words, sums, chains, picked, tail, top_word, top_shift, top_mask, degree, out):
    """out = sum over chains c of sums[c] x^(chains-1-c), by shift and add."""
    product = np.zeros(words, np.uint64)
    for word in range(words):
        out[word] = np.uint64(0)
    for chain in range(chains):
        for word in range(words):
            product[word] = np.uint64(0)
        for position in range(degree - 1, -1, -1):
            carry = (product[top_word] >> top_shift) & np.uint64(1)
            for word in range(words - 1, 0, -1):
                product[word] = (product[word] << np.uint64(1)) | (product[word - 1] >> np.uint64(63))
            product[0] = product[0] << np.uint64(1)
            product[top_word] &= top_mask
            if carry:
                for word in range(words):
                    product[word] ^= tail[word]
            if (picked[position >> 6] >> np.uint64(position & 63)) & np.uint64(1):
                for word in range(words):
                    product[word] ^= out[word]
        for word in range(words):
            out[word] = product[word] ^ sums[chain * words + word]
