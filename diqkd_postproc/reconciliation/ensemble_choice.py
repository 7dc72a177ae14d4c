"""Which of the shipped ensembles serves a channel and a syndrome length.

Designs are tried in order, robust ones before near-limit ones and each by distance of its channel, until
density evolution on the actual channel decodes with a margin for the finite block. That test is in floating
point; should two machines ever round a borderline case differently, their codes differ in digest, and
reconciliation fails in its validation: an abort, not a wrong key.
"""

from __future__ import annotations

import math

from diqkd_postproc.reconciliation.density_evolution import COARSE_GRID, decodes
from diqkd_postproc.reconciliation.ensemble import DESIGNS, DegreeEnsemble, conditional_entropy

FINITE_LENGTH_MARGIN = 15.0
"""Efficiency that density evolution must leave, in units of 1 / sqrt(n): 1.2 % at 1.5e6 rounds."""
MIN_QBER = 1e-5
MAX_ITERATIONS = 200


def ensembles_by_preference(gamma: float, qber: float) -> list[DegreeEnsemble]:
    """All shipped ensembles: robust before near-limit, nearer channels first."""
    designs = sorted(DESIGNS, key=lambda candidate: candidate.distance(gamma, qber))
    ranks = range(max(len(d.ensembles) for d in designs))
    return [d.ensembles[rank] for rank in ranks for d in designs if rank < len(d.ensembles)]


def choose_ensemble(
    num_rounds: int, syndrome_bits: int, gamma: float, qber: float, test_error: float
) -> DegreeEnsemble:
    """The first ensemble that decodes with margin; the nearest near-limit one if none does."""
    limit = num_rounds * conditional_entropy(gamma, max(qber, MIN_QBER), test_error)
    efficiency = syndrome_bits / limit / (1 + FINITE_LENGTH_MARGIN / math.sqrt(num_rounds))
    candidates = ensembles_by_preference(gamma, qber)
    if efficiency > 1.0:
        channel = (gamma, max(qber, MIN_QBER), test_error)
        for ensemble in candidates:
            if decodes(ensemble, efficiency, *channel, COARSE_GRID, MAX_ITERATIONS):
                return ensemble
    return next(e for e in candidates if e.name.startswith("near-limit"))
