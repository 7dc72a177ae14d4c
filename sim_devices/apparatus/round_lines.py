"""Lines between the nodes: the handshake before the attempts, tokens, round types and Alice's setting.

Both processes play the same round at the same time. An edge comes as a message with its time after the
sender's herald, and reaches the receiver so long after its own herald, plus the delay of the cable. A node
that waits for an edge waits in wall-clock time until it has come, or until it is known that none can come
before the gate closes: the partner is in a later round, has said that this one is over, waits itself for an
edge that can only come later, or is gone. What a kernel sees never depends on the speed of the two processes.
"""

import time
from collections import deque
from typing import Any

from artiq.coredevice.exceptions import RTIOOverflow

from sim_devices.apparatus import wire
from sim_devices.apparatus.coming_rounds import ComingRounds
from sim_devices.apparatus.isolation_audit import TOOK_TYPE, IsolationAudit
from sim_devices.apparatus.line_tampering import AT_ONCE_MU, Eve
from sim_devices.apparatus.outcomes import RoundOutcomes
from sim_devices.apparatus.partner_connection import (
    AWAY,
    ION_PRESENT,
    LINES,
    OVER,
    READY,
    ROUND_TYPE,
    SEARCHED,
    SETTING,
    TOKEN,
    TRIGGER,
    WAITING,
    Frame,
    PartnerConnection,
)
from sim_devices.apparatus.trapped_ion import TrappedIon

HANDSHAKE_LATENCY_MU = {"ttl_ready": 2_000, "ttl_trigger": 4_000}
CABLE_MU = 40
EARLY_MU = 1_000  # after a gate has opened: an adversary's edge that waits for that
FIFO_DEPTH = 64  # of an input's gateware: edges that wait to be read

PARTNER_WAIT_S = 1.0  # of wall clock, for which a handshake waits for a partner that has been there
# Once the partner was found absent a handshake only looks: a node repeats it, and each would wait.
ABSENT_PARTNER_WAIT_S = 0.002
EDGE_WAIT_S = 10.0  # for an edge of a partner that says nothing: its process hangs


class _Input:
    """Edges of a line at its receiver, in the order in which they came: (time, level)."""

    __slots__ = ("edges", "level", "taken_mu")

    def __init__(self) -> None:
        self.edges: deque[tuple[int, int]] = deque()
        self.level = 0  # of the last edge that was taken
        self.taken_mu = -2  # its time


