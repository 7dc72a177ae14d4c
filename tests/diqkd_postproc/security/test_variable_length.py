"""The integer rule of a key certificate: the document's unit tests, exact fractions, exhaustive
enumeration."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.length_rule import FreeParameters, largest_trevisan_output
from diqkd_postproc.security.variable_length import KeyCertificate, KeyProblem

GAMMA = Fraction(13, 256)

# Evaluated independently, with 40 digits: C of J = 1 and J = 4, and lengths at k, N_t, m_j, v.
ONE = FreeParameters.rounded(4.4e-4, 211, 36)
RANDOM = FreeParameters.rounded(4.85e-4, 191, 32)
CONSTANTS = {("one", 1): 805994.431, ("one", 4): 805992.431, ("two", 1): 1023396.984, ("two", 4): 1023394.984}
COUNTS = [
    ((12597, 76172, 0, 213758), 676461, 676459, 841115, 841113),
    ((12597, 76172, 150, 213758), 676311, 676309, 840965, 840963),
    ((12300, 75900, 0, 213758), 729336, 729334, 889138, 889136),
    ((13000, 76500, 2000, 225000), 589994, 589992, 761396, 761394),
    ((13715, 76172, 0, 240000), 414321, 414319, 601335, 601333),
]


def certificate(constant: int, free: FreeParameters = ONE, **changes: object) -> KeyCertificate:
    values: dict[str, object] = {
        "num_rounds": 1_500_000,
        "gamma": GAMMA,
        "soundness_error": 1e-10,
        "syndrome_bits": (213758, 225000, 240000),
        "max_losses": 13715,
        "max_late_losses": 2000,
    }
    return KeyCertificate(
        problem=KeyProblem(**(values | changes)),  # type: ignore[arg-type]
        free=free,
        constant_bits=constant,
        key_cap=1_500_000,
        round_excess=0.0,
        extractor_error=1e-11,
        smoothing=1e-11,
        value=0.0,
        terms={},
        evidence="",
    )


@pytest.mark.parametrize(("counts", "one_1", "one_4", "two_1", "two_4"), COUNTS)
def test_lengths_of_the_document(counts, one_1, one_4, two_1, two_4):
    """The document floors once, with C itself: the integer rule is the same or one less."""
    expected = {("one", 1): one_1, ("one", 4): one_4, ("two", 1): two_1, ("two", 4): two_4}
    for (bases, increments), bits in expected.items():
        constant = math.floor(CONSTANTS[bases, increments])
        rule = certificate(constant, ONE if bases == "one" else RANDOM)
        assert bits - 1 <= rule.key_bits(*counts) <= bits


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 3_000_000),
    st.integers(1024, 10**7),
    st.integers(0, 10**6),
    st.tuples(st.integers(0, 13715), st.integers(0, 1_500_000), st.integers(0, 2000)),
)
def test_rule_is_the_floor_of_the_exact_fraction(constant, price, credit, counts):
    free = FreeParameters(order_minus_one=1 << 29, loss_price=price, test_credit=credit)
    losses, tests, late = counts
    exact = constant + free.eta * tests - free.kappa * losses - 213758 - late
    bits = certificate(constant, free).key_bits(losses, tests, late, 213758)
    assert bits == max(0, min(math.floor(exact), 1_500_000))


def test_limits_cap_and_illegal_counts():
    rule = certificate(805992)
    counts = (12597, 76172, 0, 213758)
    assert replace(rule, key_cap=5000).key_bits(*counts) == 5000
    assert rule.key_bits(13716, 76172, 0, 213758) == 0
    assert rule.key_bits(12597, 76172, 2001, 213758) == 0
    assert rule.key_bits(13715, 0, 0, 240000) == 0
    for wrong in ((-1, 76172, 0, 213758), (1, 2_000_000, 0, 213758), (1, 1, -1, 213758), (1, 1, 0, 213759)):
        with pytest.raises(ParameterError):
            rule.key_bits(*wrong)


def test_fixed_length_accepts_by_the_linear_cost():
    free = FreeParameters.rounded(4.4e-4, 211, 36, 100.0)
    rule = certificate(5000, free, length="fixed")
    # kappa k - eta N_t <= 100: 211 * 12 - 36 * 68 = 84, one loss more is 295.
    assert rule.key_bits(12, 68, 0, 240000) == 5000
    assert rule.key_bits(13, 68, 0, 240000) == 0
    assert rule.key_bits(12, 67, 0, 240000) == 0
    assert rule.key_bits(12, 68, 2001, 240000) == 0


def test_trevisan_output_by_enumeration():
    for entropy in range(-3, 600):
        fits = [bits for bits in range(1, 600) if bits + 4 * math.log2(bits) <= entropy + 1e-12]
        assert largest_trevisan_output(entropy) == max(fits, default=0)
    large = largest_trevisan_output(10**6)
    assert large + 4 * math.log2(large) <= 10**6 < large + 1 + 4 * math.log2(large + 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gamma": Fraction(1, 3)}, "gamma=1/3"),
        ({"order": "late"}, "order='late'"),
        ({"bound": "best"}, "bound='best'"),
        ({"bound": "full", "order": "late-type"}, "bound='full'"),
        ({"length": "long"}, "length='long'"),
        ({"extractor": "sha"}, "extractor='sha'"),
        ({"syndrome_bits": (5, 5)}, "syndrome_bits"),
        ({"syndrome_bits": ()}, "syndrome_bits"),
        ({"max_losses": 1_500_001}, "max_losses"),
        ({"max_late_losses": -1}, "max_late_losses"),
        ({"num_hash_errors": 0}, "num_hash_errors"),
    ],
)
def test_illegal_problems_are_named(changes, message):
    with pytest.raises(ParameterError, match=message):
        certificate(1, **changes)


@pytest.mark.parametrize("values", [(0, 2048, 0), (2**40 + 1, 2048, 0), (1, 1023, 0), (1, 2048, -1)])
def test_illegal_free_parameters_are_refused(values):
    with pytest.raises(ParameterError):
        FreeParameters(order_minus_one=values[0], loss_price=values[1], test_credit=values[2])


def test_hash_errors_and_events_of_theorem_1():
    rule = certificate(1)
    assert rule.problem.hash_errors == 3 + 3
    assert rule.problem.num_events == 3 * 13716
    assert rule.problem.secrecy_error() == Fraction(1e-10) - 6 * Fraction(1, 2**61)
