"""What campaigns say of a code's failures, and where they say nothing."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest

from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.planning.plan import UNKNOWN_FAILURE_RATE, make_plan
from diqkd_postproc.reconciliation.ensemble import ENSEMBLES
from diqkd_postproc.reconciliation.failure_rate import rate_above_threshold

CHANNEL = (13 / 256, 0.018, 0.17)


def rate(num_rounds: int, syndrome_bits: int) -> float | None:
    return rate_above_threshold(ENSEMBLES["near-limit"], num_rounds, syndrome_bits, CHANNEL)


def test_recorded_points_have_the_upper_end_of_their_interval() -> None:
    """The table of docs/codes.md."""
    assert rate(1_500_000, 246_340) == pytest.approx(1.8e-3, rel=0.02)
    assert rate(1_500_000, 244_691) == pytest.approx(7.4e-3, rel=0.02)
    assert rate(100_000, 16_940) == pytest.approx(7.1e-2, rel=0.02)


def test_rates_fall_with_the_length_and_end_near_the_threshold() -> None:
    rates = [rate(100_000, bits) for bits in (18_500, 17_200, 17_050, 16_950)]
    assert all(a is not None and b is not None and a <= b for a, b in pairwise(rates))
    assert rate(100_000, 16_200) is None and rate(100_000, 15_000) is None


def test_a_plan_states_the_rate_or_says_why_it_has_none() -> None:
    plan = make_plan(DesignPoint())
    stated = plan.to_dict()["abort_probabilities"]["error_correction"]
    assert stated == pytest.approx(1.8e-3, rel=0.02) and not plan.notes
    quiet = make_plan(DesignPoint(chsh_score=2.82, qber=0.001))
    assert quiet.error_correction_abort is None and quiet.notes == (UNKNOWN_FAILURE_RATE,)


def test_of_coupled_chains_and_short_blocks_nothing_is_known() -> None:
    parameters = make_plan(DesignPoint()).parameters
    chain = dataclasses.replace(
        make_plan(DesignPoint()), parameters=parameters.model_copy(update={"code_design": "sc-ldpc"})
    )
    assert chain.error_correction_abort is None
