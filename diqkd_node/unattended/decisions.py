"""Decisions of a node, when to calibrate and when to generate key. Sans-IO: observations in, actions out.

A run needs both nodes, so no pause begins or ends at one of them alone. Both number the pauses:

    node        phase         other node
    propose k   RUNNING ->  PROPOSING      something is due here
    agree k     RUNNING ->  CALIBRATING    to a proposal; crossing proposals agree to each other
    decline k   PROPOSING -> RUNNING       the other node's key run is complete
                CALIBRATING                each node, by itself: what is due, in the order of the graph
    ready k     CALIBRATING -> WAITING     with the joint calibrations that are due here
                WAITING -> JOINT           both are ready: the union of both lists, in the order of the graph
    ready k     JOINT -> WAITING           with those that failed
                WAITING -> RUNNING         both are ready and nothing is left

The coordinators of the key run agree on the round at which it stops: they leave a batch at the same round.
From `Hold` to `EndHold` this node's key run is paused; a lost lock begins such a pause, so that no round
follows it before the laser's frequency is known again. Inputs are public facts only; see `drift_watch`.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from diqkd_node.unattended.calibration_graph import RELOAD, RELOCK, Calibration, CalibrationGraph
from diqkd_node.unattended.drift_watch import DriftWatch, PublicCounts
from diqkd_node.unattended.state import Memory
from diqkd_postproc.protocol.errors import RemoteProtocolError

HORIZON = 0.25  # what has less than this part of its age left is calibrated along with what is due
MAX_TRIES = 3  # of a calibration in one pause
RETRY_S = 600.0  # until a calibration that failed so often is tried again
MAX_AGES = 3.0  # in units of `max_age_s`: an older calibration is no basis for a key run
MAX_RESTARTS = 5  # of the key run, without a round in between
RESTART_S = 10.0
OVERTIME = 10.0  # expected durations after which a calibration is ended


class Phase(StrEnum):
    """Phase of this node, see the module's table."""

    RUNNING = "running"
    PROPOSING = "proposing"
    CALIBRATING = "calibrating"
    WAITING = "waiting"
    JOINT = "joint"
    FINISHED = "finished"
    STOPPED = "stopped"


