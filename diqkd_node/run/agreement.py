"""How two nodes come to the same columns after a batch or an interruption (docs/order.md, rules 4 to 6).

No security rests on equal counts, heralds or patterns: what a node has used up is a round, whatever the other
saw. After a batch

* each node records as lost what it has used up without knowing what became of it;
* the node with fewer rounds records the missing indices as used up and lost, so that counts are equal;
* only then the nodes exchange what they sent and received, T among it, and store the other's columns.

An index is never played, drawn or announced again, and no outcome is changed for what the other node says.
"""

import logging

import numpy as np

from diqkd_node.run.reasons import Reason

logger = logging.getLogger(__name__)

MAX_ROUNDS = 5000
"""Of a message; 10 characters a round."""

COLUMNS = ("sent", "received", "end_token", "lost", "herald_pattern")


class Agreement:
    """Levelling and exchange of columns with the other node.

    :param spool: open `RoundSpool` of this node
    :param connection: connected `PeerConnection`
    :param await_message: waits for a message of a kind and returns it
    """

    def __init__(self, spool, connection, await_message):
        self._spool = spool
        self._connection = connection
        self._await = await_message

    def resume(self, hello):
        """Settle what an interruption has left open, given the other node's hello."""
        self.settle(hello["rounds"], Reason.INTERRUPTED, first_due=hello["columns"])

    def settle(self, peer_rounds, reason, first_due=None):
        """Make the counts equal, then exchange columns.

        `reason`: a `Reason` why rounds are missing, for the record. `first_due`: first round of which the
        other node has no columns of this one; by default as many as this node has of the other.
        """
        spool = self._spool
        missing = peer_rounds - spool.rounds_done
        if missing > 0:
            logger.warning("%d rounds recorded as lost: %s", missing, reason)
            spool.record_used(peer_rounds, reason)
        spool.flush()
        self._exchange(spool.peer_rounds_done if first_due is None else first_due)

    def _exchange(self, first_due):
        """Send columns from `first_due` on, and store those that came, until both nodes have all rounds."""
        spool = self._spool
        end = max(spool.rounds_done, 0)
        own_first = first_due
        while own_first < end or spool.peer_rounds_done < end:
            self._send(own_first)
            own_first = min(own_first + MAX_ROUNDS, end)
            self._take(self._await("columns"))

    def _send(self, first):
        columns = self._spool.own_columns(first)
        self._connection.send(
            "columns",
            first=first,
            **{name: columns[name][:MAX_ROUNDS].tobytes().hex() for name in COLUMNS},
        )

    def _take(self, message):
        spool = self._spool
        try:
            peer = {name: np.frombuffer(bytes.fromhex(message[name]), dtype=np.uint8) for name in COLUMNS}
        except ValueError:
            raise self._connection.fail("the other node's columns are not hexadecimal") from None
        count = min(spool.rounds_done - spool.peer_rounds_done, MAX_ROUNDS)
        if message["first"] != spool.peer_rounds_done or any(
            column.size != count for column in peer.values()
        ):
            raise self._connection.fail(
                f"columns of {count} rounds from {spool.peer_rounds_done} on were due, others came"
            )
        spool.store_peer(spool.peer_rounds_done, peer)
