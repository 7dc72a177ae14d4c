"""Time of a node in the laboratory, and what drifts with it: the light's parameters and the laser's lock."""

import time

from sim_devices.physics.drift import Drift


class LaboratoryTime:
    """Laboratory time of one node (s), and the drifted 674 nm light at that time.

    Time is that of the last entry of the tape, or of a step, and from there on this node's own clock (mu,
    1 ns).

    :ivar last_mu: latest event by which this node's clock is known to have advanced
    :ivar light_offset: frequency of the light less the frequency that is set, Hz
    :ivar light_scale: Rabi frequency over the nominal one
    """

    __slots__ = (
        "_anchor_mu",
        "_anchor_s",
        "_epoch",
        "_role",
        "drift",
        "last_mu",
        "light_offset",
        "light_scale",
    )

    def __init__(self, role: str, drift: Drift, time_s: float) -> None:
        self._role = role
        self.last_mu = 0
        self._anchor_s, self._anchor_mu = time_s, 0
        self.light_offset, self.light_scale = 0.0, 1.0
        self.use(drift)

    def use(self, drift: Drift) -> None:
        """Follow this drift from now on."""
        self.drift = drift
        self._epoch = -1
        self.follow_drift()

    @property
    def seconds(self) -> float:
        """Laboratory time, s."""
        return self._anchor_s + 1e-9 * (self.last_mu - self._anchor_mu)

    def catch_up(self, time_s: float) -> None:
        """Laboratory time is at least this; the light's parameters follow."""
        if time_s > self.seconds:
            self._anchor_s, self._anchor_mu = time_s, self.last_mu
        self.follow_drift()

    def follow_drift(self) -> None:
        """Set the light's parameters to those of the present time."""
        time_s = self.seconds
        epoch = self.drift.epoch(time_s)
        if epoch != self._epoch:
            self._epoch = epoch
            state = self.drift.state(time_s)
            self.light_offset = state.frequency_offset
            self.light_scale = state.rabi_scale[self._role]


class LaserLock:
    """Lock of the 674 nm laser: lost for a time after a fault, and during the outages of the drift."""

    __slots__ = ("_back_at", "_time", "lost_until_mu")

    def __init__(self, laboratory_time: LaboratoryTime) -> None:
        self._time = laboratory_time
        self.lost_until_mu = -1
        self._back_at = 0.0

    def lose(self, time_mu: int, duration_mu: int, at_least_s: float = 1.0) -> None:
        """Lose the lock at `time_mu`. It is back after `duration_mu` of the node's time, or after as much
        wall-clock time but no less than `at_least_s`: a node that waits outside a kernel has no timeline.
        """
        self.lost_until_mu = time_mu + duration_mu
        self._back_at = time.monotonic() + max(at_least_s, 1e-9 * duration_mu)

    def level(self, time_mu: int) -> int:
        """Level of the lock's line at `time_mu`: 1 if the laser is locked."""
        laboratory_time = self._time
        if laboratory_time.drift.outages:
            laboratory_time.last_mu = time_mu
            laboratory_time.follow_drift()
            if not laboratory_time.drift.locked(laboratory_time.seconds):
                return 0
        return int(time_mu >= self.lost_until_mu or time.monotonic() > self._back_at)
