"""Trevisan's extractor as in the published run: a quantum-proof strong extractor (SI section S9 B).

Ext(C, S) = (Ext1(C, S_1), ..., Ext1(C, S_l)), S_i the bits of the seed S at the positions of the i-th set of
a block weak design with r = 1, and Ext1 the one-bit extractor "polynomial hashing", a Reed-Solomon code
concatenated with a Hadamard code (Mauerer, Portmann, Scholz, arXiv:1212.0520, III B 2 and III C 3;
quantum-proof: De, Portmann, Vidick, Renner, arXiv:0912.5514). It is a quantum-proof (l + 6 + 4 log(1/e1), l
e1)-strong extractor, e1 the error of the one-bit extractor, set to e_PA / l (SI Proposition 1).

Conventions, those of the first reference and of randextract, except that the overlap of the basic design is
taken as e (Ma and Tan, arXiv:1109.6147), as in SI eq. (50), where randextract takes 2e:

- Ext1 takes t = 2 k bits of seed, k = ceil(log n + 2 log(2/e1)); the weak design is over the field of t+
  elements, t+ the first prime at or above t. For t < t+ each set's first t elements, a = 0 ... t-1, are used.
- The first k of the t bits are the evaluation point x in GF(2^k), the others the Hadamard mask h, each with
  the highest coefficient first.
- The input is cut into N = ceil(n/k) pieces of k bits, the last one filled up with zeros at its end. Each
  piece is an element of GF(2^k), highest coefficient first; the first piece is the coefficient of x^{N-1},
  the last of 1.
- The output bit is the inner product of h with the bits of the value P(x).
- GF(2^k) is that of `binary_field.field_polynomial_tail`.

At the published parameters k = 142, t = 284, t+ = 293, 14 blocks of 293^2 seed bits, N = 10 564.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from diqkd_postproc.fields.binary_field import MAX_DEGREE, BinaryField
from diqkd_postproc.privacy_amplification.bit_arrays import check_bits
from diqkd_postproc.privacy_amplification.weak_design import BlockWeakDesign, next_prime
from diqkd_postproc.protocol.errors import ParameterError

if TYPE_CHECKING:
    from diqkd_postproc.privacy_amplification.polynomial_hash import PolynomialHash

Bits = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrevisanParameters:
    """Sizes of an extractor: eqs. (50) and (51) of the SI."""

    num_input_bits: int
    num_output_bits: int
    field_degree: int
    """k: bits of a field element; half of the one-bit extractor's seed."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_output_bits <= self.num_input_bits:
            raise ParameterError(
                f"num_output_bits={self.num_output_bits} is not within 1..{self.num_input_bits} (input bits)"
            )
        if not 2 <= self.field_degree <= MAX_DEGREE:
            raise ParameterError(f"field_degree={self.field_degree} is not within 2..{MAX_DEGREE}")

    @property
    def t(self) -> int:
        """Seed bits of the one-bit extractor."""
        return 2 * self.field_degree

    @property
    def t_plus(self) -> int:
        """The first prime at or above t: size of the weak design's sets."""
        return next_prime(self.t)

    @property
    def weak_design(self) -> BlockWeakDesign:
        """The design that picks the bits of the seed."""
        return BlockWeakDesign(self.num_output_bits, self.t_plus)

    @property
    def blocks(self) -> int:
        """Basic designs in the block design."""
        return self.weak_design.num_blocks

    @property
    def seed_bits(self) -> int:
        """Length of the seed, bits: blocks * t_plus^2."""
        return self.weak_design.seed_bits

    @property
    def num_coefficients(self) -> int:
        """N: coefficients of the Reed-Solomon polynomial."""
        return math.ceil(self.num_input_bits / self.field_degree)


def trevisan_parameters(
    num_input_bits: int, num_output_bits: int, one_bit_error: float
) -> TrevisanParameters:
    """Sizes for n input bits, l output bits and error e1 = e_PA / l of each bit.

    t = 2 ceil(log n + 2 log(2/e1)), eq. (51). Raises ParameterError for values out of range, also where t
    would exceed 512.
    """
    if not 0 < one_bit_error < 1:
        raise ParameterError(f"one_bit_error={one_bit_error} is not between 0 and 1")
    if num_input_bits < 1:
        raise ParameterError(f"num_input_bits={num_input_bits} is not at least 1")
    degree = math.ceil(math.log2(num_input_bits) + 2 * math.log2(2 / one_bit_error))
    if degree > MAX_DEGREE:
        raise ParameterError(
            f"one_bit_error={one_bit_error} needs a field of degree {degree}, above {MAX_DEGREE}; allow more"
        )
    return TrevisanParameters(num_input_bits, num_output_bits, degree)


class TrevisanExtractor:
    """Extractor of l nearly uniform bits out of n, with a reusable seed.

    num_input_bits: n; num_output_bits: l; one_bit_error: e1. `extract` may be called from several threads.
    Raises ParameterError, see `trevisan_parameters`.
    """

    def __init__(self, num_input_bits: int, num_output_bits: int, one_bit_error: float) -> None:
        self.parameters = trevisan_parameters(num_input_bits, num_output_bits, one_bit_error)

    @classmethod
    def from_parameters(cls, parameters: TrevisanParameters) -> TrevisanExtractor:
        """An extractor of given sizes, whatever its error."""
        extractor = cls.__new__(cls)
        extractor.parameters = parameters
        return extractor

    def __repr__(self) -> str:
        return f"{type(self).__name__}.from_parameters({self.parameters!r})"

    @property
    def seed_bits(self) -> int:
        """Length of the seed, bits."""
        return self.parameters.seed_bits

    @cached_property
    def _hash(self) -> PolynomialHash:
        # Imported on first use: numba is slow to import, and the parameters need none of it.
        from diqkd_postproc.privacy_amplification.polynomial_hash import PolynomialHash

        return PolynomialHash(BinaryField(self.parameters.field_degree), self.parameters.weak_design)

    def extract(
        self,
        source: Bits,
        seed: Bits,
        progress: Progress | None = None,
        *,
        num_threads: int | None = None,
        instruction_set: str | None = None,
    ) -> Bits:
        """(l,) uint8: the extracted bits.

        source: (n,) uint8 of 0 and 1; seed: (seed_bits,) uint8 of 0 and 1. progress(done, total) is called
        with counts of output bits, in the calling thread. num_threads: default the processors this process
        may use; instruction_set: one of `carryless.instruction_sets()`, default the fastest. The bits do not
        depend on either. Raises ParameterError where a length or dtype is wrong.
        """
        check_bits("source", source, self.parameters.num_input_bits)
        check_bits("seed", seed, self.seed_bits)
        return self._hash.evaluate(source, seed, progress, num_threads, instruction_set)
