"""Lanes of the event dispatcher: what the gateware's own test expects, and a gate that ends far ahead."""

from sim_devices.engines.kasli.lanes import Lanes


def test_later_events_share_a_lane_for_ever() -> None:
    lanes = Lanes()
    assert all(lanes.take(8 * cycle) for cycle in range(1000))


def test_eight_events_of_a_coarse_cycle_fit() -> None:
    lanes = Lanes()
    assert [lanes.take(80 + fine) for fine in range(8)] == [True] * 8
    assert not lanes.take(87)
    assert lanes.take(88)


def test_earlier_events_go_round_up_to_the_one_that_is_far_ahead() -> None:
    lanes = Lanes()
    assert lanes.take(1_000_000)
    # Each pulse is followed by one that begins with it: a lane further each time.
    for k in range(7):
        assert lanes.take(8 * k), k
        assert lanes.take(8 * k) or k == 6
    assert not lanes.take(8 * 6)
    lanes.reset()
    assert lanes.take(0)
