"""Host's half of a run: spool, connection to the other node, and the remote calls of the kernel.

Both nodes agree before every batch (`batch_ready`), may ask for its early end (`stop`), and exchange after it
what went over their lines (`batch_done`, then see `agreement`). A node leaves a batch only between rounds.
Counts that differ cost outcomes, nothing else. Nothing private passes through here but to and from the spool.
"""

import logging
import time

import numpy as np
from artiq.experiment import *

from diqkd_node.run.agreement import Agreement
from diqkd_node.run.greeting import exchange_hellos
from diqkd_node.run.ion_reload import IonReload
from diqkd_node.run.peer_connection import POLL_INTERVAL_S, PeerAbsentError
from diqkd_node.run.reasons import Fault, Reason
from diqkd_node.sequence.conditions import (
    CONDITION_NAMES,
    ION_LOST,
    LOCK_LOST,
    LOSS_NAMES,
    MEASURED,
    RUNNING,
    TOO_MANY_FAILURES,
)
from diqkd_node.sequence.node import SETTING_BITS
from diqkd_postproc.protocol.errors import DiqkdError

logger = logging.getLogger(__name__)

STOP_ANSWER_TIMEOUT_S = 2.0  # how long a node that wants to stop waits for the other's answer
PEER_DONE_TIMEOUT_S = 10.0  # how long a node waits for a herald after the other has left the batch
PROGRESS_INTERVAL_S = 0.5
GRANTED_ROUNDS = 256
"""Rounds that the kernel may begin before the journal notes it: as many can be lost by a crash, at one bit of
key each if it is Alice's. A note waits for the disk, so it is renewed when half of them are used."""


class NodeFaultError(DiqkdError):
    """This node's hardware did not do what the protocol needs."""


