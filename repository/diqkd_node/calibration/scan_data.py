"""The host's half of a scan: which point comes next, and what the shots of each gave.

A point counts when all its shots are in and the laser was locked at its end; otherwise it is repeated.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from artiq.experiment import TBool, TInt32, TList, rpc
from numpy.typing import NDArray

from diqkd_postproc.errors import DiqkdError

LOCK_INTERVAL = 0.2  # s between two looks at an absent laser


class CalibrationFailure(DiqkdError):
    """A calibration could not be made: no ion, no laser, or data that no fit describes."""


class ScanData:
    """Remote calls of a `Scan`, and its results.

    :param num_shots: of each point
    :param order: in which the points are taken
    :param should_stop: whether the scheduler wants the experiment to pause or end
    :param progress: called with the number of points done
    :param load_ion: brings an ion back; None in a lab without automatic loading
    :param lock_patience: s to wait for the 674 nm laser
    """

    def __init__(
        self,
        num_shots: Sequence[int],
        order: Sequence[int] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        progress: Callable[[int], None] = lambda done: None,
        load_ion: Callable[[], Any] | None = None,
        lock_patience: float = 600.0,
    ) -> None:
        self.num_shots = [int(number) for number in num_shots]
        self._waiting = list(range(len(self.num_shots)) if order is None else order)
        self._should_stop = should_stop
        self._progress = progress
        self._load_ion = load_ion
        self._lock_patience = lock_patience
        self._unlocked_since: float | None = None
        self._reloads = 0
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
        if ion_present and locked and self._shots_in[point] == self.num_shots[point]:
            self._unlocked_since, self._reloads = None, 0
            self._waiting.remove(point)
            self._progress(len(self.num_shots) - len(self._waiting))
            return
        self._values[point].clear()
        self._shots_in[point] = 0
        if not ion_present:
            self._reload()
        elif not locked:
            self._wait_for_lock()

    def _reload(self) -> None:
        self._reloads += 1
        if self._load_ion is None or self._reloads > 3:
            raise CalibrationFailure(
                "no fluorescence: the ion is lost"
                + (
                    "; load one and run the calibration again"
                    if self._load_ion is None
                    else ", and three attempts to load another failed"
                )
            )
        self._load_ion()

    def _wait_for_lock(self) -> None:
        now = time.monotonic()
        if self._unlocked_since is None:
            self._unlocked_since = now
        if now - self._unlocked_since > self._lock_patience:
            raise CalibrationFailure(
                f"the 674 nm laser has been out of lock for {self._lock_patience:g} s; lock it and run the "
                "calibration again"
            )
        time.sleep(LOCK_INTERVAL)
