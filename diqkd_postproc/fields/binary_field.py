"""Binary fields GF(2^k): the field polynomial of each degree, and arithmetic on Python integers.

An element is a polynomial over GF(2) of degree below k, held as an integer whose bit i is the coefficient
of z^i. A bit string (b_0, b_1, ..., b_{k-1}) stands for b_0 z^{k-1} + ... + b_{k-1}: the first bit is the
highest coefficient, as in Mauerer, Portmann and Scholz (arXiv:1212.0520) and in randextract.

The field polynomial of degree k follows a rule that anybody can repeat, so that it needs no table: the
irreducible polynomial with the fewest terms and, among those, the smallest as an integer. That is a
trinomial z^k + z^a + 1 with the smallest a where one is irreducible, and a pentanomial otherwise. (Which
polynomial is used does not matter for security: all fields of one size are isomorphic. It matters that
both parties use the same.)

The arithmetic here is the plain reference, used where speed does not count. The extractor and the hash
have compiled kernels.
"""

from __future__ import annotations

import math
from functools import cache

from diqkd_postproc.protocol.errors import ParameterError

MAX_DEGREE = 256


def carryless_product(left: int, right: int) -> int:
    """Product of two polynomials over GF(2), not reduced.

    Bit i of an integer is the coefficient of z^i. A reference for the processor's instruction, one bit at a
    time.
    """
    product = 0
    while right:
        lowest = right & -right
        product ^= left * lowest
        right ^= lowest
    return product


def _square(value: int) -> int:
    """Square of a polynomial over GF(2): every bit i moves to bit 2i."""
    return int(f"{value:b}", 4) if value.bit_length() < 2000 else carryless_product(value, value)


def _fold(value: int, degree: int, tail: tuple[int, ...]) -> int:
    """Reduce modulo z^degree + sum of z^e over the exponents e in `tail`."""
    mask = (1 << degree) - 1
    while value >> degree:
        high = value >> degree
        value &= mask
        for exponent in tail:
            value ^= high << exponent
    return value


def _polynomial_remainder(value: int, modulus: int) -> int:
    while value.bit_length() >= modulus.bit_length():
        value ^= modulus << (value.bit_length() - modulus.bit_length())
    return value


def _coprime(left: int, right: int) -> bool:
    while right:
        left, right = right, _polynomial_remainder(left, right)
    return left == 1


def _prime_divisors(number: int) -> list[int]:
    divisors = []
    candidate = 2
    while candidate * candidate <= number:
        if number % candidate == 0:
            divisors.append(candidate)
            while number % candidate == 0:
                number //= candidate
        candidate += 1
    return divisors + ([number] if number > 1 else [])


def _is_irreducible(degree: int, tail: tuple[int, ...]) -> bool:
    """Rabin's test: z^(2^k) = z, and z^(2^(k/p)) - z is coprime to the polynomial for every prime p | k."""
    modulus = (1 << degree) | sum(1 << exponent for exponent in tail)
    checkpoints = {degree // prime for prime in _prime_divisors(degree)}
    power = 2
    powers = {}
    for exponent in range(1, degree + 1):
        power = _fold(_square(power), degree, tail)
        if exponent in checkpoints:
            powers[exponent] = power
    return power == 2 and all(_coprime(modulus, powers[exponent] ^ 2) for exponent in checkpoints)


@cache
def field_polynomial_tail(degree: int) -> tuple[int, ...]:
    """Exponents below `degree` of the field polynomial of GF(2^degree), descending, ending in 0.

    The rule is in the module's docstring. 2 <= degree <= 256; raises ParameterError outside. The largest
    exponent never exceeds degree / 2 (checked over the whole range in the tests): two folds reduce any
    product of two elements.
    """
    if not 2 <= degree <= MAX_DEGREE:
        raise ParameterError(
            f"field degree {degree} is outside 2..{MAX_DEGREE}; relax the error or shorten the input"
        )
    for first in range(1, degree):
        if _is_irreducible(degree, (first, 0)):
            return (first, 0)
    for first in range(3, degree):
        for second in range(2, first):
            for third in range(1, second):
                if _is_irreducible(degree, (first, second, third, 0)):
                    return (first, second, third, 0)
    raise ParameterError(f"no irreducible trinomial or pentanomial of degree {degree}")


class BinaryField:
    """GF(2^degree) with the documented polynomial; elements are integers below 2^degree."""

    def __init__(self, degree: int) -> None:
        self.degree = degree
        self.tail = field_polynomial_tail(degree)

    @property
    def polynomial(self) -> int:
        """The field polynomial as an integer, bit i the coefficient of z^i."""
        return (1 << self.degree) | self.tail_value

    @property
    def tail_value(self) -> int:
        """The field polynomial without its leading term, as an integer: z^degree = tail_value."""
        return sum(1 << exponent for exponent in self.tail)

    @property
    def num_words(self) -> int:
        """64-bit words that hold an element."""
        return math.ceil(self.degree / 64)

    def reduce(self, value: int) -> int:
        """Remainder of a polynomial of any degree modulo the field polynomial.

        value: non-negative; the result is below 2^degree.
        """
        return _fold(value, self.degree, self.tail)

    def multiply(self, left: int, right: int) -> int:
        """Product of two elements in the field.

        left, right: integers below 2^degree, bit i the coefficient of z^i.
        """
        return self.reduce(carryless_product(left, right))

    def power(self, base: int, exponent: int) -> int:
        """base^exponent, exponent >= 0; 0^0 = 1."""
        result = 1
        while exponent:
            if exponent & 1:
                result = self.multiply(result, base)
            base = self.reduce(_square(base))
            exponent >>= 1
        return result

    def words(self, value: int) -> list[int]:
        """The element as `num_words` 64-bit words, least significant first."""
        return [(value >> (64 * index)) & 0xFFFF_FFFF_FFFF_FFFF for index in range(self.num_words)]
