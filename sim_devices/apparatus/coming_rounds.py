"""Coming rounds of a node: entries of the laboratory's tape, and the faults that they carry."""

from collections.abc import Callable
from typing import Any

from sim_devices.apparatus import wire
from sim_devices.apparatus.client import LaboratoryClient
from sim_devices.apparatus.heralded_round import HeraldedRound
from sim_devices.apparatus.laboratory_time import LaboratoryTime, LaserLock
from sim_devices.apparatus.trapped_ion import TrappedIon

PARTNER_WAIT_S = 0.5  # of wall clock, for which a fetch waits for a round of the partner
# Once the partner was found absent a fetch only looks: a node repeats its handshake, and each would wait.
ABSENT_PARTNER_WAIT_S = 0.002


class ComingRounds:
    """Entries in the order of the tape; `take_next` makes the next one the current round.

    :param on_connect: called once, with the laboratory, before its first entry is used
    :ivar current: the round that is being played
    :ivar out_of_step: Alice has left a batch in which Bob failed. The rounds that he plays until he notices
        are played already in his process; she misses them, up to the first after his next rest.
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
        self.out_of_step = False
        self._ion = ion
        self._lock = lock
        self._time = laboratory_time
        self._make_client = make_client
        self._on_connect = on_connect
        self.client: LaboratoryClient | None = None
        self._queue: list[tuple[Any, ...]] = []
        self._partner_present = True

    def connect(self) -> LaboratoryClient:
        """The laboratory, to which this node connects when it is first needed.

        :raises LaboratoryError: no laboratory answers
        """
        if self.client is None:
            self.client = client = self._make_client()
            self._on_connect(client)
        return self.client

    def have_one(self, time_mu: int) -> bool:
        """Whether there is a round to play: the current entry, or one of the laboratory from now on."""
        return self.current.entry is not None or self.take_next(time_mu)

    def take_next(self, time_mu: int) -> bool:
        """Make the next entry the current round; False if there is none, or only a fault.

        A fetch waits for the partner in wall-clock time, which `time_mu` (the node's) does not show.

        :raises LaboratoryError: no laboratory answers
        """
        queue = self._queue
        if not queue:
            client = self.connect()
            wait_s = PARTNER_WAIT_S if self._partner_present else ABSENT_PARTNER_WAIT_S
            self._queue = queue = client.fetch(wait_s, self._time.seconds)
            self._partner_present = bool(queue)
            if not queue:
                return False
        entry = queue.pop()
        while self.out_of_step and not entry[wire.FAULT] & wire.NOTICE:
            if entry[wire.FRESH]:
                self.out_of_step = False
            elif queue:
                entry = queue.pop()
            else:
                return False
        if entry[wire.FAULT] and self._suffer(entry, time_mu):
            return False
        self.current.entry = entry
        self.current.attempts_left = entry[wire.ATTEMPTS]
        self._ion.alone.forget()
        self._time.last_mu = time_mu
        drift = self._time.drift
        if not drift.still or drift.time_scale > 1.0:
            self.current.outcomes.enter_epoch(drift.epoch(entry[wire.TIME_S]))
            self._time.catch_up(entry[wire.TIME_S])
        return True

    def _suffer(self, entry: tuple[Any, ...], time_mu: int) -> bool:
        """Let an entry's fault happen; True if the entry is that and no round."""
        fault = entry[wire.FAULT]
        if fault & wire.LOCK_LOST:
            self._lock.lose(time_mu, entry[wire.LOCK_MU])
        if fault & wire.ION_LOST:
            self._ion.lost = True
            if fault & wire.NOTICE:
                self._ion.lost_index = entry[wire.INDEX]
        return bool(fault & wire.NOTICE)