class RoundLines:
    """Edges that this node receives, and those that it sends, which the isolation audit checks."""

    def __init__(
        self,
        role: str,
        rounds: ComingRounds,
        ion: TrappedIon,
        audit: IsolationAudit,
        outcomes: RoundOutcomes,
    ) -> None:
        self._bob = role == "bob"
        self._rounds = rounds
        self._current = rounds.current
        self._current.on_close = self._end_round
        self._ion = ion
        self._audit = audit
        self._outcomes = outcomes
        self.partner = PartnerConnection(listens=self._bob)
        self._partner_present = True  # at the last handshake
        self._ready: Frame | None = None  # READY or TRIGGER of the partner, not yet used
        self._try = 0  # number of Alice's handshake
        self._heard = False  # something of the partner in this round
        self._over = -1  # last round in which the partner sends no edge any more
        self._partner_waits_mu = -1  # until when, after its herald; -1: it does not
        self._num_sent = self._num_received = 0  # edges of this round
        self._rest_mu = -1  # where the rest of the last handshake's gate begins
        self._levels = [0] * len(LINES)  # of the lines that this node drives
        self._inputs = [_Input() for _ in LINES]
        self.eve: Eve | None = None
        self._said = [False] * len(LINES)  # what was sent on a line in this round, for the adversary
        self._forged = False

    # Handshake.

    def handshake(self, latency_mu: int, open_mu: int, close_mu: int) -> int:
        """First edge of the partner in a gate, mu, or -1."""
        if open_mu == self._rest_mu:
            return -1  # the rest of a gate that has had its edge, or has been read to its end
        edge = open_mu + latency_mu
        answered = edge < close_mu and self._agree(open_mu)
        self._rest_mu = edge + 1 if answered else close_mu
        return edge if answered else -1

    def _agree(self, time_mu: int) -> bool:
        """Find the partner in its handshake, and go on to the later one of both nodes' entries.

        Alice says READY and waits for Bob's TRIGGER. After a round in which both had the other's edge there
        is a shorter way, since each wait is a switch between two processes: Bob triggers at once, and waits
        for her token; Alice goes on if his trigger is there, and says READY with her token. If she does not
        come, his herald was in vain, and the entry is the next one again.
        """
        current, rounds, partner = self._current, self._rounds, self.partner
        current.close()
        current.agreed = False
        in_step = self._num_received > 0 and partner.connected
        self._num_received = 0
        wait_s = PARTNER_WAIT_S if self._partner_present else ABSENT_PARTNER_WAIT_S
        self._partner_present = False
        if not rounds.have_one(time_mu, wait_s):
            return False
        if not partner.connected:
            self._ready = None
            self._over = -1
            if not partner.meet(wait_s, rounds.connect().partner_port):
                return False
        entry: Any = current.entry
        if self._ion.lost or entry[wire.FAULT] & (wire.ION_LOST | wire.PARTNER_ION_LOST):
            in_step = False
        level = (not self._ion.lost) * ION_PRESENT + current.searched * SEARCHED
        if self._bob and in_step and self._ready is None:
            partner.send(rounds.index, 0, TRIGGER, level)
            self._heard = False
            self._begin_round(agreed=True)
            return True
        if not self._bob:
            self._try = 0 if in_step else self._try % 255 + 1
            partner.hold(rounds.index, 0, READY, level, self._try)
        if not self._await_answer(rounds.index, wait_s):
            return False
        partner_index, _, _, partner_level, number = self._ready or (0,) * 5
        self._ready = None
        self._heard = True
        while rounds.index < partner_index:
            if not rounds.skip(time_mu, PARTNER_WAIT_S):
                return False
        if self._bob:
            partner.send(rounds.index, 0, TRIGGER, level & ION_PRESENT, number)
        self._begin_round(agreed=bool(partner_level & ION_PRESENT) and not self._ion.lost)
        return True

    def _await_answer(self, index: int, wait_s: float) -> bool:
        """Wait for READY or TRIGGER, in wall-clock time."""
        partner = self.partner
        self._catch_up()
        deadline = time.monotonic() + wait_s
        while self._ready is None or not (self._bob or self._ready[4] == self._try):
            frame = partner.receive()
            if frame is not None:
                self._take(frame)
                self._catch_up()
            elif not partner.connected or time.monotonic() > deadline:
                partner.send(index, 0, AWAY)
                self._ready = None
                return False
        return True

    def _catch_up(self) -> None:
        """Take what has come, but no edge that follows the partner's handshake."""
        partner = self.partner
        while (frame := partner.look()) is not None:
            if self._ready is not None and frame[2] < len(LINES):
                partner.put_back(frame)
                return
            self._take(frame)

    def _begin_round(self, agreed: bool) -> None:
        self._current.agreed = self._partner_present = agreed
        self._num_sent = self._num_received = 0
        self._partner_waits_mu = -1
        if self.eve is not None:
            self._said = [False] * len(LINES)
            self._forged = False

    def _end_round(self, entry: tuple[Any, ...]) -> None:
        """The round is over at this node. If it has sent edges, its next handshake says so in time."""
        if self._num_sent:
            return
        if not self._heard:
            self._partner_present = False
            self._rounds.put_back(entry)
        self.partner.send(entry[wire.INDEX], 0, OVER if self._heard else AWAY)

    # What the partner says.

    def _take(self, frame: Frame) -> None:
        """Note what a frame says."""
        index, after_herald_mu, kind, level, number = frame
        current = self._current
        if kind < len(LINES):
            if kind == ROUND_TYPE and level == wire.TEST:
                self._outcomes.report_test(index)
            if not current.open or index != self._rounds.index:
                if index > self._rounds.index:
                    self._over = index - 1
                return  # of a round that this node does not play
            self._heard = True
            self._num_received += 1
            self._partner_waits_mu = -1
            if kind == ROUND_TYPE and current.round_type == wire.NO_ROUND_TYPE:
                current.round_type = level
            elif kind == SETTING:
                current.partner_effect = number
            edges = self._inputs[kind].edges
            if self.eve is None:
                edges.append((current.herald_mu + after_herald_mu + CABLE_MU, level))
            else:
                reach_mu = current.herald_mu + CABLE_MU
                tampered = self.eve.edges(kind, index, after_herald_mu, level)
                edges.extend((reach_mu + after_mu, bit) for after_mu, bit in tampered)
                self._said[kind] = True
        elif kind == READY:
            self._heard = True
            if current.agreed and index <= self._rounds.index and not level & SEARCHED:
                if number:  # she does not know that he waits for her token
                    self.partner.send(self._rounds.index, 0, TRIGGER, ION_PRESENT, number)
                return
            self._ready = frame
            self._over = max(self._over, index if current.agreed and level & SEARCHED else index - 1)
        elif kind == TRIGGER:
            self._ready = frame
            self._over = max(self._over, index - 1)
        elif kind == AWAY:
            self._ready = None
        elif kind == OVER:
            self._over = max(self._over, index)
        elif (
            kind == WAITING
            and current.open
            and index == self._rounds.index
            and number == self._num_sent & 0xFF  # not crossed by an edge
        ):
            self._partner_waits_mu = after_herald_mu

    # Inputs.

    def edge(self, line: int, open_mu: int, close_mu: int) -> int:
        """First edge of a line in a gate, mu, or -1.

        :raises RTIOOverflow: more edges have come since the last one was read than the input can hold
        """
        own = self._inputs[line]
        edges = own.edges
        current = self._current
        if current.open and close_mu > current.herald_mu:
            if self.eve is None:
                self._await_edge(edges, open_mu, close_mu)
            else:
                self._await_tampered(line, open_mu, close_mu)
        if open_mu == own.taken_mu + 1:
            num_waiting = sum(open_mu <= time_mu < close_mu for time_mu, _ in edges)
            if num_waiting > FIFO_DEPTH:
                edges.clear()
                raise RTIOOverflow(f"RTIO input overflow on channel {LINES[line]}_strobe")
        while edges:
            time_mu, level = edges[0]
            if time_mu >= close_mu:
                return -1
            edges.popleft()
            own.level = level
            if time_mu >= open_mu:
                own.taken_mu = time_mu
                if line == ROUND_TYPE:
                    current.type_known = True
                    self._audit.note(time_mu, TOOK_TYPE)
                return time_mu
        return -1

    def _await_edge(
        self, edges: deque[tuple[int, int]], open_mu: int, close_mu: int, said: int | None = None
    ) -> None:
        """Wait until an edge at or after `open_mu` has come, or none can come before `close_mu`; or until
        something was sent on the line `said`."""
        current, partner, index = self._current, self.partner, self._rounds.index
        limit_mu = close_mu - current.herald_mu
        deadline = 0.0
        waits = False
        while not edges or edges[-1][0] < open_mu:
            if self._over >= index:
                return
            if self._partner_waits_mu >= 0:
                if not waits:
                    waits = True
                    partner.send(index, limit_mu, WAITING, 0, self._num_received & 0xFF)
                # The one that gives up earlier goes on, and may then send an edge.
                if (limit_mu, self._bob) < (self._partner_waits_mu, not self._bob):
                    return
            frame = partner.receive()
            if frame is not None:
                self._take(frame)
                if said is not None and self._said[said]:
                    return
                continue
            now = time.monotonic()
            deadline = deadline or now + (EDGE_WAIT_S if self._heard else PARTNER_WAIT_S)
            if not partner.connected or now > deadline:
                return
            if not waits:
                waits = True
                partner.send(index, limit_mu, WAITING, 0, self._num_received & 0xFF)

    def _await_tampered(self, line: int, open_mu: int, close_mu: int) -> None:
        """Wait for what is sent, so that the adversary can make something of it, and bring her edges in
        order."""
        edges = self._inputs[line].edges
        eve, current = self.eve, self._current
        assert eve is not None
        if eve.skews and line == TOKEN and eve.attacks(self._rounds.index):
            if not self._forged:
                self._forged = True
                edges.append((open_mu + EARLY_MU, eve.forged_token(self._rounds.index)))
            return
        if not self._said[line]:
            self._await_edge(deque(), open_mu, close_mu, line)
        ordered = [
            (open_mu + EARLY_MU, bit) if time_mu - current.herald_mu >= AT_ONCE_MU else (time_mu, bit)
            for time_mu, bit in edges
        ]
        edges.clear()
        edges.extend(sorted(ordered))

    def await_type(self) -> None:
        """Wait until Bob has announced T in this round, as a device does that is told so."""
        if self._current.round_type == wire.NO_ROUND_TYPE:
            self._await_edge(deque(), 0, 1 << 62, ROUND_TYPE)

    def level(self, line: int, time_mu: int) -> int:
        """Level of a line at its receiver."""
        return self._inputs[line].level

    # Outputs.

    def drive_level(self, line: int, time_mu: int, value: int) -> None:
        """This node sets the level of a line."""
        if value != self._levels[line] and self._current.open:
            self._audit.private(time_mu, f"the line {LINES[line]} changed")
        self._levels[line] = value

    def drive_strobe(self, line: int, time_mu: int, value: int) -> None:
        """The strobe of a line: with its rising edge the level is sent."""
        current = self._current
        if not value or not current.open:
            return
        self._audit.private(time_mu, f"a bit on {LINES[line]} was sent")
        level = self._levels[line]
        if line == ROUND_TYPE and not current.type_known:
            current.round_type = level
            current.type_known = True
        self._num_sent += 1
        self._partner_waits_mu = -1
        self.partner.send(self._rounds.index, time_mu - current.herald_mu, line, level, current.effect_number)
