"""Probability that error correction of an honest run fails, from recorded campaigns.

What a frame needs above its ensemble's threshold scales with the standard deviation of the block's
information -log2 P(error): in these units failure rates of all lengths and channels lie on one curve, falling
with the distance. It is taken at recorded points only, each with the upper end of its likelihood interval,
and between them at the point before: no number here promises more than was measured. Of blocks shorter than
MIN_MEASURED_ROUNDS, of links quieter than QUIET_QBER and of coupled chains nothing is known.
"""

from __future__ import annotations

import math
from functools import lru_cache

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.reconciliation.code_design.intervals import likelihood_interval
from diqkd_postproc.reconciliation.density_evolution import COARSE_GRID, decodes
from diqkd_postproc.reconciliation.ensemble import (
    DegreeEnsemble,
    conditional_entropy,
    equivalent_qber,
    information_variance,
)
from diqkd_postproc.reconciliation.ensemble_choice import (
    MAX_ITERATIONS,
    MIN_QBER,
    QUIET_QBER,
    choose_ensemble,
)
from diqkd_postproc.reconciliation.nested_code import best_ensemble
from diqkd_postproc.reconciliation.syndrome_code import design_of

MIN_MEASURED_ROUNDS = 10_000

RECORDED = ((5.5, 0, 3800), (4.0, 11, 3811), (3.5, 3, 200))
"""Plain codes: deviations above the threshold, lost frames, frames, at S = 2.64, Q = 1.8 %: n = 1.5e6 at
f = 1.047 and 1.040, n = 1e5 at 1.080."""
RECORDED_IN_PARTS = ((8.5, 3, 3200),)
"""The same of a whole syndrome in parts, n = 14 000: the only one with a loss in docs/codes.md."""


@lru_cache(maxsize=16)
def failure_probability(parameters: ProtocolParameters) -> float | None:
    """Upper end of what campaigns say of these parameters, None where they say nothing; seconds at first.

    Of a syndrome in parts, that its last part does not suffice.
    """
    gamma, test_error = float(parameters.gamma), parameters.design_test_error
    qber = equivalent_qber(parameters.design_qber, parameters.design_second_qber)
    if parameters.num_rounds < MIN_MEASURED_ROUNDS or qber < QUIET_QBER:
        return None
    totals = parameters.syndrome_totals
    try:
        ensemble = _ensemble(parameters, gamma, qber, test_error)
    except ParameterError:
        return None
    if ensemble.chain_length:
        return None
    recorded = RECORDED_IN_PARTS if len(totals) > 1 else RECORDED
    return rate_above_threshold(
        ensemble, parameters.num_rounds, totals[-1], (gamma, qber, test_error), recorded
    )


def _ensemble(parameters: ProtocolParameters, gamma: float, qber: float, test_error: float) -> DegreeEnsemble:
    if parameters.code_design is not None:
        return design_of(parameters.code_design)
    if parameters.increments:
        return best_ensemble(gamma, qber, test_error)[0]
    return choose_ensemble(parameters.num_rounds, parameters.syndrome_bits, gamma, qber, test_error)


def rate_above_threshold(
    ensemble: DegreeEnsemble,
    num_rounds: int,
    syndrome_bits: int,
    channel: tuple[float, float, float],
    recorded: tuple[tuple[float, int, int], ...] = RECORDED,
) -> float | None:
    """The first recorded rate from whose distance on the ensemble decodes; None nearer to its threshold.

    channel: gamma, error rate of key and of test rounds.
    """
    gamma, qber, test_error = channel
    limit = num_rounds * conditional_entropy(*channel)
    deviation = math.sqrt(num_rounds * information_variance(*channel)) / limit
    for distance, lost, frames in recorded:
        efficiency = syndrome_bits / limit / (1 + distance * deviation)
        on_channel = (gamma, max(qber, MIN_QBER), test_error)
        if efficiency > 1 and decodes(ensemble, efficiency, *on_channel, COARSE_GRID, MAX_ITERATIONS):
            return likelihood_interval(lost, frames)[1]
    return None
