"""The host's half of a scan, driven as a kernel drives it."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from diqkd_node.calibration import scan_data
from diqkd_node.calibration.scan_data import CalibrationFailure, ScanData
from diqkd_node.run import ion_reload
from diqkd_node.run.ion_reload import IonReload


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
    monkeypatch.setattr(scan_data, "LOOK_INTERVAL_S", 0.0)
    data = ScanData([4])
    play(data, data.next_point(-1, True, True), count=1)
    assert data.next_point(0, False, True) == 0
    play(data, 0, count=2)
    assert data.next_point(0, True, True) == -1
    assert data.values(0).tolist() == [2, 2, 2, 2]


def test_a_laser_that_stays_away_ends_the_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_data, "LOOK_INTERVAL_S", 0.0)
    data = ScanData([4], lock_patience=-1.0)
    with pytest.raises(CalibrationFailure, match="out of lock"):
        data.next_point(0, False, True)


def test_a_lost_ion_is_loaded_and_its_point_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_data, "LOOK_INTERVAL_S", 0.0)
    loads: list[int] = []
    data = ScanData([2], reload=IonReload(lambda: loads.append(1)))
    assert data.next_point(data.next_point(-1, True, True), True, False) == 0
    play(data, 0)
    assert data.next_point(0, True, True) == -1
    assert loads == [1]


class Laboratory:
    """A clock of its own, and a loader: it takes `loading_s`, and `trapping_s` later the ion is there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, loading_s: float, trapping_s: float) -> None:
        self.now_s, self.loading_s, self.trapping_s = 100.0, loading_s, trapping_s
        self.loads: list[float] = []
        self.there_s = math.inf
        clock = SimpleNamespace(monotonic=lambda: self.now_s, sleep=self.sleep)
        monkeypatch.setattr(scan_data, "time", clock)
        monkeypatch.setattr(ion_reload, "time", clock)

    def sleep(self, duration_s: float) -> None:
        self.now_s += duration_s

    def load(self) -> None:
        self.loads.append(self.now_s)
        self.now_s += self.loading_s
        self.there_s = min(self.there_s, self.now_s + self.trapping_s)

    def scan(self) -> ScanData:
        """A scan of one point that begins without an ion."""
        data = ScanData([2], reload=IonReload(self.load))
        while (point := data.next_point(-1, True, True)) >= 0:
            present = self.now_s >= self.there_s
            if present:
                play(data, point)
            data.next_point(point, True, present)
        return data


@pytest.mark.parametrize(("loading_s", "trapping_s"), [(90.0, 0.0), (0.0, 50.0), (20.0, 59.0)])
def test_a_slow_loader_gets_the_time_it_takes_and_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, loading_s: float, trapping_s: float
) -> None:
    laboratory = Laboratory(monkeypatch, loading_s, trapping_s)
    assert laboratory.scan().complete and len(laboratory.loads) == 1


@pytest.mark.parametrize("loading_s", [0.0, 30.0])
def test_a_trap_that_stays_empty_ends_the_calibration(
    monkeypatch: pytest.MonkeyPatch, loading_s: float
) -> None:
    laboratory = Laboratory(monkeypatch, loading_s, math.inf)
    with pytest.raises(CalibrationFailure, match="3 attempts"):
        laboratory.scan()
    assert np.all(np.diff(laboratory.loads) >= 60.0 + loading_s) and len(laboratory.loads) == 3
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
