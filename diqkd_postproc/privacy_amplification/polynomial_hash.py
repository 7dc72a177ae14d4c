"""Polynomial hashing of one source under many picked seeds, on whatever the processor offers.

Prepares the source (field coefficients in the layout of the kernel), shares the output bits out among threads
and reports progress. The kernels release the GIL; the result does not depend on how the work is shared.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import numpy as np
import numpy.typing as npt

from diqkd_postproc.fields.binary_field import BinaryField
from diqkd_postproc.fields.carryless import LANES, PORTABLE, instruction_sets
from diqkd_postproc.privacy_amplification.polynomial_hash_kernels import (
    PORTABLE_CHAINS,
    block_offsets_kernel,
    carryless_kernel,
    portable_kernel,
)
from diqkd_postproc.privacy_amplification.weak_design import BlockWeakDesign
from diqkd_postproc.protocol.errors import ParameterError

Bits = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Share = Callable[[int, int, Bits], None]

SHARE_OUTPUTS = 1024
BABY_ELEMENTS = 128


class PolynomialHash:
    """All output bits of the Reed-Solomon-Hadamard one-bit extractor over one weak design."""

    def __init__(self, field: BinaryField, weak_design: BlockWeakDesign) -> None:
        self.field = field
        self.weak_design = weak_design

    def evaluate(
        self,
        source: Bits,
        seed: Bits,
        progress: Callable[[int, int], None] | None = None,
        num_threads: int | None = None,
        instruction_set: str | None = None,
    ) -> Bits:
        """(num_sets,) uint8. Arguments as in `TrevisanExtractor.extract`, already checked."""
        available = instruction_sets()
        chosen = available[0] if instruction_set is None else instruction_set
        if chosen not in available:
            raise ParameterError(f"instruction_set={chosen!r} is not one of {available} on this machine")
        seed = np.ascontiguousarray(seed)
        coefficients = coefficient_words(source, self.field)
        if chosen == PORTABLE:
            share = self._portable_share(coefficients, seed)
        else:
            share = self._carryless_share(coefficients, seed, LANES[chosen])
        return _share_out(share, self.weak_design.num_sets, progress, num_threads)

    def _carryless_share(self, coefficients: Words, seed: Bits, lanes: int) -> Share:
        words = self.field.num_words
        baby_rows = max(2, min(BABY_ELEMENTS, _next_power(len(coefficients))) // lanes)
        block = baby_rows * lanes
        padded = np.zeros((-(-len(coefficients) // block) * block, words), dtype=np.uint64)
        padded[: len(coefficients)] = coefficients[::-1]
        rows = np.ascontiguousarray(padded.reshape(-1, lanes, words).transpose(0, 2, 1)).reshape(-1)
        offsets = np.zeros(len(padded) // block * 2 * words, dtype=np.uint64)
        block_offsets_kernel(words, lanes)(rows, baby_rows, offsets)
        tail_words = self.field.tail[0] // 64 + 1
        top_bits = self.field.degree - 64 * (words - 1)
        constants = [top_bits, (1 << top_bits) - 1, *self.field.words(self.field.tail_value)[:tail_words]]
        field = np.array(constants, dtype=np.uint64)
        kernel = carryless_kernel(words, lanes, tail_words)
        starts, size, degree = self.weak_design.block_starts, self.weak_design.field_size, self.field.degree

        def share(first: int, last: int, out: Bits) -> None:
            kernel(first, last, rows, offsets, baby_rows, field, starts, size, seed, degree, out)

        return share

    def _portable_share(self, coefficients: Words, seed: Bits) -> Share:
        words = self.field.num_words
        padded = np.zeros(
            (-(-len(coefficients) // PORTABLE_CHAINS) * PORTABLE_CHAINS, words), dtype=np.uint64
        )
        padded[len(padded) - len(coefficients) :] = coefficients
        flat = padded.reshape(-1)
        tail = np.array(self.field.words(self.field.tail_value), dtype=np.uint64)
        kernel = portable_kernel(words)
        starts, size, degree = self.weak_design.block_starts, self.weak_design.field_size, self.field.degree

        def share(first: int, last: int, out: Bits) -> None:
            kernel(first, last, flat, tail, starts, size, seed, degree, out)

        return share


def coefficient_words(source: Bits, field: BinaryField) -> Words:
    """(N, words) uint64: the source cut into N = ceil(n / degree) elements, highest power of x first.

    Word w of an element holds the coefficients of z^{64 w} ... z^{64 w + 63}, lowest bit first.
    """
    degree = field.degree
    count = -(-len(source) // degree)
    pieces = np.zeros(count * degree, dtype=np.uint8)
    pieces[: len(source)] = source
    bits = np.zeros((count, 64 * field.num_words), dtype=np.uint8)
    bits[:, :degree] = pieces.reshape(count, degree)[:, ::-1]
    packed = np.packbits(bits, axis=1, bitorder="little")
    return packed.view("<u8").astype(np.uint64)


def _next_power(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()


def _num_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _share_out(
    share: Share, total: int, progress: Callable[[int, int], None] | None, num_threads: int | None
) -> Bits:
    """Run `share` over slices of 0 ... total - 1 in threads; progress is reported from the calling thread."""
    result = np.zeros(total, dtype=np.uint8)
    done = 0
    with ThreadPoolExecutor(num_threads or _num_processors()) as executor:
        pending = {
            executor.submit(share, first, last, result[first:last]): last - first
            for first in range(0, total, SHARE_OUTPUTS)
            for last in (min(total, first + SHARE_OUTPUTS),)
        }
        try:
            while pending:
                finished, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                    done += pending.pop(future)
                if progress is not None:
                    progress(done, total)
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise
    return result
