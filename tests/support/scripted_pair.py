"""Two nodes' decisions with a scripted world between them: a fake clock, messages in order, calibrations that
take time. Every action is checked against what may happen at all.
"""

from collections import deque
from dataclasses import dataclass, field

from diqkd_node.unattended.calibration_graph import Calibration, CalibrationGraph
from diqkd_node.unattended.decisions import (
    Acquisition,
    Autonomy,
    Cancel,
    EndHold,
    Finish,
    GiveUp,
    Hold,
    Note,
    Observation,
    Outcome,
    Phase,
    Send,
    StartAcquisition,
    Submit,
)
from diqkd_node.unattended.drift_watch import PublicCounts
from diqkd_node.unattended.state import Memory

GRAPH = CalibrationGraph(
    (
        Calibration(
            name="phases", file="p.py", joint=True, max_age_s=3600.0, depends_on=("frequency", "pi_time")
        ),
        Calibration(name="pi_time", file="t.py", max_age_s=3600.0, depends_on=("frequency",)),
        Calibration(name="frequency", file="f.py", max_age_s=1800.0, after=("relock",)),
    )
)
OTHER = {"alice": "bob", "bob": "alice"}


@dataclass
class ScriptedNode:
    """One node: its decisions and what its scheduler does."""

    role: str
    graph: CalibrationGraph = GRAPH
    memory: Memory = field(default_factory=Memory)
    now_s: float = 0.0
    inbox: deque = field(default_factory=deque)
    held: bool = False
    acquisition: Acquisition = Acquisition.ABSENT
    rounds: int = 0
    locked: bool = True
    ion_present: bool = True
    submitted: str | None = None
    outcomes: list = field(default_factory=list)
    history: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    finished: bool = False
    given_up: str = ""

    def __post_init__(self):
        self.autonomy = Autonomy(self.role, self.graph, self.memory)

    @property
    def running(self):
        return self.acquisition is Acquisition.ACTIVE and not self.held and self.locked and self.ion_present

    def step(self, outbox, num_messages=None):
        """Look once, with at most `num_messages` of the messages that have come."""
        count = len(self.inbox) if num_messages is None else min(num_messages, len(self.inbox))
        seen = Observation(
            now_s=self.now_s,
            acquisition=self.acquisition,
            held=self.held,
            running=self.running,
            locked=self.locked,
            ion_present=self.ion_present,
            counts=PublicCounts(time_s=self.now_s, heralds=self.rounds),
            outcomes=tuple(self.outcomes),
            messages=tuple(self.inbox.popleft() for _ in range(count)),
        )
        self.outcomes = []
        for action in self.autonomy.step(seen):
            self.carry_out(action, outbox)

    def carry_out(self, action, outbox):
        match action:
            case Send(kind, fields):
                outbox.append({"kind": kind, **fields})
            case Hold():
                assert not self.held
                self.held = True
                self.history.append("hold")
            case EndHold():
                assert self.held and self.submitted is None
                self.held = False
                self.history.append("release")
            case Submit(name):
                assert self.held, "a calibration while the key run goes on"
                assert self.submitted is None, "two calibrations at once"
                assert self.locked and self.ion_present
                self.submitted = name
                self.history.append(name)
            case Cancel(name):
                assert name == self.submitted
                self.conclude(False, message="cancelled")
            case StartAcquisition():
                assert self.acquisition is Acquisition.ABSENT
                self.acquisition = Acquisition.ACTIVE
                self.history.append("start")
            case Finish():
                self.finished = True
            case GiveUp(reason):
                self.given_up = reason
            case Note():
                self.notes.append((self.now_s, action))

    def conclude(self, succeeded, moved=None, message=""):
        """The calibration that was submitted ends."""
        name, self.submitted = self.submitted, None
        self.outcomes.append(Outcome(name=name, succeeded=succeeded, moved=moved or {}, message=message))

    @property
    def over(self):
        return self.autonomy.phase in (Phase.FINISHED, Phase.STOPPED)


class ScriptedPair:
    """Both nodes; `run` lets time pass until both are done."""

    def __init__(self, graph=GRAPH, rounds=10_000, duration_s=20.0, result=None):
        self.nodes = {role: ScriptedNode(role, graph) for role in OTHER}
        self.num_rounds = rounds
        self.duration_s = duration_s
        self.result = result or (lambda role, name, now_s: (True, {}))
        self.ends = {}
        self.world = lambda now_s, nodes: None

    def step(self, role, num_messages=None):
        self.nodes[role].step(self.nodes[OTHER[role]].inbox, num_messages)

    def run(self, until_s=100_000.0, step_s=1.0):
        now_s = 0.0
        while now_s < until_s and not all(node.over for node in self.nodes.values()):
            now_s += step_s
            self.world(now_s, self.nodes)
            self.pass_time(now_s, step_s)
            for role in self.nodes:
                self.step(role)
        return now_s

    def pass_time(self, now_s, step_s):
        both_run = all(node.running for node in self.nodes.values())
        for role, node in self.nodes.items():
            node.now_s = now_s
            if both_run:
                node.rounds += int(100 * step_s)
                if node.rounds >= self.num_rounds:
                    node.acquisition = Acquisition.FINISHED
            if node.submitted is not None:
                end_s = self.ends.setdefault(role, now_s + self.duration_s)
                if now_s >= end_s:
                    del self.ends[role]
                    node.conclude(*self.result(role, node.submitted, now_s))
