"""Degree distributions of the codes: which ensemble serves which channel and syndrome length.

Test rounds (error (4 - S) / 8) and key rounds (error Q) are sent through one code, whose columns form two
classes with their own degrees: noisy positions get many checks, so that what the quiet ones learn flows to
them. Checks are concentrated on one degree. Thresholds in the docstrings are those of
`density_evolution.threshold_efficiency` at the design point S = 2.64, Q = 1.8 %, gamma = 13/256; the
efficiency f is the syndrome length in units of the Shannon limit n H.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


def binary_entropy(probability: float) -> float:
    """h(p) in bits; 0 at p = 0 and p = 1."""
    if probability <= 0.0 or probability >= 1.0:
        return 0.0
    return float(-probability * np.log2(probability) - (1 - probability) * np.log2(1 - probability))


def conditional_entropy(gamma: float, qber: float, test_error: float) -> float:
    """Shannon limit H of the syndrome length per round: (1 - gamma) h(Q) + gamma h((4 - S) / 8), SI S6."""
    return (1.0 - gamma) * binary_entropy(qber) + gamma * binary_entropy(test_error)


@dataclass(frozen=True, slots=True)
class DegreeEnsemble:
    """Column degrees of key and test positions, each as {degree: fraction of the class's columns}."""

    name: str
    key_degrees: Mapping[int, float]
    test_degrees: Mapping[int, float]

    def column_degrees(self, num_key: int, num_test: int) -> tuple[list[int], list[int]]:
        """Degrees of `num_test` test and `num_key` key columns, each in descending order."""
        return _apportion(self.test_degrees, num_test), _apportion(self.key_degrees, num_key)


def _apportion(fractions: Mapping[int, float], count: int) -> list[int]:
    """Integer shares of `count` by the largest remainders; ties go to the lower degree."""
    degrees = sorted(fractions)
    total = sum(fractions.values())
    exact = {d: fractions[d] / total * count for d in degrees}
    shares = {d: int(exact[d]) for d in degrees}
    missing = count - sum(shares.values())
    for d in sorted(degrees, key=lambda d: (shares[d] - exact[d], d))[:missing]:
        shares[d] += 1
    return [d for d in sorted(degrees, reverse=True) for _ in range(shares[d])]


def _from_edges(edges: Mapping[int, float]) -> dict[int, float]:
    """Column fractions (not normalised) of edge fractions."""
    return {degree: share / degree for degree, share in edges.items()}


ROBUST = DegreeEnsemble("robust", key_degrees={3: 0.85, 9: 0.15}, test_degrees={8: 1.0})
"""No column of degree two: for lengths well above the limit, as the paper's rule n H + 50 sqrt(n)."""

NEAR_LIMIT = DegreeEnsemble(
    "near-limit",
    key_degrees=_from_edges({2: 0.129, 3: 0.281, 7: 0.244, 12: 0.189}),
    test_degrees=_from_edges({6: 0.029, 7: 0.013, 30: 0.114}),
)
"""Degree-two columns, kept off short cycles by the construction: for lengths within 12 % of the limit."""

ENSEMBLES = {ensemble.name: ensemble for ensemble in (ROBUST, NEAR_LIMIT)}

NEAR_LIMIT_EFFICIENCY = 1.15


def ensemble_for(efficiency: float) -> DegreeEnsemble:
    """The ensemble for a syndrome length of `efficiency` times the Shannon limit."""
    return NEAR_LIMIT if efficiency < NEAR_LIMIT_EFFICIENCY else ROBUST
