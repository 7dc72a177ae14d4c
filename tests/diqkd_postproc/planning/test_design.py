"""Design rules: published figures, the whole legal domain, and the smallest runs that give a key."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diqkd_postproc.planning import design
from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.security.min_tradeoff import MAX_CHSH_SCORE

GAMMA = Fraction(13, 256)


def test_published_design_point() -> None:
    parameters = DesignPoint(1_500_000, GAMMA, 2.64, 0.018).parameters()
    assert parameters.omega_threshold == pytest.approx(0.82553763, abs=5e-9)
    assert parameters.syndrome_bits == 296_517
    assert parameters.key_bits == 95_885
    assert parameters.max_losses == 13_289
    assert (parameters.test_numerator, parameters.test_bits) == (13, 8)
    assert parameters.one_bit_error * parameters.key_bits == pytest.approx(1.3e-13, rel=0.01)


def test_seed_of_the_published_run_follows() -> None:
    """t = 2 ceil(log n + 2 log(2/e1)) = 284, whose next prime is 293: seed 14 * 293^2 (SI S9 B)."""
    parameters = DesignPoint(1_500_000, GAMMA, 2.64, 0.018).parameters()
    bits = math.log2(parameters.num_rounds) + 2 * math.log2(2 / parameters.one_bit_error)
    assert 2 * math.ceil(bits) == 284


def test_published_syndrome_overhead() -> None:
    limit = 1_500_000 * design.shannon_limit(GAMMA, 2.64, 0.018)
    assert limit == pytest.approx(235_280, abs=1)
    assert design.syndrome_length(1_500_000, GAMMA, 2.64, 0.018) / limit == pytest.approx(1.260, abs=5e-4)
    assert 1_500_000 * design.shannon_limit(GAMMA, 2.677, 0.0144) == pytest.approx(204_084, abs=1)


@pytest.mark.parametrize(
    ("rounds", "gamma", "chsh_score", "threshold"),
    [(1_500_000, GAMMA, 2.677, 0.8302232), (5_000_000, GAMMA, 2.64, 0.8275559)],
)
def test_independently_computed_thresholds(
    rounds: int, gamma: Fraction, chsh_score: float, threshold: float
) -> None:
    assert design.omega_threshold(rounds, gamma, chsh_score) == pytest.approx(threshold, abs=6e-8)


def test_smallest_run_of_an_ideal_link() -> None:
    """Fig. S15: with S = 2 sqrt(2), Q = 0 and the best gamma, a key appears from n of about 2.6e5."""
    smallest = [
        DesignPoint(gamma=Fraction(k, 256), chsh_score=MAX_CHSH_SCORE, qber=0.0).minimum_rounds()
        for k in (26, 30, 34)
    ]
    assert min(n for n in smallest if n) == pytest.approx(2.6e5, rel=0.03)


def test_minimum_rounds_is_minimal() -> None:
    smallest = DesignPoint(gamma=GAMMA, chsh_score=2.64, qber=0.018).minimum_rounds()
    assert smallest is not None
    assert DesignPoint(smallest, GAMMA, 2.64, 0.018).parameters().key_bits > 0
    assert DesignPoint(int(0.998 * smallest), GAMMA, 2.64, 0.018).parameters().key_bits == 0
    larger = DesignPoint(gamma=GAMMA, chsh_score=2.64, qber=0.018).minimum_rounds(95_885)
    assert larger == pytest.approx(1_500_000, rel=0.002)


def test_minimum_rounds_says_when_no_number_suffices() -> None:
    assert DesignPoint(gamma=GAMMA, chsh_score=2.2, qber=0.1).minimum_rounds() is None
    assert DesignPoint(gamma=GAMMA, chsh_score=2.0, qber=0.0).minimum_rounds() is None


@settings(max_examples=20)
@given(
    st.integers(1000, 100_000_000),
    st.integers(1, 2**16 - 1).map(lambda k: Fraction(k, 2**16)),
    st.floats(2.0, MAX_CHSH_SCORE),
    st.floats(0.0, 0.5),
    st.sampled_from([1e-15, 1e-10, 1e-6, 1e-2]),
)
def test_whole_legal_domain(n: int, gamma: Fraction, s: float, q: float, soundness: float) -> None:
    parameters = DesignPoint(n, gamma, s, q, soundness).parameters()
    assert parameters.gamma == gamma
    assert 0 <= parameters.key_bits < n
    assert parameters.syndrome_bits < n
    assert ProtocolParameters.from_toml(parameters.to_toml()) == parameters


@settings(max_examples=10)
@given(st.floats(2.5, 2.8), st.floats(0.0, 0.03), st.floats(1e-4, 0.02))
def test_better_links_give_longer_keys(s: float, q: float, gain: float) -> None:
    base = DesignPoint(3_000_000, GAMMA, s, q, syndrome_bits=300_000).key_length().value
    assert DesignPoint(3_000_000, GAMMA, s + gain, q, syndrome_bits=300_000).key_length().value > base
    worse = DesignPoint(3_000_000, GAMMA, s, q + gain).key_length().value
    assert worse < DesignPoint(3_000_000, GAMMA, s, q).key_length().value


def test_key_never_exceeds_the_asymptotic_rate() -> None:
    for n in (10**6, 10**7, 10**8):
        rate = DesignPoint(n, GAMMA, 2.7, 0.01).parameters().key_bits / n
        assert rate < design.asymptotic_rate(GAMMA, 2.7, 0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_rounds": 0}, "num_rounds=0.*more rounds"),
        ({"num_rounds": 10**9}, "num_rounds=1000000000.*split"),
        ({"gamma": Fraction(1, 20)}, "gamma=1/20.*13/256"),
        ({"gamma": Fraction(3, 2)}, r"gamma=3/2.*\(0, 1\)"),
        ({"gamma": math.nan}, "gamma=nan"),
        ({"chsh_score": 1.9}, "chsh_score=1.9"),
        ({"chsh_score": 2.83}, "chsh_score=2.83"),
        ({"qber": 0.6}, "qber=0.6"),
        ({"qber": math.nan}, "qber=nan"),
        ({"soundness_error": 1e-19}, "soundness_error=1e-19"),
        ({"syndrome_bits": 1_500_000}, "syndrome_bits=1500000"),
    ],
)
def test_illegal_values_are_named(change: dict[str, object], message: str) -> None:
    legal = {"num_rounds": 1_500_000, "gamma": GAMMA, "chsh_score": 2.64, "qber": 0.018}
    with pytest.raises(ParameterError, match=message):
        DesignPoint(**(legal | change)).parameters()
