"""Carry-less multiplication instructions inside numba functions, with a width chosen at run time.

x86-64 multiplies two 64-bit polynomials over GF(2) in one instruction (PCLMULQDQ), and with VPCLMULQDQ two or
four such pairs at a time in 256-bit or 512-bit registers. Three numba intrinsics emit whole inner loops with
them, on *rows*: a row is `words` consecutive vectors of `lanes` 64-bit integers, and holds `lanes` field
elements, word w of element e in vector w, lane e. The element z^(64 w + i) is bit i of word w.

`words`, `lanes` and `tail_words` are compile-time constants; the field itself is run-time data, an array
`field` of uint64: [b, mask, tail words...] with b = degree - 64 (words - 1) the bits in the top word, mask
its mask, and the tail the field polynomial without its leading term.

Products of elements of several words use W (W+1) / 2 carry-less multiplications instead of W^2: with
c_ij = (a_i + a_j)(b_i + b_j), the middle terms are a_i b_j + a_j b_i = c_ij + a_i b_i + a_j b_j (Karatsuba).

Where no such instruction is at hand (`instruction_sets`), the callers use tables; the bits are the same.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"

from __future__ import annotations

from functools import cache
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

PORTABLE = "portable"
LANES = {"vpclmulqdq512": 8, "vpclmulqdq256": 4, "pclmulqdq": 2}
_REQUIRED = {
    "vpclmulqdq512": {"vpclmulqdq", "avx512f"},
    "vpclmulqdq256": {"vpclmulqdq", "avx2"},
    "pclmulqdq": {"pclmul", "sse4.2"},
}
_I64 = ir.IntType(64)
_I32 = ir.IntType(32)
_I8 = ir.IntType(8)


@cache
def instruction_sets() -> tuple[str, ...]:
    """What this machine can run, fastest first; always ends in "portable".

    NUMBA_CPU_FEATURES and NUMBA_CPU_NAME, by which numba compiles for another processor than the one it
    runs on, and NUMBA_DISABLE_JIT are obeyed.
    """
    if config.DISABLE_JIT:
        return (PORTABLE,)
    if config.CPU_FEATURES is not None:
        features = {name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+")}
    elif config.CPU_NAME is not None:
        features = set()
    else:
        host = llvmlite.binding.get_host_cpu_features()
        features = {name for name, present in host.items() if present}
    if not llvmlite.binding.get_process_triple().startswith("x86_64"):
        features = set()
    return (*(name for name, required in _REQUIRED.items() if required <= features), PORTABLE)


class _VectorCode:
    """Emits the vector operations that the intrinsics are made of."""

    def __init__(self, builder: Any, words: int, lanes: int, tail_words: int = 0) -> None:
        self.builder = builder
        self.words = words
        self.lanes = lanes
        self.tail_words = tail_words
        self.vector = ir.VectorType(_I64, lanes)
        name = {2: "llvm.x86.pclmulqdq", 4: "llvm.x86.pclmulqdq.256", 8: "llvm.x86.pclmulqdq.512"}[lanes]
        signature = ir.FunctionType(self.vector, [self.vector, self.vector, _I8])
        self.clmul = cgutils.get_or_insert_function(builder.module, signature, name)

    def zero(self):
        return ir.Constant(self.vector, [0] * self.lanes)

    def constant(self, value: int):
        return ir.Constant(self.vector, [value] * self.lanes)

    def pointer(self, address, kind):
        return self.builder.inttoptr(address, kind.as_pointer())

    def load(self, address, index: int):
        offset = ir.Constant(_I64, 8 * self.lanes * index)
        return self.builder.load(self.pointer(self.builder.add(address, offset), self.vector), align=8)

    def store(self, vector, address, index: int) -> None:
        offset = ir.Constant(_I64, 8 * self.lanes * index)
        self.builder.store(vector, self.pointer(self.builder.add(address, offset), self.vector), align=8)

    def load_row(self, address, words: int | None = None):
        return [self.load(address, word) for word in range(self.words if words is None else words)]

    def broadcast(self, scalar):
        undefined = ir.Constant(self.vector, ir.Undefined)
        single = self.builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
        lanes = ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(single, undefined, lanes)

    def broadcast_from(self, address, index: int):
        offset = ir.Constant(_I64, 8 * index)
        return self.broadcast(self.builder.load(self.pointer(self.builder.add(address, offset), _I64)))

    def shuffle(self, left, right, lanes):
        return self.builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))

    def products(self, left, right):
        """128-bit products of the even lanes, and of the odd lanes."""
        even = self.builder.call(self.clmul, [left, right, ir.Constant(_I8, 0x00)])
        odd = self.builder.call(self.clmul, [left, right, ir.Constant(_I8, 0x11)])
        return even, odd

    def lane_products(self, left, right):
        """Low words and high words of the products, each in the lane of its factors."""
        even, odd = self.products(left, right)
        low = [lane for pair in range(0, self.lanes, 2) for lane in (pair, self.lanes + pair)]
        return self.shuffle(even, odd, low), self.shuffle(even, odd, [lane + 1 for lane in low])

    def factor_pairs(self, left, right):
        """The W (W+1) / 2 pairs of words to multiply: W diagonal ones, then (a_i + a_j, b_i + b_j), i < j."""
        xor = self.builder.xor
        pairs = list(zip(left, right, strict=True))
        for i in range(self.words):
            for j in range(i + 1, self.words):
                pairs.append((xor(left[i], left[j]), xor(right[i], right[j])))
        return pairs

    def assemble(self, lows, highs, zero):
        """The 2W words of the product from the low and high words of the factor pairs' products."""
        xor = self.builder.xor
        result = [zero] * (2 * self.words)
        position = self.words
        for i in range(self.words):
            result[2 * i] = xor(result[2 * i], lows[i])
            result[2 * i + 1] = xor(result[2 * i + 1], highs[i])
        for i in range(self.words):
            for j in range(i + 1, self.words):
                low = xor(lows[position], xor(lows[i], lows[j]))
                high = xor(highs[position], xor(highs[i], highs[j]))
                result[i + j] = xor(result[i + j], low)
                result[i + j + 1] = xor(result[i + j + 1], high)
                position += 1
        return result

    def _split(self, product, words: int, field):
        """Cut at the degree: (W words below, `words` words above)."""
        builder = self.builder
        bits = self.broadcast_from(field, 0)
        left = builder.sub(self.constant(64), bits)
        right = builder.sub(bits, self.constant(1))  # shifting by 64 at once would be undefined
        above = []
        for word in range(self.words - 1, self.words - 1 + words):
            value = builder.lshr(builder.lshr(product[word], self.constant(1)), right)
            if word + 1 < len(product):
                value = builder.or_(value, builder.shl(product[word + 1], left))
            above.append(value)
        top = builder.and_(product[self.words - 1], self.broadcast_from(field, 1))
        return [*product[: self.words - 1], top], above

    def _fold(self, product, words: int, field):
        """Replace z^degree by the tail: one step of the reduction."""
        below, above = self._split(product, words, field)
        result = below + [self.zero()] * (self.tail_words + 1)
        for i in range(words):
            for j in range(self.tail_words):
                low, high = self.lane_products(above[i], self.broadcast_from(field, 2 + j))
                result[i + j] = self.builder.xor(result[i + j], low)
                result[i + j + 1] = self.builder.xor(result[i + j + 1], high)
        return result

    def reduce(self, product, field):
        """Reduce 2W words to W: two folds suffice, as the tail's degree is at most half the field's."""
        folded = self._fold(product, self.words, field)[: self.words + self.tail_words]
        return self._fold([*folded, self.zero()], self.tail_words, field)[: self.words]

    def fold_lanes(self, vector):
        """XOR of the even lanes, and of the odd lanes."""
        lanes = self.lanes
        while lanes > 2:
            lanes //= 2
            low = self.shuffle(vector, vector, list(range(lanes)))
            vector = self.builder.xor(low, self.shuffle(vector, vector, list(range(lanes, 2 * lanes))))
        return tuple(self.builder.extract_element(vector, ir.Constant(_I32, lane)) for lane in (0, 1))