class Acquisition(StrEnum):
    """State of the key run, by the schedule and its record."""

    ABSENT = "absent"
    ACTIVE = "active"
    FINISHED = "finished"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a calibration ended. moved: fields that changed by more than their tolerance, with the change."""

    name: str
    succeeded: bool
    moved: Mapping[str, float] = field(default_factory=dict)
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """Observations at `now_s`. held: the key run is paused and calibrations can be submitted."""

    now_s: float
    acquisition: Acquisition
    held: bool = False
    running: bool = False  # rounds are being measured now
    locked: bool = True
    ion_present: bool = True
    counts: PublicCounts | None = None
    outcomes: Sequence[Outcome] = ()
    messages: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class StartAcquisition:
    """Submit the key run, which continues where it stopped."""


@dataclass(frozen=True)
class Hold:
    """Make the key run pause, for this reason."""

    reason: str


@dataclass(frozen=True)
class EndHold:
    """End the hold: the key run continues."""


@dataclass(frozen=True)
class Submit:
    """Run a calibration."""

    name: str


@dataclass(frozen=True)
class Cancel:
    """End a calibration that takes too long."""

    name: str


@dataclass(frozen=True)
class Send:
    """Send a message to the other node."""

    kind: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Note:
    """A decision for the log: what, and why."""

    event: str
    reason: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finish:
    """The run is complete at both nodes."""


@dataclass(frozen=True)
class GiveUp:
    """An operator is needed."""

    reason: str


Action = StartAcquisition | Hold | EndHold | Submit | Cancel | Send | Note | Finish | GiveUp


class Autonomy:
    """One node's decisions.

    :param role: "alice" or "bob"
    :param graph: what to calibrate; empty for a run without calibrations
    :param memory: state of earlier starts; changed by `step`, to be saved after it
    """

    def __init__(
        self, role: str, graph: CalibrationGraph, memory: Memory, watch: DriftWatch | None = None
    ) -> None:
        self.role = role
        self.graph = graph
        self.memory = memory
        self.watch = watch or DriftWatch()
        self.phase = Phase.RUNNING
        self._own = graph.of_role(role)
        self._started = False  # the key run, since the last pause
        self._restart_s = 0.0
        self._was_locked = True
        self._was_present = True
        self._pending: str | None = None  # calibration that was submitted
        self._pending_since_s = 0.0
        self._tries: dict[str, int] = {}  # in this pause
        self._queue: list[str] = []  # joint calibrations of this turn
        self._failed: list[str] = []  # of this turn
        self._own_ready: list[str] | None = None
        self._peer_ready: deque[list[str]] = deque()
        self._finished = False
        self._peer_finished = False
        self._reason = ""

    def step(self, seen: Observation) -> list[Action]:
        """Actions that follow from an observation.

        :raises RemoteProtocolError: the other node broke a rule of the negotiation; nothing was changed by
            the message that did
        """
        actions: list[Action] = []
        if self.phase in (Phase.FINISHED, Phase.STOPPED):
            return actions
        self._note_events(seen, actions)
        for message in seen.messages:
            self._handle(message, seen, actions)
            if self.phase is Phase.WAITING:
                self._compare(actions)
        for outcome in seen.outcomes:
            self._conclude(outcome, seen, actions)
        if self.phase is Phase.RUNNING:
            self._run(seen, actions)
        if self.phase in (Phase.CALIBRATING, Phase.JOINT):
            self._calibrate(seen, actions)
            if self.phase is Phase.WAITING:
                self._compare(actions)
        return actions

    def due(self, now_s: float, horizon: float = 0.0) -> dict[str, str]:
        """This node's calibrations that are due, in order, each with the reason; `horizon` is the part of the
        age that may still be left."""
        reasons = {item.name: self._reason_for(item, now_s, horizon) for item in self._own}
        return {name: reason for name, reason in reasons.items() if reason}

    def _reason_for(self, item: Calibration, now_s: float, horizon: float) -> str:
        memory = self.memory.of(item.name)
        if now_s < memory.retry_s:
            return ""
        if memory.done_s is None:
            return "never done"
        if memory.stale:
            return memory.stale
        age = now_s - memory.done_s
        if age >= item.max_age_s * (1 - horizon):
            return f"{age / 60:.0f} min old"
        return ""

    # Events at this node.

    def _note_events(self, seen: Observation, actions: list[Action]) -> None:
        for was, now, event, lost, back in (
            (self._was_locked, seen.locked, RELOCK, "674 nm lock was lost", "674 nm laser is locked again"),
            (self._was_present, seen.ion_present, RELOAD, "ion was lost", "there is an ion again"),
        ):
            if was and not now:
                actions.append(Note("wait", lost))
                self._make_stale([item for item in self._own if event in item.after], lost)
            elif now and not was:
                actions.append(Note("recovered", back))
        self._was_locked, self._was_present = seen.locked, seen.ion_present
        if not seen.running:
            self.watch.interrupt()
        elif seen.counts is not None and self.phase is Phase.RUNNING:
            for statistic, sentence in self.watch.update(seen.counts).items():
                actions.append(Note("drift", sentence, {"statistic": statistic}))
                self._make_stale([item for item in self._own if statistic in item.watches], sentence)

    def _make_stale(self, calibrations: Sequence[Calibration], reason: str) -> None:
        for item in calibrations:
            self.memory.of(item.name).stale = reason

    # The other node.

    def _handle(self, message: Mapping[str, Any], seen: Observation, actions: list[Action]) -> None:
        kind, number = message["kind"], message.get("number")
        if kind == "propose":
            known = all(name in self.graph for name in message["due"])
            expected = self.phase in (Phase.RUNNING, Phase.PROPOSING)
            if number != self.memory.pauses + 1 or not known or not expected:
                raise self._broken(message)
            if seen.acquisition is Acquisition.FINISHED:
                actions.append(Send("decline", {"number": number}))
                self.phase = Phase.RUNNING
                return
            if self.phase is Phase.RUNNING:
                actions.append(Send("agree", {"number": number}))
                self._reason = f"due at the other node: {', '.join(message['due'])}"
                actions.append(Note("agree", f"pause {number}: {self._reason}"))
            self._begin_pause(actions)
        elif kind == "agree":
            if number != self.memory.pauses + 1 or self.phase is not Phase.PROPOSING:
                raise self._broken(message)
            self._begin_pause(actions)
        elif kind == "decline":
            if number != self.memory.pauses + 1 or self.phase not in (Phase.PROPOSING, Phase.RUNNING):
                raise self._broken(message)
            self.phase = Phase.RUNNING
            self._peer_finished = True
        elif kind == "ready":
            names = message["joint"]
            known = all(name in self.graph and self.graph[name].joint for name in names)
            expected = self.phase in (Phase.CALIBRATING, Phase.WAITING, Phase.JOINT)
            if number != self.memory.pauses or not known or not expected or len(self._peer_ready) > 1:
                raise self._broken(message)
            self._peer_ready.append(names)
        elif kind == "finished":
            self._peer_finished = True
        else:
            raise self._broken(message)

    def _broken(self, message: Mapping[str, Any]) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"{self.role} is {self.phase} after pause {self.memory.pauses}; a {message['kind']!r} message of "
            f"pause {message.get('number')} makes no sense there; start the lab day anew at both nodes"
        )

    def _begin_pause(self, actions: list[Action]) -> None:
        self.memory.pauses += 1
        self.phase = Phase.CALIBRATING
        self._tries.clear()
        self._own_ready = None
        self._peer_ready.clear()
        self._failed = []
        actions.append(Hold(self._reason))

    # The key run.

    def _run(self, seen: Observation, actions: list[Action]) -> None:
        rounds = seen.counts.heralds if seen.counts is not None else 0
        if rounds > self.memory.rounds:
            self.memory.rounds, self.memory.restarts = rounds, 0
        if seen.acquisition is Acquisition.FINISHED:
            if not self._finished:
                actions.append(Send("finished", {}))
                actions.append(Note("finish", "all rounds are done"))
                self._finished = True
            if self._peer_finished:
                self.phase = Phase.FINISHED
                actions.append(Finish())
            return
        due = self.due(seen.now_s)
        if due and not self._peer_finished:
            self._reason = "; ".join(f"{name} {reason}" for name, reason in due.items())
            number = self.memory.pauses + 1
            actions.append(Send("propose", {"number": number, "due": list(due)}))
            actions.append(Note("propose", f"pause {number}: {self._reason}", {"due": due}))
            self.phase = Phase.PROPOSING
            return
        too_old = [item.name for item in self._own if self._is_too_old(item, seen.now_s)]
        if too_old and not due:
            self._give_up(
                f"{', '.join(too_old)} failed {MAX_TRIES} times and no value of the last "
                f"{MAX_AGES:g} ages is left to go on with; look at the calibration's plot",
                actions,
            )
        elif seen.acquisition is Acquisition.ABSENT:
            self._start(seen, actions)

    def _is_too_old(self, item: Calibration, now_s: float) -> bool:
        done_s = self.memory.of(item.name).done_s
        return done_s is None or now_s - done_s > MAX_AGES * item.max_age_s

    def _start(self, seen: Observation, actions: list[Action]) -> None:
        if seen.now_s < self._restart_s:
            return
        if self.memory.restarts >= MAX_RESTARTS:
            self._give_up(
                f"the key run ended {MAX_RESTARTS} times without a round; see the log of the experiment",
                actions,
            )
            return
        actions.append(StartAcquisition())
        again = self._started
        actions.append(Note("start", "the key run ended early, it goes on" if again else "the key run"))
        self._started = True
        self.memory.restarts += 1
        self._restart_s = seen.now_s + RESTART_S

    def _give_up(self, reason: str, actions: list[Action]) -> None:
        self.phase = Phase.STOPPED
        actions += [Note("give up", reason), GiveUp(reason)]

    # The pause.

    def _calibrate(self, seen: Observation, actions: list[Action]) -> None:
        """Submit the next calibration, or send `ready` where none is left."""
        if self._pending is not None:
            limit = OVERTIME * self.graph[self._pending].duration_s
            if seen.now_s - self._pending_since_s > limit:
                actions.append(Cancel(self._pending))
                actions.append(Note("cancel", f"{self._pending} has taken more than {limit:.0f} s"))
                self._pending_since_s = seen.now_s
            return
        if not seen.held:
            return
        if self.phase is Phase.JOINT:
            chosen = self._queue.pop(0) if self._queue else None
        else:
            singles = [name for name in self.due(seen.now_s, HORIZON) if not self.graph[name].joint]
            chosen = next(iter(singles), None)
        if chosen is None:
            joint = [name for name in self.due(seen.now_s, HORIZON) if self.graph[name].joint]
            self._own_ready = self._failed if self.phase is Phase.JOINT else joint
            self._failed = []
            number = self.memory.pauses
            actions.append(Send("ready", {"number": number, "joint": list(self._own_ready)}))
            self.phase = Phase.WAITING
            return
        if not seen.locked or not seen.ion_present:
            if self.phase is Phase.JOINT:
                self._queue.insert(0, chosen)
            return
        reason = self._reason_for(self.graph[chosen], seen.now_s, HORIZON) or "due at the other node"
        actions.append(Submit(chosen))
        actions.append(Note("calibrate", f"{chosen}: {reason}", {"calibration": chosen}))
        self._pending, self._pending_since_s = chosen, seen.now_s

    def _conclude(self, outcome: Outcome, seen: Observation, actions: list[Action]) -> None:
        if outcome.name != self._pending:
            return  # of an earlier start
        self._pending = None
        memory = self.memory.of(outcome.name)
        facts = {"calibration": outcome.name, "moved": dict(outcome.moved)}
        if outcome.succeeded:
            memory.done_s, memory.failures, memory.stale, memory.retry_s = seen.now_s, 0, "", 0.0
            moved = ", ".join(f"{name} by {change:.4g}" for name, change in outcome.moved.items())
            actions.append(Note("calibrated", f"{outcome.name}: {moved or 'within tolerance'}", facts))
            if outcome.moved:
                dependent = [item for item in self._own if outcome.name in item.depends_on]
                self._make_stale(dependent, f"{outcome.name} has moved")
            return
        if self.phase is Phase.JOINT:
            self._failed.append(outcome.name)
        if not seen.locked or not seen.ion_present:
            actions.append(Note("retry", f"{outcome.name} was disturbed: {outcome.message}", facts))
            return
        memory.failures += 1
        tries = self._tries[outcome.name] = self._tries.get(outcome.name, 0) + 1
        actions.append(Note("failed", f"{outcome.name}: {outcome.message}", facts))
        if tries >= MAX_TRIES:
            memory.retry_s = seen.now_s + RETRY_S
            actions.append(
                Note("alarm", f"{outcome.name} failed {tries} times; tried again in {RETRY_S / 60:.0f} min")
            )
            self._failed = [name for name in self._failed if name != outcome.name]

    def _compare(self, actions: list[Action]) -> None:
        """Both nodes are ready: the joint calibrations, or the end of the pause."""
        if self._own_ready is None or not self._peer_ready:
            return
        wanted = {*self._own_ready, *self._peer_ready.popleft()}
        self._own_ready = None
        self._queue = [name for name in self.graph.names if name in wanted]
        if self._queue:
            self.phase = Phase.JOINT
            return
        self.phase = Phase.RUNNING
        self.watch.reset()
        self._started = False
        actions.append(EndHold())
        actions.append(Note("resume", f"pause {self.memory.pauses} is over"))