class Coordinator:
    """Serves one node's kernel.

    :param spool: open `RoundSpool` of this node
    :param connection: connected `PeerConnection`
    :param herald_patterns: detector patterns in the order of the kernel's pattern indices
    :param timings: `shared_timings` of this node's configuration, compared with the other node's
    :param batch_rounds: rounds of a batch
    :param should_stop: says whether the scheduler wants this experiment to pause or end
    :param publish: called with (rounds done, state of the node) now and then
    :param stall_timeout_s: longest time without a round, or without an answer of the peer within a batch
    :param reload: loads a lost ion; the default leaves it to people
    :param fill_pool: called between two batches if the random bits are short
    :param interrupted_unix: when an earlier start of this run ended, if there was one
    :param now: the clock of the record's gaps, unix seconds

    Public for live views: `herald_counts` (heralds of each pattern since the start, lost rounds left out),
    `ion_present` and `locked` as last seen at this node, `ion_losses`.
    """

    def __init__(
        self,
        *,
        spool,
        connection,
        herald_patterns,
        timings=None,
        batch_rounds=2000,
        should_stop=lambda: False,
        publish=lambda rounds_done, state: None,
        stall_timeout_s=120.0,
        reload=None,
        fill_pool=lambda: None,
        interrupted_unix=None,
        now=time.time,
    ):
        self.spool = spool
        self.connection = connection
        self.role = spool.role
        self.num_rounds = spool.parameters.num_rounds
        self.batch_rounds = batch_rounds
        self.should_stop = should_stop
        self.publish = publish
        self.stall_timeout_s = stall_timeout_s
        self.reload = reload or IonReload(None)
        self.fill_pool = fill_pool
        # The index after the last pattern: a herald of which this node's core saw none.
        self._pattern_of_index = np.array([*herald_patterns, 0], dtype=np.uint8)
        self._timings = timings or {}
        self._now = now
        self.herald_counts = np.zeros(len(herald_patterns), dtype=np.int64)
        self._granted = 0
        self.ion_present = True
        self.locked = True
        self.ion_losses = 0
        self._ready_sent = False
        self._failure = None
        self._gap = None if interrupted_unix is None else (Reason.RESTARTED, interrupted_unix)
        self._last_publication = 0.0
        self._published_state = ""
        self._agreement = Agreement(spool, connection, self._await)
        self._clear_batch(0)

    def _clear_batch(self, num_rounds):
        self._first = self.spool.rounds_done
        self._batch_size = num_rounds
        self._own_stop = None
        self._peer_stop = None
        self._peer_asked = False
        self._peer_done = None
        self._stop_reason = Reason.COMPLETE
        self._last_round = (time.monotonic(), self._first)

    def greet(self):
        """Agree with the other node on the run, and settle what an interruption has left open.

        Raises ParameterError, on both sides, if the nodes do not belong to the same run.
        """
        if self.spool.rounds_begun > self.spool.rounds_done:
            # Of these nobody knows any more whether their settings were applied; unknown counts as used up.
            self.spool.record_used(self.spool.rounds_begun, Reason.INTERRUPTED)
        hello = exchange_hellos(self.role, self.spool, self.connection, self._await, self._timings)
        self._agreement.resume(hello)
        self.spool.end_batch()
        self._limit_late_losses()
        self._publish("ready")

    # Remote calls of the kernel.

    def begin_batch(self) -> TList(TInt32):
        """Draws of the next batch once both nodes are ready; empty when the kernel is to end."""
        self._raise_failure()
        self.reload.ion_is_back()
        self.ion_present = self.locked = True
        remaining = self.num_rounds - self.spool.rounds_done
        if remaining == 0 or self.should_stop():
            return []
        count = min(self.batch_rounds, remaining)
        if count * self.spool.parameters.random_bits_per_round[self.role] > self.spool.bits_available:
            self.fill_pool()
        if not self._ready_sent:
            self.connection.send("batch_ready", first=self.spool.rounds_done, num_rounds=count)
            self._ready_sent = True
        ready = self._await("batch_ready", stoppable=True)
        if ready is None:
            return []
        self._ready_sent = False
        if ready["first"] != self.spool.rounds_done or ready["num_rounds"] < 1:
            raise self.connection.fail(
                f"{self.role} is at round {self.spool.rounds_done}, the other node at {ready['first']}"
            )
        count = min(count, ready["num_rounds"])
        if self._gap is not None:
            reason, start = self._gap
            self.spool.add_gap(reason, start, self._now())
            self._gap = None
        draws = self.spool.begin_batch(count)
        self._clear_batch(count)
        self._granted = 0
        try:
            self.spool.note_begun(self._first)
            self._await_begun(count)
        except Exception:
            self.abandon_batch(0)
            raise
        return (draws.settings + (draws.tokens.astype(np.int32) << SETTING_BITS)).tolist()

    def _await_begun(self, count):
        """Both nodes have the settings on disk before either applies one: an interruption that kept one node
        from drawing them would leave the other with rounds that can never be completed."""
        self.connection.send("batch_begun", first=self._first, num_rounds=count)
        begun = self._await("batch_begun")
        if (begun["first"], begun["num_rounds"]) != (self._first, count):
            raise self.connection.fail(
                f"{self.role} has begun {count} rounds at {self._first}, the other node others"
            )

    @rpc(flags={"async"})
    def store(
        self,
        count,
        outcomes,
        received,
        received_settings,
        received_ends,
        pattern_indices,
        heralds_mu,
        edges_mu,
        losses,
    ):
        """Take a chunk of rounds. A failure is raised by the next call that can raise."""
        if self._failure is not None:
            return
        try:
            outcome = np.array(outcomes[:count], dtype=np.int8)
            indices = np.array(pattern_indices[:count], dtype=np.int64)
            reasons = np.array(losses[:count], dtype=np.int64)
            self.herald_counts += np.bincount(indices, minlength=self._pattern_of_index.size)[:-1]
            self.spool.store(
                self.spool.rounds_done,
                outcome=np.maximum(outcome, 0),
                received=np.array(received[:count], dtype=np.uint8),
                received_setting=np.array(received_settings[:count], dtype=np.uint8),
                received_end=np.array(received_ends[:count], dtype=np.uint8),
                herald_pattern=self._pattern_of_index[indices],
                timestamp_mu=np.array(heralds_mu[:count], dtype=np.int64),
                edge_mu=np.array(edges_mu[:count], dtype=np.int64),
                lost=(outcome < 0).astype(np.uint8),
                reasons=[LOSS_NAMES[reason] for reason in reasons[reasons != MEASURED].tolist()],
            )
        except Exception as error:
            self._failure = error

    def check(self, done, condition) -> TInt32:
        """Rounds of this batch that may be played, given the rounds done and a reason to stop.

        As many as were done: the kernel leaves the batch.
        """
        done, condition = int(done), int(condition)  # compiled kernels send numpy integers
        return self._grant(done, self._last_round_of_batch(done, condition))

    def _grant(self, done, last):
        """At most `last`, and no more rounds than the journal says have begun."""
        if self._granted < last and self._granted < done + GRANTED_ROUNDS // 2:
            self._granted = min(last, done + GRANTED_ROUNDS)
            self.spool.note_begun(self._first + self._granted)
        return max(done, min(last, self._granted))

    def _last_round_of_batch(self, done, condition):
        self._raise_failure()
        self._drain()
        self._publish("running")
        if condition == LOCK_LOST:
            self.locked = False
        if self._own_stop is None:
            if condition == LOCK_LOST or self.should_stop():
                reason = (
                    Reason(CONDITION_NAMES[condition]) if condition != RUNNING else Reason.PAUSE_REQUESTED
                )
                self._request_stop(self._first + done, reason)
                self._await_peer_stop()
            elif self._peer_stop is not None:
                self._request_stop(max(self._first + done, self._peer_stop), Reason.AGREED)
        if self._own_stop is None:
            self._check_progress(self._first + done)
            return self._batch_size
        if self._peer_done is not None and self._silent_for(self._first + done) > PEER_DONE_TIMEOUT_S:
            return done  # the herald of the last round was seen there only
        last = max(self._own_stop, self._peer_stop or 0)
        return max(done, min(self._batch_size, last - self._first))

    def end_batch(self, done, condition):
        """Leave the batch: compare with the other node, settle differences, commit."""
        self._raise_failure()
        self.ion_present = condition != ION_LOST
        try:
            self._end_batch(int(done), int(condition))
        except Exception:
            self.abandon_batch(done)
            raise

    def abandon_batch(self, done):
        """The kernel has left the batch for good after `done` rounds, all of which it has sent.

        Never raises, since an exception is under way already.
        """
        begun = self._first + int(done)
        if self._failure is not None or self.spool.rounds_done < begun:
            return  # rounds are missing: nothing can be vouched for
        try:
            self.spool.note_begun(self.spool.rounds_done)
        except DiqkdError as error:
            logger.warning("%s", error)

    def _end_batch(self, done, condition):
        # On disk before anything of the other node is read: nothing that it says can cost an outcome.
        self.spool.note_begun(self.spool.rounds_done)
        reason = self._stop_reason if condition == RUNNING else Reason(CONDITION_NAMES[condition])
        self.connection.send("batch_done", rounds=self.spool.rounds_done, reason=reason)
        if self._peer_done is None:
            self._peer_done = self._await("batch_done")
        peer_reason, peer_rounds = Reason(self._peer_done["reason"]), self._peer_done["rounds"]
        if reason == Reason.COMPLETE:
            reason = peer_reason
        self._agreement.settle(peer_rounds, reason)
        self.spool.end_batch()
        early = self.spool.rounds_done < self._first + self._batch_size
        if early:
            self._gap = (reason, self._now())
            logger.info("batch left at round %d: %s", self.spool.rounds_done, reason)
        self._publish("running" if not early else reason)
        if condition == TOO_MANY_FAILURES:
            raise NodeFaultError(
                f"{reason} near round {self.spool.rounds_done}; increase the node's latencies, and look for "
                "noise on its input lines"
            )
        self._limit_late_losses()

    def _limit_late_losses(self):
        """End the run once it can make no key: the key length pays for a number of rounds fixed before."""
        number, allowed = self.spool.num_late_losses, self.spool.parameters.max_late_losses
        if self.spool.parameters.key_bits > 0 and number > allowed:
            raise self.connection.fail(
                f"{number} rounds of this run have no outcome of Alice's although their types may be public, "
                f"the parameters allow max_late_losses={allowed}: no key may come of it. Check what ended "
                "them (`diqkd record show`, losses), then begin a new run; `diqkd plan --max-late-losses "
                f"{number}` allows as many, at one bit of key each",
                fault=Fault.LATE_LOSSES,
            )

    def wait_for_recovery(self, locked, ion_present) -> TBool:
        """Called about ten times a second while laser or ion are away; False if the kernel is to end."""
        self.locked, self.ion_present = bool(locked), bool(ion_present)
        missing = "ion lost" if not ion_present else "674 nm laser not locked"
        if self._gap is None:
            self._gap = (missing, self._now())
        if not ion_present:
            if not self.reload.away:
                self.ion_losses += 1
            self.reload.no_ion("the run")
        self._publish(missing)
        return not self.should_stop()

    # After the last batch.

    def finish(self):
        """Agree with the other node that the run is complete."""
        self.connection.send("finish", rounds=self.spool.rounds_done)
        finish = self._await("finish")
        if finish["rounds"] != self.spool.rounds_done:
            raise self.connection.fail(
                f"{self.role} ends with {self.spool.rounds_done} rounds, the other with {finish['rounds']}"
            )
        self._publish("finished", now=True)

    def leave(self, reason):
        """Tell the other node that this one goes and why, a `Reason`; harmless if the link is gone."""
        try:
            self.connection.send("leaving", reason=reason)
        except DiqkdError:
            pass

    # Internal.

    def _raise_failure(self):
        if self._failure is not None:
            raise self._failure

    def _publish(self, state, now=False):
        changed = now or state != self._published_state
        if changed or time.monotonic() - self._last_publication >= PROGRESS_INTERVAL_S:
            self._last_publication = time.monotonic()
            self._published_state = state
            self.publish(self.spool.rounds_done, state)

    def _request_stop(self, at_round, reason):
        self._own_stop = at_round
        if self._peer_stop is None:
            self._stop_reason = reason
        self.connection.send("stop", round=at_round, reason=reason)

    def _await_peer_stop(self):
        """Wait at the round named in our request until the other node has named its own."""
        deadline = time.monotonic() + STOP_ANSWER_TIMEOUT_S
        while self._peer_stop is None and time.monotonic() < deadline:
            message = self.connection.receive(POLL_INTERVAL_S)
            if message is not None:
                self._handle(message)

    def _drain(self):
        while self.connection.waiting:
            # On disk before anything of the other node is read: nothing that it says can cost an outcome.
            self.spool.flush()
            message = self.connection.poll()
            if message is not None:
                self._handle(message)

    def _handle(self, message):
        """A message within a batch: a request to stop, or the other node's departure from it."""
        if message["kind"] == "stop":
            self._note_stop()
            self._peer_stop = max(self._peer_stop or 0, message["round"])
            if self._own_stop is None:
                self._stop_reason = Reason(message["reason"])
        elif message["kind"] == "batch_done":
            self._peer_done = message
            self._peer_stop = max(self._peer_stop or 0, message["rounds"])
        else:
            raise self.connection.fail(f"a {message['kind']!r} message came within a batch")

    def _note_stop(self):
        """A node asks for the end of a batch once."""
        if self._peer_asked:
            raise self.connection.fail("the other node asked twice for the end of the same batch")
        self._peer_asked = True

    def _silent_for(self, rounds):
        """Seconds since the number of rounds last changed."""
        now = time.monotonic()
        if rounds != self._last_round[1]:
            self._last_round = (now, rounds)
        return now - self._last_round[0]

    def _check_progress(self, rounds):
        if self._silent_for(rounds) > self.stall_timeout_s:
            raise self.connection.fail(
                f"{self.role} had no herald for {self.stall_timeout_s:g} s after round {rounds}; check both "
                "ions, the light path to the station, and the ready and trigger lines",
                fault=Fault.NO_HERALD,
            )

    def _await(self, kind, stoppable=False):
        """Next message of a kind; None if the scheduler wants to stop first."""
        deadline = time.monotonic() + self.stall_timeout_s
        while True:
            message = self.connection.receive(POLL_INTERVAL_S)
            if message is None:
                if stoppable:
                    if self.should_stop():
                        return None
                elif time.monotonic() > deadline:
                    raise PeerAbsentError(
                        f"the node at {self.connection.peer} sent no {kind!r} for "
                        f"{self.stall_timeout_s:g} s; see its log, then start both nodes again to resume"
                    )
            elif message["kind"] == kind:
                return message
            elif message["kind"] == "stop":
                self._note_stop()
            else:
                raise self.connection.fail(f"a {message['kind']!r} message came where {kind!r} was due")
