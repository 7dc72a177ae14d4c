"""Drifts of the simulated laboratory, and what they do to S."""

import dataclasses
import math

import pytest

from diqkd_node.configuration import NodeConfiguration
from sim_devices.physics import constants
from sim_devices.physics.drift import STEP_S, Drift, DriftState
from sim_devices.physics.expected_scores import true_chsh_and_qber

NODES = NodeConfiguration(role="alice"), NodeConfiguration(role="bob")
STILL = DriftState(0.0, {"alice": 1.0, "bob": 1.0}, (0.0, 0.0, 0.0, 0.0))


def test_a_laboratory_without_drift_stays_as_it_is():
    drift = Drift(outages=((10.0, 5.0),), loading_s=3.0, time_scale=20.0)
    assert drift.still and drift.epoch(1e6) == 0
    assert drift.state(1e6) == STILL
    assert [drift.locked(time_s) for time_s in (9.0, 10.0, 14.9, 15.0)] == [True, False, False, True]


def test_drifts_begin_at_nothing_and_are_functions_of_time_and_seed():
    drift = Drift(seed=5, laser_hz=600.0, laser_wander_hz=200.0, power=-0.02, phase=0.4, phase_wander=0.3)
    assert drift.state(0.0) == STILL
    later = drift.state(7200.0)
    assert later == dataclasses.replace(drift).state(7200.0)
    assert later == drift.state(7200.0 + STEP_S - 1.0) != drift.state(7200.0 + STEP_S)
    assert abs(later.frequency_offset - 1200.0) <= 400.0
    assert later.rabi_scale == pytest.approx({"alice": 0.96, "bob": 0.96})
    assert len(set(later.phase_offsets)) == 4
    assert drift.state(7200.0) != dataclasses.replace(drift, seed=6).state(7200.0)


def test_after_an_outage_the_laser_is_somewhere_else():
    drift = Drift(seed=2, relock_hz=300.0, outages=((1000.0, 600.0),))
    assert drift.state(1500.0).frequency_offset == 0.0
    assert drift.state(1660.0).frequency_offset != 0.0


def test_a_drift_survives_the_wire():
    drift = Drift(seed=3, laser_hz=1.5, outages=((1.0, 2.0), (4.0, 2.0)))
    assert Drift.from_json(drift.to_json()) == drift


@pytest.mark.parametrize(
    "wrong",
    [
        {"time_scale": 0.5},
        {"outages": ((5.0, 10.0), (8.0, 1.0))},
        {"outages": ((5.0, 0.0),)},
        {"loading_s": -1.0},
        {"power_wander": 0.7},
    ],
)
def test_impossible_drifts_are_refused(wrong):
    with pytest.raises(ValueError, match=r"outage|time scale|power"):
        Drift(**wrong)


def test_truth_without_drift_is_the_published_link():
    score, qber = true_chsh_and_qber(*NODES, STILL)
    assert score == pytest.approx(constants.CHSH_SCORE, abs=2e-3)
    assert qber == pytest.approx(constants.QBER, abs=2e-4)


def test_a_laser_offset_turns_the_analysis_phase_and_a_phase_offset_does_the_same():
    """S has a constant half and one that goes with the cosine of the phase between the two analyses.

    The heralded states are in |01> and |10>, so the phase that the light gains is that of one node minus
    that of the other: only the time between the two analysis pulses counts.
    """
    best = true_chsh_and_qber(*NODES, STILL)[0]
    worst = true_chsh_and_qber(*NODES, STILL._replace(phase_offsets=(math.pi,) * 4))[0]
    for phase in (0.3, 1.0, -1.0):
        expected = (best + worst) / 2 + (best - worst) / 2 * math.cos(phase)
        turned = true_chsh_and_qber(*NODES, STILL._replace(phase_offsets=(phase,) * 4))[0]
        assert turned == pytest.approx(expected, abs=0.01)
    offset = 1.0 / (2 * math.pi * 20.6e-6)  # from the middle of Bob's pulse to that of Alice's
    score, _ = true_chsh_and_qber(*NODES, STILL._replace(frequency_offset=offset))
    # Detuned by 8 % of the Rabi frequency, the pulses themselves lose a little.
    assert score == pytest.approx((best + worst) / 2 + (best - worst) / 2 * math.cos(1.0), abs=0.06)


def test_pulses_of_the_wrong_length_cost_violation_and_key():
    weak = STILL._replace(rabi_scale={"alice": 0.9, "bob": 0.9})
    score, qber = true_chsh_and_qber(*NODES, weak)
    assert qber > constants.QBER + 5e-4 and score < 2.60
    pi_time = NODES[0].analysis.pi_time_qubit / 0.9
    longer = [node.with_fields({"analysis.pi_time_qubit": pi_time}) for node in NODES]
    assert true_chsh_and_qber(*longer, weak)[0] == pytest.approx(constants.CHSH_SCORE, abs=5e-3)
