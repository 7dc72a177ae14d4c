"""The `counted` proof: independently computed lengths, order relations, exhaustive check of its lemma."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mpf
from scipy.stats import binom

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.security import counted, paper
from tests.support import proposition_2_reference as reference

GAMMA = Fraction(13, 256)
OMEGA_THRESHOLD = 0.8255376291227473
PUBLISHED = (1_500_000, GAMMA, OMEGA_THRESHOLD, 296_517, 1e-10)

slow = settings(max_examples=10)
rounds = st.integers(200_000, 20_000_000)
thresholds = st.floats(0.80, 0.84)
gammas = st.integers(4, 128).map(lambda k: Fraction(k, 256))


@pytest.mark.parametrize(
    ("rounds", "gamma", "omega", "syndrome_bits", "soundness", "bits"),
    [
        (1_500_000, GAMMA, OMEGA_THRESHOLD, 296_517, 1e-10, 155_815),
        (1_500_000, GAMMA, OMEGA_THRESHOLD, 247_045, 1e-10, 205_285),
        (1_500_000, GAMMA, OMEGA_THRESHOLD, 296_517, 1e-6, 230_159),
        (1_500_000, GAMMA, 0.8302232, 265_322, 1e-10, 253_926),
        (5_000_000, GAMMA, 0.8275559, 896_071, 1e-10, 1_233_546),
    ],
)
def test_independently_computed_lengths(
    rounds: int, gamma: Fraction, omega: float, syndrome_bits: int, soundness: float, bits: int
) -> None:
    # Where the table rounds the threshold to seven digits: n * slope * 5e-8 < 3 bits.
    limit = counted.test_limit(rounds, gamma)
    result = counted.key_length(rounds, gamma, omega, syndrome_bits, soundness, limit)
    assert abs(result.bits - bits) <= (0 if omega == OMEGA_THRESHOLD else 3)


def test_published_limit_of_test_rounds() -> None:
    limit = counted.test_limit(1_500_000, GAMMA)
    assert limit == 77_004
    assert binom.sf(limit, 1_500_000, 13 / 256) <= 1e-3 < binom.sf(limit - 1, 1_500_000, 13 / 256)


def test_terms_against_high_precision() -> None:
    result = counted.key_length(*PUBLISHED, 77_004)
    choice = dict(result.analysis)
    # Proposition 2 at the same t, alpha' and errors has the same entropy, extractor and message terms.
    other = {"renyi_max": 0.003, "smoothing_min": choice["smoothing"], "smoothing_max": 1e-30}
    exact = reference.argument(*PUBLISHED[:4], choice | other | {"smoothing": 2 * choice["smoothing"]})
    for name in ("entropy", "smoothing_min", "extractor_error"):
        assert abs(mpf(result.terms[name]) - exact[name]) < mpf(10) ** -7, name
    assert result.terms["test_outcomes"] == -77_004
    assert math.fsum(result.terms.values()) == pytest.approx(result.value, abs=1e-6)
    errors = choice["extractor_error"] + 2 * choice["smoothing"]
    assert max(choice["accumulation_error"], errors) + 4 * 2.0**-61 <= 1e-10


def test_conditional_min_entropy_loses_at_most_the_length_of_the_string() -> None:
    """The lemma for classical side information: guessing A is at most 2^N times as likely as guessing A B."""
    random = np.random.default_rng(3)
    for num_bits, _ in itertools.product((1, 2, 3), range(20)):
        joint = random.dirichlet(np.full(4 * 2**num_bits * 5, 0.2)).reshape(4, 2**num_bits, 5)
        guess_both = joint.max(axis=(0, 1)).sum()
        guess_first = joint.sum(axis=1).max(axis=0).sum()
        assert guess_first <= 2**num_bits * guess_both + 1e-12


@slow
@given(rounds, gammas, thresholds, st.integers(1, 1000))
def test_order_relations(n: int, gamma: Fraction, omega: float, more: int) -> None:
    limit = counted.test_limit(n, gamma)

    def value(**change: object) -> float:
        arguments = {
            "num_rounds": n,
            "gamma": gamma,
            "omega_threshold": omega,
            "syndrome_bits": n // 8,
            "soundness_error": 1e-10,
            "max_tests": limit,
        }
        return counted.key_length(**(arguments | change)).value  # type: ignore[arg-type]

    base = value()
    assert value(omega_threshold=omega + 1e-5 * more) >= base - 0.01
    assert value(syndrome_bits=n // 8 + more) <= base - 0.9 * more if base > 1e4 else True
    assert value(max_tests=limit + more) <= base + 0.01
    assert value(soundness_error=1e-8) > base
    assert base <= value(num_rounds=n + 100 * more) + 0.01 or base < 0


@slow
@given(rounds, gammas, thresholds)
def test_counting_beats_accumulating_twice(n: int, gamma: Fraction, omega: float) -> None:
    limit = counted.test_limit(n, gamma)
    longer = counted.key_length(n, gamma, omega, n // 8, 1e-10, limit)
    assert longer.value > paper.key_length(n, gamma, omega, n // 8, 1e-10).value


def test_a_given_extractor_error_is_kept() -> None:
    best = counted.key_length(*PUBLISHED, 77_004)
    other = counted.key_length(*PUBLISHED, 77_004, extractor_error=1e-14)
    assert other.extractor_error == 1e-14
    assert best.value - 30 < other.value < best.value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_tests": -1}, "max_tests=-1"),
        ({"max_tests": 1_500_001}, "max_tests=1500001"),
        ({"extractor_error": 1e-9}, "lower one_bit_error"),
        ({"gamma": Fraction(1)}, "gamma=1 "),
        ({"omega_threshold": 0.9}, "omega_threshold=0.9"),
        ({"syndrome_bits": -1}, "syndrome_bits=-1"),
        ({"soundness_error": 1e-18}, "soundness_error=1e-18"),
    ],
)
def test_illegal_values_are_named(change: dict[str, object], message: str) -> None:
    names = ("num_rounds", "gamma", "omega_threshold", "syndrome_bits", "soundness_error")
    legal = dict(zip(names, PUBLISHED, strict=True)) | {"max_tests": 77_004}
    with pytest.raises(ParameterError, match=message):
        counted.key_length(**(legal | change))  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="error=2"):
        counted.test_limit(1000, GAMMA, 2.0)
