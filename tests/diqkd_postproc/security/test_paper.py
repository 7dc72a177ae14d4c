"""Proposition 2: published figures, high-precision arithmetic, and the order relations it must obey."""

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mpmath import mpf

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.security import paper
from diqkd_postproc.security.min_tradeoff import OMEGA_MAX, MinTradeoffFunction
from tests.support import proposition_2_reference as reference

GAMMA = Fraction(13, 256)
OMEGA_THRESHOLD = 0.8255376291227473
PUBLISHED = (1_500_000, GAMMA, OMEGA_THRESHOLD, 296_517, 1e-10)

slow = settings(max_examples=12)
rounds = st.integers(200_000, 20_000_000)
thresholds = st.floats(0.80, 0.85)
gammas = st.integers(4, 128).map(lambda k: Fraction(k, 256))


@pytest.mark.parametrize(("syndrome_bits", "bits"), [(296_517, 95_885), (296_518, 95_884)])
def test_published_key_length_to_the_bit(syndrome_bits: int, bits: int) -> None:
    assert paper.key_length(1_500_000, GAMMA, OMEGA_THRESHOLD, syndrome_bits, 1e-10).bits == bits


@pytest.mark.parametrize(
    ("rounds", "gamma", "omega", "syndrome_bits", "soundness", "bits"),
    [
        (1_500_000, GAMMA, 0.82553763, 247_045, 1e-10, 145_355),
        (1_500_000, GAMMA, 0.82553763, 296_517, 1e-6, 182_103),
        (1_500_000, GAMMA, 0.8302232, 265_322, 1e-10, 193_975),
        (5_000_000, GAMMA, 0.8275559, 896_071, 1e-10, 1_124_314),
    ],
)
def test_independently_computed_lengths(
    rounds: int, gamma: Fraction, omega: float, syndrome_bits: int, soundness: float, bits: int
) -> None:
    # The thresholds of this table are rounded to seven digits: n * slope * 5e-8 < 3 bits.
    result = paper.key_length(rounds, gamma, omega, syndrome_bits, soundness)
    assert abs(result.bits - bits) <= 3


def test_terms_of_the_published_point() -> None:
    result = paper.key_length(*PUBLISHED)
    expected = {
        "entropy": 698_716.5,
        "test_outcomes": -76_171.9,
        "test_outcomes_second_order": -29_867.8,
        "smoothing_min": -169_564.6,
        "smoothing_max": -29_901.0,
        "chain_rule": -264.2,
        "extractor_error": -214.0,
        "syndrome": -296_517.0,
        "messages": -258.0,
        "extractor_constant": -6.0,
    }
    for name, bits in expected.items():
        assert result.terms[name] == pytest.approx(bits, abs=0.1 if abs(bits) < 7e5 else 0.2), name
    assert math.fsum(result.terms.values()) == pytest.approx(result.value, abs=1e-6)
    assert result.terms["extractor_length"] == pytest.approx(-4 * math.log2(result.value), abs=1e-6)
    assert result.value == pytest.approx(95_885.7, abs=0.1)


def test_free_parameters_of_the_published_point() -> None:
    analysis = paper.key_length(*PUBLISHED).analysis
    assert analysis["tangent_point"] == pytest.approx(0.8118316, abs=2e-6)
    assert analysis["renyi_min"] == pytest.approx(6.0818e-4, rel=1e-4)
    assert analysis["renyi_max"] == pytest.approx(3.6933e-3, rel=1e-4)
    assert analysis["smoothing"] == pytest.approx(4.9935e-11, rel=1e-4)
    assert analysis["smoothing_min"] == pytest.approx(4.281e-11, rel=1e-3)
    assert analysis["smoothing_max"] == pytest.approx(3.525e-12, rel=1e-3)


def test_published_point_in_high_precision() -> None:
    result = paper.key_length(*PUBLISHED)
    exact = reference.argument(*PUBLISHED[:4], result.analysis)
    for name, value in exact.items():
        if name != "constants":
            assert abs(mpf(result.terms[name]) - value) < mpf(10) ** -7, name
    length = reference.length(*PUBLISHED[:4], result.analysis)
    assert abs(mpf(result.value) - length) < result.margin / 1000
    assert result.bits == int(length)


