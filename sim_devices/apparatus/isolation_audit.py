"""Audit of each round's timeline for leaks: the optical link is cut before anything private happens.

Down means all four electrodes out and 30 us settled. Private are the round-type strobe, every pulse that
depends on the basis, and the readout. Before the ion comes back, 100 us of 422, 1092 and 1033 nm light
together must have scrambled it after the last private event (SI S2 D). A violation fails the run, for good.
"""

from collections.abc import Sequence

from diqkd_postproc.protocol.errors import DiqkdError
from sim_devices.physics import constants

SETTLING_MU = 30_000
SCRAMBLING_MU = 100_000
_NEVER = 1 << 62


HERALD, ISOLATED, CONNECTED = "herald ", "isolated", "connected"
SENT_TYPE, TOOK_TYPE = "a bit on ttl_round_type was sent", "a type was taken"
PULSE, READOUT = "an analysis pulse began", "the readout began"


class IsolationViolation(DiqkdError):
    """A node did something private while its ion was, or could have been, coupled to the link."""

    exit_code = 4


class Beam:
    """Last two pulses of a laser beam, mu."""

    __slots__ = ("off_mu", "on_mu", "previous_off_mu", "previous_on_mu")

    def __init__(self) -> None:
        self.on_mu = self.previous_on_mu = -1
        self.off_mu = self.previous_off_mu = 0

    def switch(self, time_mu: int, value: int) -> None:
        if value:
            if self.on_mu <= self.off_mu:
                self.previous_on_mu, self.previous_off_mu = self.on_mu, self.off_mu
                self.on_mu = time_mu
        else:
            self.off_mu = time_mu

    def end(self, until_mu: int) -> int:
        """End of the last pulse, or `until_mu` if the beam is still on by then."""
        return until_mu if self.off_mu < self.on_mu else min(self.off_mu, until_mu)

    def light(self, start_mu: int, stop_mu: int) -> tuple[int, int]:
        """The part of [start, stop] lit by the latest pulse that began before `stop`."""
        if self.on_mu < stop_mu:
            return max(start_mu, self.on_mu), self.end(stop_mu)
        return max(start_mu, self.previous_on_mu), min(self.previous_off_mu, stop_mu)


class IsolationAudit:
    """Electrodes and beams of one node, and the checks on them. All times are that node's machine units."""

    def __init__(self, scrambling_beams: Sequence[Beam]) -> None:
        self._beams = tuple(scrambling_beams)
        self._volts = dict.fromkeys(constants.ELECTRODE_CHANNELS, 0.0)
        self._total = 0.0
        self.isolated_mu = _NEVER  # since when all electrodes are out
        self.settled_mu = _NEVER  # isolated and settled from here on
        self.connected_mu = -_NEVER  # since when all electrodes are back
        self.private_mu = -1  # last private event not yet scrambled
        self.failure: str | None = None
        self.num_checks = 0
        self.events: list[tuple[int, str]] | None = None  # (time in mu, what), for `check_order`

    def set_electrode(self, time_mu: int, channel: int, volts: float) -> None:
        previous = self._volts.get(channel)
        if previous is None or previous == volts:
            return
        if self.failure is not None:
            raise IsolationViolation(self.failure)
        self._volts[channel] = volts
        self._total = total = self._total + volts - previous
        if volts < previous:
            if self.private_mu >= 0:
                self._check_scrambling(time_mu)
            if self.isolated_mu != _NEVER:
                self.note(time_mu, CONNECTED)
            self.isolated_mu = self.settled_mu = _NEVER
            if total < 0.05:
                self.connected_mu = time_mu
        elif total > 3.95:
            self.isolated_mu = time_mu
            self.settled_mu = time_mu + SETTLING_MU
            self.note(self.settled_mu, ISOLATED)
            self.connected_mu = _NEVER
        else:
            self.connected_mu = _NEVER

    def private(self, time_mu: int, what: str) -> None:
        """Something private happens: raise unless the link is down."""
        self.num_checks += 1
        if time_mu < self.settled_mu:
            if self.isolated_mu == _NEVER:
                self.fail(f"{what} while the ion was in reach of the link; disconnect it first")
            self.fail(
                f"{what} {time_mu - self.isolated_mu} ns after the electrode step; "
                f"the electrodes settle in {SETTLING_MU} ns"
            )
        if time_mu > self.private_mu:
            self.private_mu = time_mu
        if self.events is not None:
            self.events.append((time_mu, what))

    def note(self, time_mu: int, what: str) -> None:
        """Keep an event for the audit of both nodes, if one is wanted."""
        if self.events is not None:
            self.events.append((time_mu, what))

    def attempt(self) -> None:
        """Entanglement attempts begin: nothing private may be left in the ion."""
        if self.failure is not None:
            raise IsolationViolation(self.failure)
        if self.private_mu >= 0 and self.isolated_mu == _NEVER:
            self.fail("entanglement attempts before the last outcome was scrambled")

    def fail(self, message: str) -> None:
        self.failure = f"isolation violated: {message}"
        raise IsolationViolation(self.failure)

    def _check_scrambling(self, time_mu: int) -> None:
        self.num_checks += 1
        start, end = self.private_mu, time_mu
        for beam in self._beams:  # in plain steps, since it is done every round
            if beam.on_mu > start:
                start = beam.on_mu
            if beam.on_mu <= beam.off_mu < end:
                end = beam.off_mu
        length = end - start
        if length < SCRAMBLING_MU:
            self.fail(f"reconnected after {max(length, 0)} ns of scrambling; {SCRAMBLING_MU} ns are needed")
        self.private_mu = -1


