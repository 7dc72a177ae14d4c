"""Lines between the nodes: the handshake before the attempts, the round type and its strobe."""

from sim_devices.apparatus.coming_rounds import ComingRounds
from sim_devices.apparatus.isolation_audit import IsolationAudit
from sim_devices.apparatus.trapped_ion import TrappedIon

HANDSHAKE_LATENCY_MU = {"ttl_ready": 2_000, "ttl_trigger": 4_000}
STROBE_LATENCY_MU = 40


class RoundLines:
    """Edges that this node receives, and those that it sends, which the isolation audit checks."""

    def __init__(self, rounds: ComingRounds, ion: TrappedIon, audit: IsolationAudit) -> None:
        self._rounds = rounds
        self._current = rounds.current
        self._ion = ion
        self._audit = audit
        self._last_edge_mu = -1
        self._level = 0  # of the round-type line that this node drives

    def handshake(self, latency_mu: int, open_mu: int, close_mu: int) -> int:
        """First edge of the partner in a gate, mu, or -1."""
        if open_mu == self._last_edge_mu + 1:
            return -1  # the rest of a gate that has had its edge
        current, ion = self._current, self._ion
        if current.open:
            current.close()
        # An ion lost here does not keep the partner from answering.
        if current.entry is None and not ion.lost and not self._rounds.take_next(open_mu) and not ion.lost:
            return -1
        edge = open_mu + latency_mu
        if edge >= close_mu:
            return -1
        self._last_edge_mu = edge
        return edge

    def strobe_edge(self, open_mu: int, close_mu: int) -> int:
        """First edge of the strobe in a gate of Alice's, mu, or -1."""
        current = self._current
        if not current.open:
            return -1
        if current.strobe_mu < 0:
            # Bob failed in this round, so she will leave the batch here, in step with him.
            self._rounds.out_of_step = True
            return -1
        edge = current.herald_mu + current.strobe_mu + STROBE_LATENCY_MU
        return edge if open_mu <= edge < close_mu else -1

    def round_type_level(self, time_mu: int) -> int:
        """Level of the round-type line at Alice's node: 1 in a test round."""
        return int(self._current.round_type == 1)

    def drive_round_type(self, time_mu: int, value: int) -> None:
        """Bob sets the round-type line."""
        if value != self._level and self._current.open:
            self._audit.private(time_mu, "the round-type line changed")
        self._level = value

    def drive_strobe(self, time_mu: int, value: int) -> None:
        """Bob's strobe: with its rising edge the type of the round is sent."""
        current = self._current
        if value and current.open:
            self._audit.private(time_mu, "the round type was sent")
            current.round_type = self._level
            current.strobe_mu = time_mu - current.herald_mu
