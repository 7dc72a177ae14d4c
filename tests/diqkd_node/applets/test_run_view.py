"""What the live views show, computed without Qt."""

import numpy as np
import pytest

from diqkd_node.applets.run_view import MAX_POINTS, Lamp, Pause, RunView, duration
from diqkd_node.applets.score_view import bands
from diqkd_node.run.dashboard import RUN_STATUS, SCORES, show
from diqkd_node.run.public_facts import KEY_RUN_FACTS


def facts(time_s, rounds, **changes):
    """Public facts as a key run publishes them."""
    values = {
        "num_rounds": 100_000,
        "rounds_done": rounds,
        "herald_rate": 100.0,
        "herald_patterns": np.array([rounds // 4] * 4),
        "label_mismatches": 0,
        "node_state": "running",
        "ion_state": "present",
        "ion_losses": 0,
        "laser_lock": "locked",
        "last_update_unix": time_s,
        "connection": "authenticated",
    } | changes
    assert values.keys() == KEY_RUN_FACTS.keys()
    return values


def lamps(view, now_s):
    return {status.label: (status.text, status.lamp) for status in view.statuses(now_s)}


def test_before_a_run_there_is_nothing_to_see():
    view = RunView()
    view.update({})
    assert view.progress == "no run yet" and view.fraction == 0.0
    assert view.statuses(0.0)[0].lamp is Lamp.UNKNOWN
    assert view.last_pause == "no pause seen"
    assert view.history() == ([], []) and view.pause_spans() == []


def test_progress_and_time_left_follow_from_the_rate():
    view = RunView()
    for minute in range(11):
        view.update(facts(60.0 * minute, 6000 * minute))
    assert view.progress == "60,000 of 100,000 rounds, 60.0%, 7 min left"
    assert view.seconds_left == pytest.approx(400.0)
    assert lamps(view, 600.0)["patterns"][0] == "25.0 / 25.0 / 25.0 / 25.0 %"
    view.update(facts(1000.0, 100_000, node_state="finished"))
    assert view.progress == "100,000 of 100,000 rounds, 100.0%, complete"


def test_a_pause_is_seen_counted_and_drawn():
    view = RunView()
    view.update(facts(0.0, 0))
    view.update(facts(60.0, 6000))
    view.update(facts(120.0, 6000, node_state="674 nm laser not locked", laser_lock="lost"))
    assert view.last_pause == "paused: 674 nm laser not locked, for 0 s"
    assert lamps(view, 120.0)["674 nm laser"] == ("not locked", Lamp.BAD)
    assert lamps(view, 120.0)["node"][1] is Lamp.WAITING
    view.update(facts(180.0, 6000, node_state="calibrating"))
    view.update(facts(240.0, 6000))
    assert [pause.reason for pause in view.pauses] == ["674 nm laser not locked", "calibrating"]
    assert view.last_pause == "last pause: calibrating, 1 min"
    assert view.pause_spans() == [(-2.0, -1.0), (-1.0, 0.0)]
    # No heralds in a pause, whatever rate was published last.
    assert view.history() == ([-4.0, -3.0, -2.0, -1.0, 0.0], [100.0, 100.0, 0.0, 0.0, 100.0])


def test_lost_ions_and_a_silent_node_show():
    view = RunView()
    view.update(facts(0.0, 10, ion_state="absent", ion_losses=1, node_state="ion lost"))
    assert lamps(view, 0.0)["ion"] == ("absent, lost 1 time", Lamp.WAITING)
    assert lamps(view, 300.0)["node"] == ("silent for 5 min", Lamp.BAD)
    # A laboratory that keeps a time of its own is not silent.
    assert lamps(view, 1e6)["node"][1] is Lamp.WAITING


def test_the_same_facts_again_change_nothing_and_a_long_history_is_thinned():
    view = RunView()
    for _ in range(3):
        view.update(facts(1.0, 5))
    assert view.times == [1.0]
    for step in range(2 * MAX_POINTS):
        view.update(facts(2.0 + step, step))
    assert MAX_POINTS // 2 <= len(view.times) <= MAX_POINTS
    assert view.times[0] < 5.0 and view.times[-1] == 1.0 + 2 * MAX_POINTS
    assert view.times == sorted(view.times)


def test_a_pause_that_lasts_reaches_to_the_end():
    view = RunView(times=[0.0, 60.0], rates=[1.0, 0.0], pauses=[Pause("ion lost", 30.0)])
    assert view.pause_spans() == [(-0.5, 0.0)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1.0, "0 s"), (59.4, "59 s"), (90.0, "2 min"), (3599.0, "1 h 0 min"), (5400.0, "1 h 30 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_bands_are_95_percent_and_leave_out_what_is_not_finite():
    rows = [[0.0, 2.6, 0.1, 0.01, 0.001], [60.0, np.nan, 0.1, 0.01, 0.001], [120.0, 2.7, 0.05, 0.02, 0.002]]
    score, errors = bands(rows)
    np.testing.assert_allclose(score.times, [-2.0, 0.0])
    np.testing.assert_allclose(score.high - score.low, 2 * 1.959964 * np.array([0.1, 0.05]))
    np.testing.assert_allclose(errors.values, [1.0, 2.0])
    assert score.last == "2.700 ± 0.050" and errors.last == "2.000 ± 0.200"
    assert bands(())[0].last == "–"


def test_experiments_ask_dashboards_to_open_applets():
    issued = []

    class Broadcast:
        def issue(self, *arguments, **options):
            issued.append((arguments, options))

    show(Broadcast(), RUN_STATUS, SCORES)
    assert issued[0] == (
        ("create_applet", "DIQKD run", "${python} -m diqkd_node.applets.run_status"),
        {"group": "diqkd"},
    )
    assert len(issued) == 2
