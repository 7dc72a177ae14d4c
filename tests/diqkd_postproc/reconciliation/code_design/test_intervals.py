"""Likelihood intervals and the finite-length limit."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.reconciliation.code_design.intervals import (
    finite_length_failure_rate,
    finite_length_limit,
    information_variance,
    likelihood_interval,
)
from diqkd_postproc.reconciliation.ensemble import conditional_entropy


@given(st.integers(0, 500), st.integers(0, 500))
def test_the_ends_of_an_interval_are_1000_times_less_likely(events: int, others: int) -> None:
    trials = events + others
    if trials == 0:
        assert likelihood_interval(0, 0) == (0.0, 1.0)
        return
    low, high = likelihood_interval(events, trials)
    best = events / trials
    assert low <= best <= high
    for end in (low, high):
        if 0.0 < end < 1.0:
            ratio = binom.logpmf(events, trials, best) - binom.logpmf(events, trials, end)
            assert ratio == pytest.approx(math.log(1000), rel=1e-6)
    assert (low == 0.0) == (events == 0) and (high == 1.0) == (others == 0)


# sinter 1.16, fit_binomial(max_likelihood_factor=1000), which searches on a grid of 0.01 / trials.
@pytest.mark.parametrize(
    ("events", "trials", "low", "high"),
    [
        (0, 1000, 0.0, 0.00688),
        (3, 1000, 0.00011, 0.01458),
        (50, 50, 0.871, 1.0),
        (12, 10**6, 3.26e-6, 2.984e-5),
    ],
)
def test_intervals_are_those_of_sinter(events: int, trials: int, low: float, high: float) -> None:
    assert likelihood_interval(events, trials) == pytest.approx((low, high), abs=0.02 / trials)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ParameterError, match="3 events in 2 trials"):
        likelihood_interval(3, 2)
    with pytest.raises(ParameterError, match="factor"):
        likelihood_interval(1, 2, max_likelihood_factor=1.0)


def test_the_limit_at_the_published_size() -> None:
    channel = (13 / 256, 0.018, 0.17)
    limit = 1_500_000 * conditional_entropy(*channel)
    assert finite_length_limit(1_500_000, *channel, 1e-2) / limit == pytest.approx(1.0095, abs=1e-4)


@pytest.mark.parametrize("failure_rate", [1e-1, 1e-3])
def test_the_limit_follows_the_exact_optimum_of_one_kind_of_rounds(failure_rate: float) -> None:
    """The best code of fixed length keeps the most likely words: those of the smallest weights."""
    n, p = 4000, 0.11
    kept, exact_bits = 0, 0.0
    for weight in range(n + 1):
        kept += math.comb(n, weight)
        if binom.sf(weight, n, p) <= failure_rate:
            exact_bits = math.log2(kept)
            break
    approximate = finite_length_limit(n, 0.0, p, 0.5, failure_rate)
    assert approximate == pytest.approx(exact_bits, abs=10.0)


@given(st.floats(1e-6, 0.4))
def test_failure_rate_inverts_the_limit(failure_rate: float) -> None:
    channel = (13 / 256, 0.018, 0.17)
    bits = finite_length_limit(100_000, *channel, failure_rate)
    assert finite_length_failure_rate(100_000, *channel, bits) == pytest.approx(failure_rate, rel=1e-6)


def test_the_variance_of_a_fair_coin_vanishes() -> None:
    assert information_variance(0.3, 0.5, 0.5) == pytest.approx(0.0, abs=1e-12)
