"""Toeplitz hashing: a quantum-proof strong extractor with a reusable seed.

The key is T a over GF(2), a the n outcomes and T the l x n matrix T[i, j] = s[i - j + n - 1] of n + l - 1
uniform seed bits s. Two different inputs collide with probability 2^-l *exactly*, because T d is uniform for
every d != 0; the `renyi` proof needs that exactness ("at most 2^-l" does not suffice, KeyLength of `renyi`).

T a is a stretch of l counts of the convolution of a with s, modulo 2. A cyclic convolution of length at least
n + l - 1 gives it: what wraps around ends before index n - 1. The counts are integers below 2^32 and computed
exactly, see `number_theoretic_transform`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from diqkd_postproc.privacy_amplification.bit_arrays import check_bits
from diqkd_postproc.protocol.errors import ParameterError

Bits = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]

MAX_SEED_BITS = 2**30
"""Longest seed whose convolution the transform's field has room for."""


def toeplitz_seed_bits(num_input_bits: int, num_output_bits: int) -> int:
    """Length of the seed: n + l - 1. Raises ParameterError for values out of range."""
    if not 1 <= num_output_bits <= num_input_bits:
        raise ParameterError(
            f"num_output_bits={num_output_bits} is not within 1..{num_input_bits} (input bits)"
        )
    seed_bits = num_input_bits + num_output_bits - 1
    if seed_bits > MAX_SEED_BITS:
        raise ParameterError(
            f"a seed of {seed_bits} bits is above the limit of {MAX_SEED_BITS}; split the run"
        )
    return seed_bits


class ToeplitzExtractor:
    """Extractor of l nearly uniform bits out of n. `extract` may be called from several threads.

    Input (n,) and output (l,) uint8 of 0/1, seed (n + l - 1,). The product is a convolution by
    number-theoretic transform.
    """

    def __init__(self, num_input_bits: int, num_output_bits: int) -> None:
        self.num_input_bits = num_input_bits
        self.num_output_bits = num_output_bits
        self.seed_bits = toeplitz_seed_bits(num_input_bits, num_output_bits)

    def __repr__(self) -> str:
        return f"ToeplitzExtractor({self.num_input_bits}, {self.num_output_bits})"

    def extract(self, source: Bits, seed: Bits, progress: Progress | None = None) -> Bits:
        """(l,) uint8: the extracted bits.

        source: (n,) uint8 of 0 and 1; seed: (seed_bits,) uint8 of 0 and 1. progress(done, total) is called
        with counts of output bits, in the calling thread. Raises ParameterError where a length or dtype is
        wrong.
        """
        # Imported on first use: numba is slow to import, and the sizes need none of it.
        from diqkd_postproc.fields.number_theoretic_transform import cyclic_convolution

        check_bits("source", source, self.num_input_bits)
        check_bits("seed", seed, self.seed_bits)
        report = progress or (lambda done, total: None)
        report(0, self.num_output_bits)
        counts = cyclic_convolution(
            source,
            seed,
            (self.seed_bits - 1).bit_length(),
            lambda step: report(self.num_output_bits * step // 3, self.num_output_bits),
        )
        first = self.num_input_bits - 1
        return (counts[first : first + self.num_output_bits] & 1).astype(np.uint8)
