"""Free parameters of a variable or fixed key length for an expected link: alpha, kappa, eta, gamma.

Any choice is safe, so the search uses lower bounds of the one-round value. The exact value is the maximum
over strategies: the search keeps a pool of strategies, maximises the key against the pool, adds the best
strategies at the point found, and stops when the pool already contained them. Ties of a classical with a
quantum strategy, where the best parameters often lie, do not disturb it. Only the certificate counts in the
end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from scipy.optimize import minimize

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.length_rule import FreeParameters
from diqkd_postproc.security.closed_round import approximate_closed
from diqkd_postproc.security.exact_round import Array, ExactRound, LogStates
from diqkd_postproc.security.exact_round_search import local_maxima
from diqkd_postproc.security.link_counts import LinkCounts, loss_limit
from diqkd_postproc.security.renyi_round import RoundProblem, approximate_maximum
from diqkd_postproc.security.variable_certification import certify_key, closed_round
from diqkd_postproc.security.variable_length import NUM_KEY_BASES, KeyCertificate, KeyProblem, Order

CAP_DEVIATIONS = 5.0
"""Standard deviations above the mean length that the hash still has rows for (docs/variable_length.md,
section 7)."""

FIXED_DEVIATIONS = 3.0
"""Standard deviations of kappa k - eta N_t above its mean that a fixed length accepts (section 9)."""

POOL_ROUNDS = 14
CLOSED_ROUNDS = 3
SEARCH_STEPS = (0.2, 0.1, 0.03)
"""First simplexes of the successive searches, in logarithms; each stays within twice that and 0.3 of its
start."""

POOL_ACCURACY = 2e-6
"""Gain of the value over the pool's at which the search ends, in units of alpha - 1."""

ESTIMATE_ACCURACY = (0.03, 50.0)
"""Logarithms and bits to which an estimate finds its optimum."""

SEARCH_DIVISIONS = 8
Point = tuple[float, float, float]
"""Logarithms of alpha - 1, kappa and eta."""


def design_key(
    problem: KeyProblem,
    link: LinkCounts,
    free: FreeParameters | None = None,
    deviations: float = FIXED_DEVIATIONS,
) -> KeyCertificate:
    """The certificate, in double precision, whose length at the expected counts of `link` is longest.

    free: free parameters to take instead of the best ones. deviations: of a fixed length, how much more than
    expected is accepted. The key cap of a variable length is the length five standard deviations above its
    mean.
    """
    if free is None:
        free = best_parameters(problem, link, deviations)
    certificate = certify_key(problem, free)
    if problem.length == "fixed":
        return replace(certificate, key_cap=max(0, min(certificate.constant_bits, problem.num_rounds)))
    top = link.mean_bits(certificate.rule) + CAP_DEVIATIONS * link.deviation_bits(certificate.rule)
    return replace(certificate, key_cap=max(0, min(math.ceil(top), problem.num_rounds)))


def estimated_key(
    problem: KeyProblem,
    link: LinkCounts,
    free: FreeParameters | None = None,
    deviations: float = FIXED_DEVIATIONS,
) -> float:
    """About the mean of `design_key`'s length, bits, by the closed bound; negative where there is no key.

    No certificate: for searches.
    """
    if problem.bound == "exact":
        problem = replace(problem, bound="closed")

    def bits_at(point: Point) -> float:
        return expected_entropy(problem, link, point, _closed_excess(problem, point), deviations)

    if free is None:
        point = _maximised(bits_at, _start(problem), SEARCH_STEPS[0], ESTIMATE_ACCURACY)
    else:
        eta = max(float(free.eta), 1e-9)
        point = (math.log(float(free.excess_order)), math.log(float(free.kappa)), math.log(eta))
    bits = bits_at(point)
    bits -= problem.message_bits + math.log2(problem.num_events)
    return bits - (problem.syndrome_bits[0] if problem.length == "variable" else problem.syndrome_bits[-1])


def best_parameters(
    problem: KeyProblem, link: LinkCounts, deviations: float = FIXED_DEVIATIONS
) -> FreeParameters:
    """Free parameters for the expected counts, rounded to the integers of a certificate."""
    pool = _Pool(problem) if problem.bound == "exact" else None
    point = _start(problem)
    for attempt in range(POOL_ROUNDS):
        gain = pool.add(point) if pool is not None else 0.0
        if attempt >= CLOSED_ROUNDS and gain < POOL_ACCURACY:
            break
        excess = pool.excess if pool is not None else lambda p: _closed_excess(problem, p)
        # A pool is true near the points it was made at, and too low elsewhere: stay near.
        point = _maximised(
            lambda p, excess=excess: expected_entropy(problem, link, p, excess(p), deviations),  # type: ignore[misc]
            point,
            SEARCH_STEPS[min(attempt, len(SEARCH_STEPS) - 1)],
        )
    return _free(problem, link, point, deviations)


def best_test_probability(
    problem_at: Callable[[Fraction], KeyProblem],
    link: LinkCounts,
    numerators: Sequence[int],
    test_bits: int = 8,
) -> Fraction:
    """gamma = i / 2^test_bits, i in `numerators`, of the longest expected key: golden section, one maximum
    assumed."""

    def length(numerator: int) -> float:
        problem = problem_at(Fraction(numerator, 2**test_bits))
        return link.at(problem).mean_bits(design_key(problem, link.at(problem)).rule)

    known: dict[int, float] = {}

    def at(index: int) -> float:
        if index not in known:
            known[index] = length(numerators[index])
        return known[index]

    low, high = 0, len(numerators) - 1
    if high < 0:
        raise ParameterError(
            "numerators is empty; give test probabilities to choose from, e.g. range(4, 100)"
        )
    while high - low > 2:
        first = low + round(0.382 * (high - low))
        second = max(first + 1, low + round(0.618 * (high - low)))
        if at(first) < at(second):
            low = first
        else:
            high = second
    best = max(range(low, high + 1), key=at)
    return Fraction(numerators[best], 2**test_bits)


