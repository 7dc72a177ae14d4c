"""Agreement of two nodes on the rounds of a batch, after its end or after an interruption.

A round of the record is one herald at both nodes. Counts differ if a node died, or saw a herald that the
other did not. Whatever the fault, three rules hold; they look at public facts only, never at an outcome:

* the node with fewer rounds learns types and patterns of the missing ones and records them as lost;
* if both nodes died within a batch, rounds may have begun that neither has written. Every setting that may
  have been applied is then recorded as a lost round: no fault, however chosen, makes a round disappear;
* if one node missed a herald, its later rounds in the batch are rounds of the other with another number. What
  was measured in the one could reach the device in the other before it gets its setting, so these outcomes
  prove nothing. From the first round in doubt to the end of the batch all outcomes are recorded as lost.
  A herald of which Alice did not get the round type is one that she missed.
"""

import hashlib
import logging

import numpy as np

from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.protocol.roles import is_test_round
from diqkd_postproc.records.voided_rounds import DIFFERENT_HERALDS

logger = logging.getLogger(__name__)

UNTRACED = "both nodes were interrupted"


def first_in_doubt(shorter, longer):
    """First round whose number at the two nodes may differ, given what both saw, one number a round.

    The node with the shorter list missed some of the heralds of the longer one. A round is beyond doubt if no
    choice of the missed ones moves it: if it keeps its number even in the latest match of the lists. Lists of
    the same length, or of which one is no part of the other, leave everything in doubt.
    """
    last = longer.size
    for index in range(shorter.size - 1, -1, -1):
        last -= 1
        while last > index and longer[last] != shorter[index]:
            last -= 1
        if last == index:
            beyond = np.array_equal(shorter[: index + 1], longer[: index + 1]) and longer.size > shorter.size
            return index + 1 if beyond else 0
    return 0


