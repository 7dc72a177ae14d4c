"""Drifts of public statistics: found when they are there, not found when they are not."""

import dataclasses

import numpy as np

from diqkd_node.unattended.calibration_graph import HERALD_RATE, ION_LOSS_RATE, PATTERN_FRACTIONS, STATISTICS
from diqkd_node.unattended.decisions import Observation
from diqkd_node.unattended.drift_watch import DriftWatch, PublicCounts

EQUAL = (0.25, 0.25, 0.25, 0.25)


def follow(watch, minutes, rate=100.0, shares=EQUAL, losses=0, totals=None, seed=1):
    """Feed poissonian counts minute by minute; what was found and the totals reached."""
    rng = np.random.default_rng(seed)
    time_s, patterns, lost = totals or (0.0, np.zeros(4, dtype=int), 0)
    found = {}
    for _ in range(minutes):
        time_s += 60.0
        patterns = patterns + rng.poisson(60.0 * rate * np.array(shares))
        lost += losses
        counts = PublicCounts(
            time_s=time_s, heralds=int(patterns.sum()), patterns=tuple(patterns.tolist()), ion_losses=lost
        )
        found |= watch.update(counts)
    return found, (time_s, patterns, lost)


def test_a_day_without_drift_raises_no_alarm():
    # 47 comparisons of 5 statistics at 6 standard deviations: a false alarm has a chance below 1e-6.
    assert follow(DriftWatch(), 480, seed=3)[0] == {}


def test_each_statistic_is_found_when_it_drifts():
    for change, statistic in (
        ({"rate": 80.0}, HERALD_RATE),
        ({"shares": (0.30, 0.25, 0.25, 0.20)}, PATTERN_FRACTIONS),
        ({"losses": 1}, ION_LOSS_RATE),
    ):
        watch = DriftWatch()
        _, totals = follow(watch, 11)
        found, _ = follow(watch, 20, totals=totals, **change)
        assert set(found) == {statistic}, change


def test_a_change_that_is_small_or_not_significant_does_not_count():
    watch = DriftWatch()
    _, totals = follow(watch, 11)
    assert follow(watch, 20, rate=95.0, totals=totals)[0] == {}
    watch = DriftWatch()
    _, totals = follow(watch, 11, rate=0.05)
    assert follow(watch, 20, rate=0.06, totals=totals)[0] == {}


def test_pauses_and_new_totals_are_no_drift():
    watch = DriftWatch()
    _, (time_s, patterns, lost) = follow(watch, 25)
    watch.interrupt()
    assert follow(watch, 25, totals=(time_s + 3600.0, patterns, lost))[0] == {}
    assert follow(watch, 25, totals=(time_s + 7200.0, patterns * 0, 0))[0] == {}


def test_no_outcome_can_be_watched():
    """The names that the decisions see; S and Q would need one more."""
    assert STATISTICS == ("herald_rate", "pattern_fractions", "ion_loss_rate")
    fields = {field.name for field in dataclasses.fields(PublicCounts)}
    assert fields == {"time_s", "heralds", "patterns", "ion_losses"}
    fields = {field.name for field in dataclasses.fields(Observation)}
    assert fields == {
        *("now_s", "acquisition", "held", "running", "locked", "ion_present", "counts", "outcomes"),
        "messages",
    }
