"""Host side of a scan: the order of its points, and the shots of each.

A point counts when all its shots are in and the laser was locked at its end; otherwise it is repeated.
"""

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from artiq.experiment import TBool, TInt32, TList, rpc
from numpy.typing import NDArray

from diqkd_node.run.ion_reload import IonReload
from diqkd_postproc.protocol.errors import DiqkdError

LOOK_INTERVAL_S = 0.2  # between two looks at an absent laser or ion
MAX_LOADS = 3


class CalibrationFailure(DiqkdError):
    """A calibration could not be made: no ion, no laser, or data that no fit describes."""


class ScanData:
    """Remote calls of a `Scan`, and its results.

    :param num_shots: of each point
    :param order: in which the points are taken
    :param should_stop: whether the scheduler wants the experiment to pause or end
    :param progress: called with the number of points done
    :param reload: loads a lost ion; the default leaves it to people, and the calibration ends
    :param lock_patience: s to wait for the 674 nm laser
    """

    def __init__(
        self,
        num_shots: Sequence[int],
        order: Sequence[int] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        progress: Callable[[int], None] = lambda done: None,
        reload: IonReload | None = None,
        lock_patience: float = 600.0,
    ) -> None:
        self.num_shots = [int(number) for number in num_shots]
        self._waiting = list(range(len(self.num_shots)) if order is None else order)
        self._should_stop = should_stop
        self._progress = progress
        self._reload = reload or IonReload(None)
        self._lock_patience = lock_patience
        self._unlocked_since: float | None = None
        self._values: list[list[NDArray[np.int64]]] = [[] for _ in self.num_shots]
        self._shots_in = [0] * len(self.num_shots)

    @property
    def complete(self) -> bool:
        """Whether every point has been measured."""
        return not self._waiting

    def values(self, point: int) -> NDArray[np.int64]:
        """(n,) numbers of all shots of a point."""
        parts = self._values[point]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def joined(self, points: Iterable[int]) -> NDArray[np.int64]:
        """(n,) numbers of all shots of several points."""
        return np.concatenate([self.values(point) for point in points])

    def shots_of(self, point: int) -> TInt32:
        """Number of shots of a point."""
        return self.num_shots[point]

    def goes_on(self) -> TBool:
        """Whether to go on with the shots of a point; one that is left is repeated."""
        return not self._should_stop()

    @rpc(flags={"async"})
    def store(self, point: TInt32, shots: TInt32, num_values: TInt32, values: TList(TInt32)) -> None:
        """The first `num_values` of `values` came from `shots` shots."""
        self._values[point].append(np.array(values[:num_values], dtype=np.int64))
        self._shots_in[point] += shots

    def next_point(self, done: TInt32, locked: TBool, ion_present: TBool) -> TInt32:
        """The point to measure after `done` (-1: the first), or -1 to stop."""
        if done >= 0:
            self._finish(done, locked, ion_present)
        if not self._waiting or self._should_stop():
            return -1
        return self._waiting[0]

    def _finish(self, point: int, locked: bool, ion_present: bool) -> None:
        if ion_present:
            self._reload.ion_is_back()
        if ion_present and locked and self._shots_in[point] == self.num_shots[point]:
            self._unlocked_since = None
            self._waiting.remove(point)
            self._progress(len(self.num_shots) - len(self._waiting))
            return
        self._values[point].clear()
        self._shots_in[point] = 0
        if not ion_present:
            self._wait_for_ion()
        elif not locked:
            self._wait_for_lock()

    def _wait_for_ion(self) -> None:
        if self._reload.load is None:
            raise CalibrationFailure(
                "no fluorescence: the ion is lost; load one and run the calibration again"
            )
        if self._reload.due and self._reload.num_loads == MAX_LOADS:
            raise CalibrationFailure(
                f"no fluorescence: the ion is lost, and {MAX_LOADS} attempts to load another failed; none "
                f"was seen within {self._reload.patience_s:g} s"
            )
        self._reload.no_ion("the calibration")
        time.sleep(LOOK_INTERVAL_S)

    def _wait_for_lock(self) -> None:
        now = time.monotonic()
        if self._unlocked_since is None:
            self._unlocked_since = now
        if now - self._unlocked_since > self._lock_patience:
            raise CalibrationFailure(
                f"the 674 nm laser has been out of lock for {self._lock_patience:g} s; lock it and run the "
                "calibration again"
            )
        time.sleep(LOOK_INTERVAL_S)