class Agreement:
    """Types and patterns of one batch at this node, and the means to agree on them with the other node.

    :param spool: open `RoundSpool` of this node
    :param connection: connected `PeerConnection`
    :param await_message: waits for a message of a kind and returns it
    :param herald_patterns: the patterns that there are
    """

    def __init__(self, spool, connection, await_message, herald_patterns):
        self._spool = spool
        self._connection = connection
        self._await = await_message
        self._known_patterns = (0, *herald_patterns)
        self.begin(spool.rounds_done)

    def begin(self, first):
        """Begin a batch at round `first`."""
        self._first = first
        self._types = []
        self._patterns = []

    def note(self, types, patterns):
        """Rounds of the batch: uint8 arrays."""
        self._types.append(types)
        self._patterns.append(patterns)

    def resume(self, hello):
        """Settle what an interruption has left open, given the other node's hello; the lists end alike."""
        spool = self._spool
        begun = min(spool.rounds_begun, hello["rounds_begun"])
        untraced = begun - max(spool.rounds_done, hello["rounds"])
        first = max(spool.batch_start, hello["batch_start"])
        self._level(hello["rounds"], "interrupted")
        if untraced > 0:
            self._record_untraced(untraced)
        self.begin(first)
        self.note(*spool.public_rounds(first))
        self._compare(spool.rounds_done - first, spool.rounds_done - first, doubtful=False)

    def settle(self, peer_rounds, reason, uninterrupted):
        """Make the batches at both nodes equal; False if something had to be voided.

        `reason`: why rounds are missing, for the record. `uninterrupted`: nothing is known that would explain
        a difference of the counts, so the missing herald need not be the last one.
        """
        own_rounds = self._spool.rounds_done
        self._level(peer_rounds, reason)
        return self._compare(
            own_rounds - self._first, peer_rounds - self._first, uninterrupted and peer_rounds != own_rounds
        )

    def _level(self, peer_rounds, reason):
        own_rounds = self._spool.rounds_done
        if peer_rounds < own_rounds:
            self._send_missing(peer_rounds)
        elif peer_rounds > own_rounds:
            self._record_missing(peer_rounds - own_rounds, reason)

    def _record_untraced(self, count):
        if self._spool.role == "alice":
            self._record_missing(count, UNTRACED)
            return
        first = self._spool.rounds_done
        self._spool.record_lost(count, reason=UNTRACED)
        self._send_missing(first)

    def _send_missing(self, first):
        types, patterns = self._spool.public_rounds(first)
        self._connection.send(
            "missing", first=first, round_types=_to_text(types), patterns=_to_text(patterns)
        )

    def _record_missing(self, count, reason):
        message, first = self._await("missing"), self._spool.rounds_done
        types, patterns = self._columns(message, count)
        if message["first"] != first:
            raise self._connection.fail(
                f"missing rounds from {first} on were due, others from {message['first']} on came"
            )
        pending = self._spool.pending_batch
        drawn = 0 if pending is None else pending.num_rounds
        if drawn < count:
            raise self._connection.fail(
                f"{self._spool.role} is {count} rounds behind at round {first} and has drawn settings for "
                f"{drawn} of them; a round that is over gets no new settings. Use the run directory itself, "
                "not an older copy, or begin a new run",
                StorageError,
            )
        if self._spool.role == "bob":
            # The types follow from his settings, whatever Alice took them for; the comparison will show it.
            types = is_test_round(pending.settings[:count]).astype(np.uint8)
        logger.warning("%d rounds recorded as lost: %s", count, reason)
        self._spool.record_lost(count, types, patterns, reason)
        self.note(types, patterns)

    def _compare(self, own_count, peer_count, doubtful):
        """Compare types and patterns; void what is in doubt. The counts are those before levelling."""
        none = np.empty(0, dtype=np.uint8)
        types, patterns = np.concatenate([none, *self._types]), np.concatenate([none, *self._patterns])
        if self._same_digest(types, patterns) and not doubtful:
            return True
        self._connection.send("batch_rounds", round_types=_to_text(types), patterns=_to_text(patterns))
        peer_types, peer_patterns = self._columns(self._await("batch_rounds"), types.size)
        seen = (2 * patterns + types)[:own_count]
        peer_seen = (2 * peer_patterns + peer_types)[:peer_count]
        start = first_in_doubt(*sorted((seen, peer_seen), key=len))
        first, spool = self._first + start, self._spool
        logger.warning(
            "rounds %d to %d recorded as lost: %s", first, spool.rounds_done - 1, DIFFERENT_HERALDS
        )
        bob_types = types if spool.role == "bob" else peer_types
        patterns = np.concatenate([patterns[:start], np.zeros(types.size - start, dtype=np.uint8)])
        spool.replace_by_lost(first, bob_types[start:], patterns[start:], DIFFERENT_HERALDS)
        if not self._same_digest(bob_types, patterns):
            raise self._connection.fail(
                f"types or herald patterns before round {spool.rounds_done} still differ; do not use this run"
            )
        return False

    def _same_digest(self, types, patterns):
        digest = hashlib.sha256(np.concatenate([types, patterns])).hexdigest()
        rounds = self._spool.rounds_done
        self._connection.send("batch_digest", rounds=rounds, digest=digest)
        peer = self._await("batch_digest")
        if peer["rounds"] != rounds:
            raise self._connection.fail(
                f"{self._spool.role} is at round {rounds}, the other node at {peer['rounds']}"
            )
        return peer["digest"] == digest

    def _columns(self, message, count):
        """Types and patterns of `count` rounds in a message."""
        try:
            types = np.frombuffer(bytes.fromhex(message["round_types"]), dtype=np.uint8)
            patterns = np.frombuffer(bytes.fromhex(message["patterns"]), dtype=np.uint8)
        except ValueError:
            raise self._connection.fail("the other node's rounds are not hexadecimal") from None
        known = np.isin(types, (0, 1)).all() and np.isin(patterns, self._known_patterns).all()
        if not types.size == patterns.size == count or not known:
            raise self._connection.fail(f"{count} rounds were due, others came")
        return types, patterns


def _to_text(column):
    return column.tobytes().hex()