@intrinsic(prefer_literal=True)
def pairwise_dot(typingctx, words, lanes, left, right, num_row_pairs, out):
    """Unreduced sum of (l_e + r_e')(l_e' + r_e) over pairs of elements e, e' of `left` and `right`.

    e' is the element below e in the next row: rows 2s and 2s+1 pair up. By Winograd's identity the sum is
    sum over all e of l_e r_e, plus sum over pairs of l_e l_e', plus sum over pairs of r_e r_e'; both extra
    sums depend on one side only and are had by calling this with zeros on the other. So a dot product costs
    half a multiplication an element. `left`, `right`: addresses of rows; `out`: address of 2W words,
    overwritten.
    """
    num_words, num_lanes = words.literal_value, lanes.literal_value

    def codegen(context, builder, signature, args):
        code = _VectorCode(builder, num_words, num_lanes)
        _, _, left_address, right_address, count, out_address = args
        row_bytes = 8 * num_lanes * num_words
        sums = []
        for _ in range(num_words * (num_words + 1) // 2):
            sums.append(cgutils.alloca_once(builder, code.vector))
            builder.store(code.zero(), sums[-1])
        with cgutils.for_range(builder, count) as loop:
            offset = builder.mul(loop.index, ir.Constant(_I64, 2 * row_bytes))
            rows = [
                code.load_row(builder.add(base, builder.add(offset, ir.Constant(_I64, shift))))
                for base in (left_address, right_address)
                for shift in (0, row_bytes)
            ]
            first = [builder.xor(a, b) for a, b in zip(rows[0], rows[3], strict=True)]
            second = [builder.xor(a, b) for a, b in zip(rows[1], rows[2], strict=True)]
            for slot, (a, b) in zip(sums, code.factor_pairs(first, second), strict=True):
                even, odd = code.products(a, b)
                builder.store(builder.xor(builder.load(slot), builder.xor(even, odd)), slot)
        folded = [code.fold_lanes(builder.load(slot)) for slot in sums]
        lows, highs = [low for low, _ in folded], [high for _, high in folded]
        result = code.assemble(lows, highs, ir.Constant(_I64, 0))
        for word, value in enumerate(result):
            offset = ir.Constant(_I64, 8 * word)
            builder.store(value, code.pointer(builder.add(out_address, offset), _I64))
        return context.get_dummy_value()

    signature = types.void(words, lanes, types.int64, types.int64, types.int64, types.int64)
    return signature, codegen


@intrinsic(prefer_literal=True)
def multiply_rows(typingctx, words, lanes, tail_words, field, left, right, right_step, num_rows, out):
    """out[r] = left[r] * right[r * right_step], lane by lane and reduced, for r < num_rows.

    All but the first three arguments are int64: addresses of `field`, of rows, and counts. `out` may be
    `left`.
    """
    num_words, num_lanes, num_tail = words.literal_value, lanes.literal_value, tail_words.literal_value

    def codegen(context, builder, signature, args):
        code = _VectorCode(builder, num_words, num_lanes, num_tail)
        _, _, _, field_address, left_address, right_address, step, count, out_address = args
        row_bytes = ir.Constant(_I64, 8 * num_lanes * num_words)
        with cgutils.for_range(builder, count) as loop:
            offset = builder.mul(loop.index, row_bytes)
            a = code.load_row(builder.add(left_address, offset))
            b = code.load_row(builder.add(right_address, builder.mul(offset, step)))
            lows, highs = zip(*(code.lane_products(*pair) for pair in code.factor_pairs(a, b)), strict=True)
            reduced = code.reduce(code.assemble(lows, highs, code.zero()), field_address)
            for word, value in enumerate(reduced):
                code.store(value, builder.add(out_address, offset), word)
        return context.get_dummy_value()

    signature = types.void(words, lanes, tail_words, *([types.int64] * 6))
    return signature, codegen


@intrinsic(prefer_literal=True)
def reduce_rows(typingctx, words, lanes, tail_words, field, unreduced, num_rows, out):
    """out[r] = unreduced[r] modulo the field polynomial; an unreduced row has 2W vectors."""
    num_words, num_lanes, num_tail = words.literal_value, lanes.literal_value, tail_words.literal_value

    def codegen(context, builder, signature, args):
        code = _VectorCode(builder, num_words, num_lanes, num_tail)
        _, _, _, field_address, source_address, count, out_address = args
        row_bytes = ir.Constant(_I64, 8 * num_lanes * num_words)
        with cgutils.for_range(builder, count) as loop:
            offset = builder.mul(loop.index, row_bytes)
            source = builder.add(source_address, builder.mul(offset, ir.Constant(_I64, 2)))
            product = code.load_row(source, 2 * num_words)
            for word, value in enumerate(code.reduce(product, field_address)):
                code.store(value, builder.add(out_address, offset), word)
        return context.get_dummy_value()

    signature = types.void(words, lanes, tail_words, *([types.int64] * 4))
    return signature, codegen
