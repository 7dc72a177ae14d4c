"""Free parameters and expected counts: the document's optima, small runs by enumeration, the smallest run
with a key."""

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import pytest

from diqkd_postproc.protocol.length_rule import FreeParameters
from diqkd_postproc.security.link_counts import LinkCounts, loss_limit
from diqkd_postproc.security.min_tradeoff import binary_entropy
from diqkd_postproc.security.variable_certification import certify_key
from diqkd_postproc.security.variable_design import best_test_probability, design_key, problem_for

GAMMA = Fraction(13, 256)


@pytest.mark.parametrize(("order", "bits"), [("ordered", 678308), ("late-type", 861468)])
def test_design_reaches_the_headline(order, bits):
    link = LinkCounts.of_link(1_500_000, GAMMA, 2.677)
    problem = replace(problem_for(link, 1e-10, (213758,), order), num_hash_errors=5)
    rule = design_key(problem, link).rule
    # The document's length lost 1299 bits to its tolerance.
    assert bits + 1250 <= link.mean_bits(rule) <= bits + 1330
    assert link.deviation_bits(rule) < 24_000
    assert rule.key_cap > link.mean_bits(rule) + 4 * link.deviation_bits(rule)
    counts = (round(link.mean_losses), round(1_500_000 * GAMMA), 0, 213758)
    assert rule.key_bits(*counts) == pytest.approx(link.mean_bits(rule), abs=200)


@pytest.mark.parametrize(
    ("n", "gamma", "score", "m", "soundness", "order", "bits"),
    [
        (20_000, "3/8", 2.73, 6320, 1e-6, "ordered", 5342),
        (100_000, "3/16", 2.73, 20242, 1e-6, "late-type", 52627),
        (100_000_000, "1/128", 2.677, 11631385, 1e-10, "ordered", 54174177),
    ],
)
def test_design_is_at_least_the_table(n, gamma, score, m, soundness, order, bits):
    link = LinkCounts.of_link(n, Fraction(gamma), score)
    problem = replace(problem_for(link, soundness, (m,), order), num_hash_errors=5)
    found = link.mean_bits(design_key(problem, link).rule)
    assert bits <= found <= bits + 9e-4 * n


def test_deviation_of_the_document():
    """Section 9: 21.3 kbit at eta = 0, 19.6 kbit at eta = 32, kappa = 191, S = 2.677."""
    link = LinkCounts.of_link(1_500_000, GAMMA, 2.677)
    assert link.cost_deviation(191, 0) == pytest.approx(21_300, abs=60)
    assert link.cost_deviation(191, 32) == pytest.approx(19_600, abs=60)


@pytest.mark.parametrize("credit", [0.0, 3.25])
def test_moments_and_quantiles_by_enumeration(credit):
    n, q = 9, 0.2
    link = LinkCounts(n, Fraction(1, 4), q)
    problem = problem_for(link, 1e-10, (2,))
    rule = replace(
        certify_key(problem, FreeParameters.rounded(0.5, 7.5, credit), tolerance=1e-2).rule, constant_bits=40
    )
    lengths: dict[int, float] = {}
    for rounds in itertools.product((0, 1, 2), repeat=n):  # key, won, lost
        weight = math.prod((0.75, 0.25 * (1 - q), 0.25 * q)[r] for r in rounds)
        lost, tests = rounds.count(2), n - rounds.count(0)
        bits = rule.entropy_bits(lost, tests, 0, 2)
        lengths[bits] = lengths.get(bits, 0.0) + weight
    mean = sum(bits * weight for bits, weight in lengths.items())
    spread = math.sqrt(sum((bits - mean) ** 2 * weight for bits, weight in lengths.items()))
    assert link.mean_bits(rule) == pytest.approx(mean, abs=1.0)  # the rule rounds down
    assert link.deviation_bits(rule) == pytest.approx(spread, abs=0.2)
    for bits in range(min(lengths) - 2, max(lengths) + 3):
        below = sum(weight for value, weight in lengths.items() if value <= bits)
        assert link.probability_at_most(rule, bits) == pytest.approx(below, abs=1e-12)
    for probability in (0.05, 0.5, 0.9):
        quantile = min(v for v in lengths if sum(w for u, w in lengths.items() if u <= v) >= probability)
        assert link.quantile_bits(rule, probability) == quantile


def test_smallest_run_with_a_key():
    """Section 9: var-1x is positive from about 11 000 rounds, S = 2.677, Q = 1.44 %, m = 1.10 n H, gamma =
    82/256."""
    gamma = Fraction(82, 256)
    loss = (4 - 2.677) / 8
    limit = float(1 - gamma) * binary_entropy(0.0144) + float(gamma) * binary_entropy(loss)

    def mean(n: int) -> float:
        link = LinkCounts.of_link(n, gamma, 2.677)
        problem = replace(problem_for(link, 1e-10, (math.ceil(1.1 * n * limit),)), num_hash_errors=5)
        return link.mean_bits(design_key(problem, link).rule)

    assert mean(11_055) > 0  # +0.5 %
    assert mean(10_800) < 0


def test_best_test_probability_by_trying_all():
    n, link = 20_000, LinkCounts.of_link(20_000, Fraction(1, 4), 2.677)

    def problem_at(gamma: Fraction):
        here = LinkCounts.of_link(n, gamma, 2.677)
        limit = float(1 - gamma) * binary_entropy(0.0144) + float(gamma) * binary_entropy((4 - 2.677) / 8)
        return problem_for(here, 1e-10, (math.ceil(1.1 * n * limit),), "late-type")

    choices = (48, 72, 96, 120)
    lengths = {}
    for numerator in choices:
        problem = problem_at(Fraction(numerator, 256))
        lengths[numerator] = link.at(problem).mean_bits(design_key(problem, link.at(problem)).rule)
    assert best_test_probability(problem_at, link, choices) == Fraction(max(lengths, key=lengths.get), 256)


def test_loss_limits_of_the_table():
    for n, gamma, score, limit in (
        (20_000, "3/8", 2.73, 1526),
        (1_500_000, "13/256", 2.64, 14083),
        (10_000_000, "1/64", 2.73, 26378),
        (100_000_000, "1/128", 2.677, 132792),
    ):
        assert loss_limit(LinkCounts.of_link(n, Fraction(gamma), score)) == limit
