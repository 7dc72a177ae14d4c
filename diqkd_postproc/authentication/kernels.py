"""Compiled kernels of the universal hash: polynomial evaluation over GF(2^128), z^128 = z^7 + z^2 + z + 1.

Each kernel `(blocks, point, state)` continues Horner's rule over whole 16-byte blocks m_1 ... m_L:
state <- state r^L + m_1 r^L + m_2 r^{L-1} + ... + m_L r, so that a message may come in several parts.
`blocks`: (16 L,) uint8; `point`, `state`: (2,) uint64, low word first; little-endian throughout.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, no-any-return"

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

Kernel = Callable[[Any, Any, Any], None]

_BLOCKS = types.Array(types.uint8, 1, "C", readonly=True)
_POINT = types.Array(types.uint64, 1, "C")
_STRIDE = 8


@intrinsic
def _product(typingctx, left, right):
    """(low, high) words of the carry-less product of two uint64: one PCLMULQDQ."""

    def codegen(context, builder, signature, args):
        vector = ir.VectorType(ir.IntType(64), 2)
        byte = ir.IntType(8)
        index = [ir.Constant(ir.IntType(32), lane) for lane in (0, 1)]
        kind = ir.FunctionType(vector, [vector, vector, byte])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.pclmulqdq")
        undefined = ir.Constant(vector, ir.Undefined)
        factors = [builder.insert_element(undefined, value, index[0]) for value in args]
        result = builder.call(function, [*factors, ir.Constant(byte, 0)])
        words = [builder.extract_element(result, lane) for lane in index]
        return context.make_tuple(builder, signature.return_type, words)

    return types.UniTuple(types.uint64, 2)(types.uint64, types.uint64), codegen


@njit(inline="always")
def _reduce(low, middle_low, middle_high, high):
    """Reduce the 256-bit polynomial of four words to two: fold by z^7 + z^2 + z + 1 twice."""
    one, two, seven = np.uint64(1), np.uint64(2), np.uint64(7)
    overflow = (high >> np.uint64(63)) ^ (high >> np.uint64(62)) ^ (high >> np.uint64(57))
    middle_high ^= overflow
    middle_low ^= high ^ (high << one) ^ (high << two) ^ (high << seven)
    middle_low ^= (
        (middle_high >> np.uint64(63)) ^ (middle_high >> np.uint64(62)) ^ (middle_high >> np.uint64(57))
    )
    low ^= middle_high ^ (middle_high << one) ^ (middle_high << two) ^ (middle_high << seven)
    return low, middle_low


@cache
def carryless_hash_kernel() -> Kernel:
    """Eight blocks a reduction, with the powers r ... r^8."""

    @njit(types.void(_BLOCKS, _POINT, _POINT), cache=True, nogil=True)
    def kernel(blocks, point, state):
        words = blocks.view(np.uint64)
        num_blocks = len(words) // 2
        powers = np.zeros(2 * _STRIDE + 2, np.uint64)
        powers[2], powers[3] = point[0], point[1]
        low, high = state[0], state[1]
        done = 0
        for exponent in range(1, _STRIDE + 1):
            if exponent > 1:
                a0, a1 = powers[2 * exponent - 2], powers[2 * exponent - 1]
                p0, p1 = _product(a0, point[0])
                q0, q1 = _product(a1, point[1])
                m0, m1 = _product(a0 ^ a1, point[0] ^ point[1])
                powers[2 * exponent], powers[2 * exponent + 1] = _reduce(
                    p0, p1 ^ m0 ^ p0 ^ q0, q0 ^ m1 ^ p1 ^ q1, q1
                )
        while done < num_blocks:
            count = min(_STRIDE, num_blocks - done)
            p0 = p1 = q0 = q1 = m0 = m1 = np.uint64(0)
            for offset in range(count):
                a0, a1 = words[2 * (done + offset)], words[2 * (done + offset) + 1]
                if offset == 0:
                    a0 ^= low
                    a1 ^= high
                r0, r1 = powers[2 * (count - offset)], powers[2 * (count - offset) + 1]
                t0, t1 = _product(a0, r0)
                p0 ^= t0
                p1 ^= t1
                t0, t1 = _product(a1, r1)
                q0 ^= t0
                q1 ^= t1
                t0, t1 = _product(a0 ^ a1, r0 ^ r1)
                m0 ^= t0
                m1 ^= t1
            low, high = _reduce(p0, p1 ^ m0 ^ p0 ^ q0, q0 ^ m1 ^ p1 ^ q1, q1)
            done += count
        state[0], state[1] = low, high

    return kernel


@cache
def portable_hash_kernel() -> Kernel:
    """A table of the 16 times 256 multiples of r by one byte each: a look-up a byte, on any processor."""

    @njit(types.void(_BLOCKS, _POINT, _POINT), cache=True, nogil=True)
    def kernel(blocks, point, state):
        words = blocks.view(np.uint64)
        table = np.zeros((16, 256, 2), np.uint64)
        low, high = point[0], point[1]
        for position in range(128):
            byte, size = position >> 3, 1 << (position & 7)
            for offset in range(size):
                table[byte, size + offset, 0] = table[byte, offset, 0] ^ low
                table[byte, size + offset, 1] = table[byte, offset, 1] ^ high
            carry = high >> np.uint64(63)
            high = (high << np.uint64(1)) | (low >> np.uint64(63))
            low = (low << np.uint64(1)) ^ (carry * np.uint64(0x87))
        low, high = state[0], state[1]
        for block in range(len(words) // 2):
            low ^= words[2 * block]
            high ^= words[2 * block + 1]
            new_low = np.uint64(0)
            new_high = np.uint64(0)
            for byte in range(8):
                shift = np.uint64(8 * byte)
                from_low = np.int64((low >> shift) & np.uint64(255))
                from_high = np.int64((high >> shift) & np.uint64(255))
                new_low ^= table[byte, from_low, 0] ^ table[8 + byte, from_high, 0]
                new_high ^= table[byte, from_low, 1] ^ table[8 + byte, from_high, 1]
            low, high = new_low, new_high
        state[0], state[1] = low, high

    return kernel