def problem_for(
    link: LinkCounts,
    soundness_error: float,
    syndrome_bits: tuple[int, ...],
    order: Order = "ordered",
    max_late_losses: int = 0,
) -> KeyProblem:
    """A variable-length problem with Toeplitz hashing and the exact bound; L_max ten deviations above the
    mean."""
    return KeyProblem(
        num_rounds=link.num_rounds,
        gamma=link.gamma,
        soundness_error=soundness_error,
        syndrome_bits=syndrome_bits,
        max_losses=loss_limit(link),
        max_late_losses=max_late_losses,
        order=order,
    )


def expected_entropy(
    problem: KeyProblem, link: LinkCounts, point: Point, excess: float, deviations: float = FIXED_DEVIATIONS
) -> float:
    """Bits of key, up to a constant, at the expected counts for a one-round value of 1 + `excess`: no proof
    of anything."""
    d, kappa, eta = _numbers(problem, point)
    bits = -problem.num_rounds / d * math.log1p(excess) / math.log(2)
    bits -= link.mean_cost(kappa, eta)
    if problem.length == "fixed":
        bits -= deviations * link.cost_deviation(kappa, eta)
    error = math.log2(float(problem.secrecy_error()))
    # Toeplitz: section 2. Trevisan: e_s close to e'/2 or e'/4 dominates, section 5.
    return bits + ((1 + d) / d * error if problem.extractor == "toeplitz" else (2 * error - 5) / d)


def _start(problem: KeyProblem) -> Point:
    """alpha - 1 = 0.55 / sqrt n, kappa = 9.6 / gamma, eta = 0.17 kappa."""
    kappa = 9.6 / float(problem.gamma)
    return math.log(min(0.55 / math.sqrt(problem.num_rounds), 0.5)), math.log(kappa), math.log(0.17 * kappa)


def _numbers(problem: KeyProblem, point: Point) -> tuple[float, float, float]:
    d, kappa = math.exp(min(max(point[0], -25.0), 0.0)), math.exp(min(max(point[1], 0.0), 18.0))
    eta = 0.0 if problem.bound in ("full", "simple") else math.exp(min(max(point[2], -20.0), 18.0))
    # Keeps h = 2^(d eta) in range; no optimum comes near.
    return d, kappa, min(eta, 50.0 / d)


def _free(problem: KeyProblem, link: LinkCounts, point: Point, deviations: float) -> FreeParameters:
    d, kappa, eta = _numbers(problem, point)
    budget = 0.0
    if problem.length == "fixed":
        budget = link.mean_cost(kappa, eta) + deviations * link.cost_deviation(kappa, eta)
    return FreeParameters.rounded(d, kappa, eta, budget)


def _maximised(
    gain: Callable[[Point], float], start: Point, size: float, accuracy: tuple[float, float] = (1e-4, 0.02)
) -> Point:
    """accuracy: in the logarithms, and in bits."""
    reach = 2 * size + 0.3
    simplex = [start] + [tuple(v + size * (i == j) for j, v in enumerate(start)) for i in range(3)]

    def near(values: Array) -> Point:
        inside = [min(max(float(v), s - reach), s + reach) for v, s in zip(values, start, strict=True)]
        return inside[0], inside[1], inside[2]

    found = minimize(
        lambda values: -gain(near(values)),
        start,
        method="Nelder-Mead",
        options={
            "initial_simplex": simplex,
            "xatol": accuracy[0],
            "fatol": accuracy[1],
            "maxiter": 160,
        },
    )
    return near(found.x)


def _closed_excess(problem: KeyProblem, point: Point) -> float:
    if problem.bound == "closed":
        return approximate_closed(closed_round(problem, FreeParameters.rounded(*_numbers(problem, point))))
    d, kappa, _ = _numbers(problem, point)
    return approximate_maximum(RoundProblem(d, kappa, float(problem.gamma)), problem.bound)[0]


class _Pool:
    """Strategies found so far; their largest value is a lower bound of the exact one-round value."""

    def __init__(self, problem: KeyProblem) -> None:
        self._problem = problem
        self._angles: list[tuple[Array, Array]] = []
        self._states: list[LogStates] = []

    def _round(self, point: Point) -> ExactRound:
        numbers = (*_numbers(self._problem, point), float(self._problem.gamma))
        return ExactRound(*numbers, NUM_KEY_BASES[self._problem.order])

    def add(self, point: Point) -> float:
        """Add the best strategies at `point`; what the value gains by them, in units of alpha - 1."""
        one_round = self._round(point)
        before = self.excess(point) if self._angles else -math.inf
        found = local_maxima(one_round, SEARCH_DIVISIONS)
        self._angles.append((found.theta, found.phi))
        self._states.append(found.states)
        return (float(found.value.max()) - 1.0 - before) / one_round.order_minus_one

    def excess(self, point: Point) -> float:
        """Largest f - 1 of the pool."""
        theta, phi = (np.concatenate([a[i] for a in self._angles]) for i in (0, 1))
        states = LogStates(
            np.concatenate([s.mean for s in self._states], axis=1),
            np.concatenate([s.axis for s in self._states], axis=1),
        )
        return float(self._round(point).duals(theta, phi, states).value.max()) - 1.0
