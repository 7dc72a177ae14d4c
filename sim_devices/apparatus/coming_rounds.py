"""Coming rounds of a node: entries of the laboratory's tape, and the faults that they carry."""

from collections.abc import Callable
from typing import Any

from sim_devices.apparatus import wire
from sim_devices.apparatus.client import LaboratoryClient
from sim_devices.apparatus.heralded_round import HeraldedRound
from sim_devices.apparatus.laboratory_time import LaboratoryTime, LaserLock
from sim_devices.apparatus.trapped_ion import TrappedIon


class ComingRounds:
    """Entries in the order of the tape; `take_next` makes the next one the current round.

    :param on_connect: called once, with the laboratory, before its first entry is used
    :ivar before_fetch: called with the laboratory before entries are fetched
    :ivar current: the round that is being played
    :ivar index: of the current entry, or of the last one
    """

    def __init__(
        self,
        current: HeraldedRound,
        ion: TrappedIon,
        lock: LaserLock,
        laboratory_time: LaboratoryTime,
        make_client: Callable[[], LaboratoryClient],
        on_connect: Callable[[LaboratoryClient], None],
    ) -> None:
        self.current = current
        self.index = -1
        self._ion = ion
        self._lock = lock
        self._time = laboratory_time
        self._make_client = make_client
        self._on_connect = on_connect
        self.client: LaboratoryClient | None = None
        self.before_fetch: Callable[[LaboratoryClient], None] = lambda client: None
        self._queue: list[tuple[Any, ...]] = []

    def connect(self) -> LaboratoryClient:
        """The laboratory, to which this node connects when it is first needed.

        :raises LaboratoryError: no laboratory answers
        """
        if self.client is None:
            self.client = client = self._make_client()
            self.index = client.rounds_done - 1
            self._on_connect(client)
        return self.client

    def have_one(self, time_mu: int, wait_s: float) -> bool:
        """Whether there is an entry: the current one, or one of the laboratory from now on."""
        return self.current.entry is not None or self.take_next(time_mu, wait_s)

    def take_next(self, time_mu: int, wait_s: float) -> bool:
        """Make the next entry the current round; False if there is none.

        Alice gets no entry before Bob, for whom she waits `wait_s` of wall-clock time, which `time_mu` (the
        node's) does not show. An entry that carries a fault is taken all the same.

        :raises LaboratoryError: no laboratory answers
        """
        client = self.connect()
        if not self._queue:
            self.before_fetch(client)
            self._queue = client.fetch(self.index + 1, wait_s, self._time.seconds)
            if not self._queue:
                return False
        entry = self._queue.pop()
        self.index = entry[wire.INDEX]
        if entry[wire.FAULT]:
            self._suffer(entry, time_mu)
        current = self.current
        current.entry = entry
        current.attempts_left = entry[wire.ATTEMPTS]
        current.searched = False
        self._ion.alone.forget()
        self._time.last_mu = time_mu
        drift = self._time.drift
        if not drift.still or drift.time_scale > 1.0:
            current.outcomes.enter_epoch(drift.epoch(entry[wire.TIME_S]))
            self._time.catch_up(entry[wire.TIME_S])
        return True

    def put_back(self, entry: tuple[Any, ...]) -> None:
        """Make the entry of a round in which the partner was not the current one again, without its
        faults."""
        self.current.entry = entry
        self.current.attempts_left = entry[wire.ATTEMPTS]
        self.current.searched = False

    def skip(self, time_mu: int, wait_s: float) -> bool:
        """Go on to the next entry, since the partner has had the current one."""
        self.current.entry = None
        return self.take_next(time_mu, wait_s)

    def _suffer(self, entry: tuple[Any, ...], time_mu: int) -> None:
        """Let an entry's fault happen."""
        fault = entry[wire.FAULT]
        if fault & wire.LOCK_LOST:
            self._lock.lose(time_mu, entry[wire.LOCK_MU])
        if fault & wire.ION_LOST:
            self._ion.lost = True
