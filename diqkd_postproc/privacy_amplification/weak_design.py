"""Block weak designs over a prime field (SI section S9 B; Mauerer, Portmann, Scholz, arXiv:1212.0520, III B).

A weak (l, t, r, s)-design is a family of l sets S_i of t elements of {0, ..., s-1} with
sum_{j<i} 2^|S_i & S_j| <= r l for every i. It states which bits of the long seed each output bit depends on.

Basic design (Hartman and Raz): for a prime p >= t, the set of a polynomial q over GF(p) is
{(a, q(a)) : a in GF(p)}, written as the number q(a) p + a. Polynomial number j has the base-p digits of j as
its coefficients, the constant term first. Two sets share at most deg elements. Its overlap is r = e (Ma and
Tan, arXiv:1109.6147).

Block design: `num_blocks` basic designs next to each other, on p^2 seed bits each, with shrinking numbers of
sets, m_b = ceil(n_0 + ... + n_b) - (m_0 + ... + m_{b-1}) with n_b = (1 - 1/e)^b (l/e - 1), the last block
taking the rest, which is at most p sets: its polynomials are constants and its sets disjoint. Total overlap
r = 1.

Where the one-bit extractor needs fewer than p bits, the first t elements of each set (a = 0, ..., t-1) are
used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from diqkd_postproc.protocol.errors import ParameterError

BASIC_OVERLAP = math.e


def next_prime(number: int) -> int:
    """The smallest prime not below `number`.

    By trial division up to the square root; `number` below 2 gives 2.
    """
    candidate = max(2, number)
    while any(candidate % divisor == 0 for divisor in range(2, math.isqrt(candidate) + 1)):
        candidate += 1
    return candidate


def num_design_blocks(num_sets: int, field_size: int) -> int:
    """Blocks of the design: max(2, ceil((ln(l-e) - ln(p-e)) / (1 - ln(e-1))) + 1), eq. (50) of the SI."""
    if num_sets <= field_size:
        return 2
    shrink = 1.0 - math.log(BASIC_OVERLAP - 1.0)
    needed = (math.log(num_sets - BASIC_OVERLAP) - math.log(field_size - BASIC_OVERLAP)) / shrink
    return max(2, math.ceil(needed) + 1)


@dataclass(frozen=True)
class BlockWeakDesign:
    """Block weak design of `num_sets` sets over GF(`field_size`), field_size a prime.

    Raises ParameterError if field_size is below 3 or no prime, or num_sets below 1.
    """

    num_sets: int
    field_size: int

    def __post_init__(self) -> None:
        if self.num_sets < 1:
            raise ParameterError(f"a weak design needs at least one set, not {self.num_sets}")
        if self.field_size < 3 or next_prime(self.field_size) != self.field_size:
            raise ParameterError(f"field_size={self.field_size} of a weak design is not an odd prime")

    @property
    def num_blocks(self) -> int:
        """Number of basic designs."""
        return num_design_blocks(self.num_sets, self.field_size)

    @property
    def seed_bits(self) -> int:
        """s: length of the seed that the sets point into, bits."""
        return self.num_blocks * self.field_size**2

    @property
    def block_starts(self) -> npt.NDArray[np.int64]:
        """(num_blocks + 1,) int64: index of the first set of each block, then num_sets."""
        starts = [0]
        cumulative = 0.0
        for block in range(self.num_blocks - 1):
            cumulative += (1.0 - 1.0 / BASIC_OVERLAP) ** block * (self.num_sets / BASIC_OVERLAP - 1.0)
            starts.append(max(starts[-1], math.ceil(cumulative)))
        return np.array([*starts, self.num_sets], dtype=np.int64)

    def members(self, index: int, num_members: int | None = None) -> npt.NDArray[np.int64]:
        """(num_members,) int64: the first elements of set `index`, in the order a = 0, 1, ...; default
        all."""
        size = self.field_size
        starts = self.block_starts
        block = int(np.searchsorted(starts, index, side="right")) - 1
        number = index - int(starts[block])
        points = np.arange(size if num_members is None else num_members, dtype=np.int64)
        values = np.zeros_like(points)
        for digit in reversed(_digits(number, size)):
            values = (values * points + digit) % size
        return np.asarray(block * size * size + values * size + points, dtype=np.int64)


def _digits(number: int, base: int) -> list[int]:
    """Base-`base` digits, least significant first."""
    digits = [number % base]
    while number >= base:
        number //= base
        digits.append(number % base)
    return digits