def check_order(
    alice: Sequence[tuple[int, str]], bob: Sequence[tuple[int, str]], bobs_lead_mu: int = 0
) -> int:
    """Audit the events of both nodes on one laboratory clock, the time after the common herald.

    At every announcement of T both nodes are isolated, and an Alice who takes T is isolated from before she
    measures until she has both.

    :param bobs_lead_mu: by how much an adversary's station has heralded Bob before Alice
    :return: number of announcements
    :raises IsolationViolation: one of these does not hold
    """
    alices = _by_round(alice)
    number = 0
    for index, bobs in _by_round(bob).items():
        announced = next((time for time, what in bobs if what == SENT_TYPE), None)
        if announced is None:
            continue
        number += 1
        if not _isolated(bobs, announced, announced):
            raise IsolationViolation(f"round {index}: T was announced while Bob was not isolated")
        alices_time = announced - bobs_lead_mu
        events = alices.get(index, [])
        if not _isolated(events, alices_time, alices_time):
            raise IsolationViolation(f"round {index}: T was announced while Alice was not isolated")
        taken = [time for time, what in events if what == TOOK_TYPE][:1]
        measured = [time for time, what in events if what in (PULSE, READOUT)]
        if taken and not _isolated(events, min(taken + measured), max(taken + measured)):
            raise IsolationViolation(
                f"round {index}: Alice was not isolated until she had measured and had T"
            )
    return number


def _by_round(events: Sequence[tuple[int, str]]) -> dict[int, list[tuple[int, str]]]:
    """Events of each round, with their times after its herald."""
    rounds: dict[int, list[tuple[int, str]]] = {}
    herald_mu, current = 0, None
    for time_mu, what in events:
        if what.startswith(HERALD):
            herald_mu, current = time_mu, rounds.setdefault(int(what.removeprefix(HERALD)), [])
        elif current is not None:
            current.append((time_mu - herald_mu, what))
    return rounds


def _isolated(events: Sequence[tuple[int, str]], start: int, stop: int) -> bool:
    """Whether a node is isolated from `start` to `stop`."""
    since = min((time for time, what in events if what == ISOLATED), default=_NEVER)
    until = min((time for time, what in events if what == CONNECTED), default=_NEVER)
    return since <= start and stop < until
