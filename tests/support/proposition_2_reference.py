"""Proposition 2 in sixty-digit arithmetic, written from eqs. 61 to 73 of the SI as they are printed there."""

from fractions import Fraction

import mpmath
from mpmath import mp, mpf

mp.dps = 60
OMEGA_MIN = (1 - 1 / mp.sqrt(2)) / 2
OMEGA_MAX = (1 + 1 / mp.sqrt(2)) / 2


def log2(x):
    return mp.log(x) / mp.log(2)


def entropy(p):
    return mpf(0) if p in (0, 1) else -p * log2(p) - (1 - p) * log2(1 - p)


def eta(w):
    if mpf(1) / 4 <= w <= mpf(3) / 4:
        return mpf(0)
    return 1 - entropy((1 + mp.sqrt(16 * w * (w - 1) + 3)) / 2)


def argument(n, gamma, omega_threshold, m, choice):
    """The argument of Upsilon in eq. 73, with a derivative and an infimum that are found numerically."""
    n, m, w_thr = mpf(n), mpf(m), mpf(omega_threshold)
    gamma = mpf(Fraction(gamma).numerator) / Fraction(gamma).denominator
    c = {name: mpf(value) for name, value in choice.items()}
    t, a, a2 = c["tangent_point"], c["renyi_min"], c["renyi_max"]
    slope = mp.diff(eta, t)

    def g(w):
        return eta(t) + (w - t) * slope

    values = {0: g(mpf(0)) / gamma + (1 - 1 / gamma) * g(mpf(1)), 1: g(mpf(1)), None: g(mpf(1))}

    def distribution(w):
        return {0: gamma * (1 - w), 1: gamma * w, None: 1 - gamma}

    def expectation(w):
        return sum(p * values[u] for u, p in distribution(w).items())

    def spread(w):
        second = sum(p * values[u] ** 2 for u, p in distribution(w).items())
        return mp.log(2) / 2 * (log2(33) + mp.sqrt(2 + second - expectation(w) ** 2)) ** 2

    def integrand(w):
        return eta(w) - expectation(w) - a * spread(w)

    grid = [OMEGA_MIN + (OMEGA_MAX - OMEGA_MIN) * i / 400 for i in range(401)]
    best = min(range(401), key=lambda i: integrand(grid[i]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, 400)]
    for _ in range(120):
        third = (high - low) / 3
        if integrand(low + third) < integrand(high - third):
            high -= third
        else:
            low += third
    infimum = integrand((low + high) / 2)

    span = 2 + g(mpf(1)) - g(OMEGA_MIN)
    k = 2 ** (a * span) * mp.log(2**span + mp.e**2) ** 3 / (6 * (1 - a) ** 3 * mp.log(2))

    def theta(e):
        return -log2(1 - mp.sqrt(1 - e**2))

    e_s, e_1, e_2, e_ea = c["smoothing"], c["smoothing_min"], c["smoothing_max"], c["accumulation_error"]
    return {
        "entropy": n * g(w_thr) + n * infimum - n * a**2 * k,
        "test_outcomes": -n * gamma,
        "test_outcomes_second_order": -n * a2 * log2(5) ** 2,
        "smoothing_min": -(theta(e_1) + (1 + a) * log2(1 / e_ea)) / a,
        "smoothing_max": -(theta(e_2) + (1 + a2) * log2(1 / e_ea)) / a2,
        "chain_rule": -3 * theta(e_s - e_1 - 2 * e_2),
        "extractor_error": -5 * log2(1 / c["extractor_error"]),
        "syndrome": -m,
        "constants": mpf(-264),
    }


def length(n, gamma, omega_threshold, m, choice):
    """Upsilon of the argument, by the Lambert function as in eq. 52."""
    x = mpmath.fsum(argument(n, gamma, omega_threshold, m, choice).values())
    b = 4 / mp.log(2)
    return b * mpmath.lambertw(mp.exp(x / b) / b).real if x < 1e6 else upsilon_by_iteration(x, b)


def upsilon_by_iteration(x, b):
    y = x
    for _ in range(200):
        y = x - b * mp.log(y)
    return y