@settings(max_examples=8)
@given(rounds, gammas, thresholds, st.sampled_from([1e-6, 1e-10, 1e-14]))
def test_never_above_high_precision(n: int, gamma: Fraction, omega: float, soundness: float) -> None:
    result = paper.key_length(n, gamma, omega, n // 10, soundness)
    assume(result.bits > 0)
    exact = reference.length(n, gamma, omega, n // 10, result.analysis)
    assert result.bits <= exact
    assert abs(mpf(result.value) - exact) < result.margin / 1000


@slow
@given(gammas, st.floats(0.76, 0.85), thresholds, st.floats(1e-5, 0.3))
def test_infimum_is_below_every_sample(gamma: Fraction, tangent: float, omega: float, renyi: float) -> None:
    function = MinTradeoffFunction(tangent, float(gamma))
    bound = paper.entropy_rate_bound(function, omega, renyi)
    sampled = []
    for i in range(501):
        w = paper.OMEGA_MIN + (OMEGA_MAX - paper.OMEGA_MIN) * i / 500
        gain = function.slope * (omega - w)
        sampled.append(gain + paper.entropy_bound(w) - renyi * paper.second_order(function, w))
    assert bound <= min(sampled) + 1e-12 * (1 + abs(bound))


@slow
@given(rounds, gammas, thresholds, st.integers(1, 1000))
def test_more_rounds_never_shorten_the_key(n: int, gamma: Fraction, omega: float, more: int) -> None:
    shorter = paper.key_length(n, gamma, omega, n // 8, 1e-10)
    assume(shorter.bits > 0)
    longer = paper.key_length(n + more * 100, gamma, omega, n // 8, 1e-10)
    assert longer.value >= shorter.value - 0.01


@slow
@given(rounds, gammas, st.floats(0.78, 0.84), st.floats(1e-5, 1e-2))
def test_higher_thresholds_lengthen_the_key(n: int, gamma: Fraction, omega: float, rise: float) -> None:
    low = paper.key_length(n, gamma, omega, n // 8, 1e-10)
    assert paper.key_length(n, gamma, omega + rise, n // 8, 1e-10).value >= low.value - 0.01


@slow
@given(rounds, gammas, thresholds, st.integers(1, 10_000))
def test_each_syndrome_bit_costs_about_one(n: int, gamma: Fraction, omega: float, more: int) -> None:
    base = paper.key_length(n, gamma, omega, n // 8, 1e-10)
    assume(base.bits > 20_000)
    cost = base.value - paper.key_length(n, gamma, omega, n // 8 + more, 1e-10).value
    assert 0.99 * more - 0.02 <= cost <= more + 0.02


@slow
@given(rounds, gammas, thresholds, st.sampled_from([(1e-15, 1e-12), (1e-12, 1e-10), (1e-10, 1e-6)]))
def test_larger_soundness_errors_lengthen_the_key(
    n: int, gamma: Fraction, omega: float, errors: tuple[float, float]
) -> None:
    strict, loose = (paper.key_length(n, gamma, omega, n // 8, error) for error in errors)
    assert loose.value > strict.value


@slow
@given(rounds, gammas, thresholds, st.sampled_from([1e-6, 1e-10, 1e-15]))
def test_free_parameters_prove_the_soundness_error(
    n: int, gamma: Fraction, omega: float, soundness: float
) -> None:
    result = paper.key_length(n, gamma, omega, n // 8, soundness)
    choice = paper.AnalysisParameters(**result.analysis)
    assert choice.soundness_error() <= soundness
    assert choice.chain_smoothing > 0
    assert result.one_bit_error * max(1, result.bits) <= choice.extractor_error * (1 + 1e-12)


def test_optimum_is_stationary() -> None:
    best = paper.key_length(*PUBLISHED)
    for name in ("tangent_point", "renyi_min", "renyi_max", "smoothing_min", "smoothing_max"):
        for factor in (0.999, 1.001):
            moved = dict(best.analysis)
            moved[name] *= factor
            other = paper.evaluate(*PUBLISHED[:4], paper.AnalysisParameters(**moved))
            assert other.value <= best.value + 1e-3, (name, factor)


def test_no_key_is_an_answer() -> None:
    result = paper.key_length(1000, GAMMA, 0.75, 300, 1e-10)
    assert result.bits == 0
    assert result.value < 0
    assert 0 < result.one_bit_error < 1
    assert paper.key_length(2, GAMMA, 0.6, 1, 1e-10).bits == 0


@given(st.floats(1.0, 1e9))
def test_extractor_loss_is_inverted(entropy: float) -> None:
    length = paper.invert_extractor_loss(entropy)
    assert length + 4 * math.log2(length) == pytest.approx(entropy, rel=1e-13, abs=1e-13)


@given(st.floats(1e-18, 0.5))
def test_smoothing_cost_matches_high_precision(error: float) -> None:
    exact = -reference.log2(1 - reference.mp.sqrt(1 - mpf(error) ** 2))
    assert abs(paper.smoothing_cost(error) / exact - 1) < 1e-14


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_rounds": 0}, "num_rounds=0"),
        ({"gamma": Fraction(0)}, "gamma=0 "),
        ({"gamma": Fraction(1)}, "gamma=1 "),
        ({"omega_threshold": 0.86}, "omega_threshold=0.86"),
        ({"omega_threshold": 0.5}, "omega_threshold=0.5"),
        ({"omega_threshold": math.nan}, "omega_threshold=nan"),
        ({"syndrome_bits": -1}, "syndrome_bits=-1"),
        ({"soundness_error": 1e-18}, "soundness_error=1e-18"),
        ({"soundness_error": 0.5}, "soundness_error=0.5"),
    ],
)
def test_illegal_values_are_named(change: dict[str, object], message: str) -> None:
    names = ("num_rounds", "gamma", "omega_threshold", "syndrome_bits", "soundness_error")
    arguments = dict(zip(names, PUBLISHED, strict=True)) | change
    with pytest.raises(ParameterError, match=message):
        paper.key_length(**arguments)


def test_illegal_free_parameters_are_named() -> None:
    analysis = dict(paper.key_length(*PUBLISHED).analysis)
    for name, value in (("renyi_min", 1.0), ("renyi_max", 0.5), ("smoothing_min", 1e-10)):
        with pytest.raises(ParameterError, match="Proposition 2"):
            paper.evaluate(*PUBLISHED[:4], paper.AnalysisParameters(**(analysis | {name: value})))
