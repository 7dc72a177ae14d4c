"""The host's half of a scan, driven as a kernel drives it."""

import numpy as np
import pytest

from sim_devices import artiq_stub

artiq_stub.install()

from diqkd_node.calibration import scan_data  # noqa: E402
from diqkd_node.calibration.scan_data import CalibrationFailure, ScanData  # noqa: E402


def play(data: ScanData, point: int, count: int = 7) -> None:
    """All shots of a point in two chunks."""
    shots = data.shots_of(point)
    for part in (shots // 2, shots - shots // 2):
        data.store(point, part, part, [count] * 20)


def test_points_come_in_the_given_order_with_all_their_shots() -> None:
    done: list[int] = []
    data = ScanData([3, 4, 5], order=[2, 0, 1], progress=done.append)
    point = data.next_point(-1, True, True)
    visited = []
    while point >= 0:
        visited.append(point)
        play(data, point)
        point = data.next_point(point, True, True)
    assert visited == [2, 0, 1] and done == [1, 2, 3] and data.complete
    assert [len(data.values(index)) for index in range(3)] == [3, 4, 5]
    assert len(data.joined([0, 2])) == 8 and np.all(data.joined([0, 2]) == 7)


def test_a_point_without_laser_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_data, "LOCK_INTERVAL", 0.0)
    data = ScanData([4])
    play(data, data.next_point(-1, True, True), count=1)
    assert data.next_point(0, False, True) == 0
    play(data, 0, count=2)
    assert data.next_point(0, True, True) == -1
    assert data.values(0).tolist() == [2, 2, 2, 2]


def test_a_laser_that_stays_away_ends_the_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_data, "LOCK_INTERVAL", 0.0)
    data = ScanData([4], lock_patience=-1.0)
    with pytest.raises(CalibrationFailure, match="out of lock"):
        data.next_point(0, False, True)


def test_a_lost_ion_is_loaded_and_its_point_repeated() -> None:
    loads: list[int] = []
    data = ScanData([2], load_ion=lambda: loads.append(1))
    assert data.next_point(data.next_point(-1, True, True), True, False) == 0
    play(data, 0)
    assert data.next_point(0, True, True) == -1
    assert loads == [1]


def test_a_trap_that_stays_empty_ends_the_calibration() -> None:
    data = ScanData([2], load_ion=lambda: None)
    for _ in range(3):
        assert data.next_point(0, True, False) == 0
    with pytest.raises(CalibrationFailure, match="three attempts"):
        data.next_point(0, True, False)
    with pytest.raises(CalibrationFailure, match="load one"):
        ScanData([2]).next_point(0, True, False)


def test_a_stopped_scan_goes_on_where_it_was() -> None:
    stop = [False]
    data = ScanData([1, 1], should_stop=lambda: stop[0])
    play(data, data.next_point(-1, True, True))
    stop[0] = True
    assert data.next_point(0, True, True) == -1 and not data.complete
    stop[0] = False
    assert data.next_point(-1, True, True) == 1
