"""Binary fields against galois, and the claims about the field polynomials that the kernels rest on."""

import random

import galois
import pytest

from diqkd_postproc.fields.binary_field import (
    MAX_DEGREE,
    BinaryField,
    carryless_product,
    field_polynomial_tail,
)
from diqkd_postproc.protocol.errors import ParameterError


@pytest.mark.parametrize("degree", [*range(2, 65), 71, 96, 127, 128, 129, 142, 160, 192, 228, 255])
def test_field_polynomial_is_the_one_that_galois_finds_by_the_same_rule(degree: int) -> None:
    expected = galois.irreducible_poly(2, degree, terms="min", method="min")
    assert (degree, *field_polynomial_tail(degree)) == tuple(expected.nonzero_degrees)


def test_published_degree() -> None:
    assert field_polynomial_tail(142) == (21, 0)
    assert BinaryField(128).polynomial == (1 << 128) | 0x87


def test_tail_reaches_at_most_half_the_degree_so_that_two_folds_reduce() -> None:
    assert all(2 * field_polynomial_tail(degree)[0] <= degree for degree in range(2, MAX_DEGREE + 1))


@pytest.mark.parametrize("degree", [3, 8, 17, 64])
def test_arithmetic_against_galois(degree: int) -> None:
    field = BinaryField(degree)
    oracle = galois.GF(2**degree, irreducible_poly=galois.Poly.Int(field.polynomial))
    generator = random.Random(degree)
    for _ in range(50):
        left, right = generator.randrange(2**degree), generator.randrange(1, 2**degree)
        exponent = generator.randrange(1000)
        assert field.multiply(left, right) == int(oracle(left) * oracle(right))
        assert field.power(right, exponent) == int(oracle(right) ** exponent)


@pytest.mark.parametrize("degree", [65, 142, 256])
def test_reduction_against_polynomial_division(degree: int) -> None:
    field = BinaryField(degree)
    generator = random.Random(degree)
    for _ in range(20):
        product = carryless_product(generator.getrandbits(degree), generator.getrandbits(degree))
        assert field.reduce(product) == int(galois.Poly.Int(product) % galois.Poly.Int(field.polynomial))


def test_words_put_the_low_coefficients_first() -> None:
    assert BinaryField(142).words(1 | 2 << 64 | 3 << 128) == [1, 2, 3]


@pytest.mark.parametrize("degree", [-1, 0, 1, 257])
def test_degree_out_of_range(degree: int) -> None:
    with pytest.raises(ParameterError, match="field degree"):
        field_polynomial_tail(degree)
