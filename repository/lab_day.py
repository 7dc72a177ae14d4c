"""Lab day without an operator: key generation with calibrations in between, agreed with the other node."""

import json
import logging
import time

from artiq.experiment import *

from diqkd_node.configuration import NodeConfiguration
from diqkd_node.run.environment import clock_of, path_argument
from diqkd_node.run.link_key import ask_for_key_store, link_key_of
from diqkd_node.run.peer_connection import PeerAbsentError
from diqkd_node.run.public_facts import PREFIX
from diqkd_node.run.reasons import Reason
from diqkd_node.unattended.calibration_graph import CalibrationGraph
from diqkd_node.unattended.decision_log import DecisionLog
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
    Send,
    StartAcquisition,
    Submit,
)
from diqkd_node.unattended.drift_watch import DriftWatch, PublicCounts
from diqkd_node.unattended.pause_connection import PauseConnection
from diqkd_node.unattended.scheduled_work import HOLD_PRIORITY, KEY_RUN_PRIORITY, ScheduledWork
from diqkd_node.unattended.state import Memory
from diqkd_postproc.protocol.errors import DiqkdError, ParameterError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import ROLES
from diqkd_postproc.records.sealed_record import RECORD_NAME

logger = logging.getLogger(__name__)

KEY_RUN, HOLD = "key_generation.py", "hold.py"
MAIN_PIPELINE = "main"  # where the core device is used
CONNECT_TIMEOUT_S = 3600.0
MAX_LOST_HOLDS = 3


class NeedsOperatorError(DiqkdError):
    """The lab day cannot continue by itself."""


class LabDay(EnvExperiment):
    """DIQKD lab day

    Runs key generation to its last round and calibrates whenever that is due, at both nodes at the same time.
    Submit it at both nodes; it submits everything else. Started again it goes on where it stopped."""

    def build(self):
        self.setattr_device("scheduler")
        self.set_default_scheduling(pipeline_name="lab_day")
        self.setattr_argument(
            "role",
            EnumerationValue(list(ROLES), default="alice"),
            "Run",
            "Which party this node is. Bob listens for Alice's connection.",
        )
        self.setattr_argument(
            "parameters_file",
            StringValue("~/diqkd/parameters.toml"),
            "Run",
            "Protocol parameters, TOML; must be the same file at both nodes.",
        )
        self.setattr_argument(
            "run_directory",
            StringValue("~/diqkd/run"),
            "Run",
            "Private directory of this run at this node. Decisions and their reasons are written there, too.",
        )
        ask_for_key_store(self)
        self.setattr_argument(
            "configuration_file",
            StringValue("~/diqkd/node.json"),
            "Run",
            "Calibrated values of this node, JSON, which calibrations change. If missing, it is made.",
        )
        self.setattr_argument(
            "calibrations_file",
            StringValue(""),
            "Calibrations",
            "What to calibrate and how often, JSON, the same at both nodes. Empty: the list of this package.",
        )
        self.setattr_argument(
            "calibrate",
            BooleanValue(True),
            "Calibrations",
            "Off: generate key with the configuration as it is, whatever drifts.",
        )
        self.setattr_argument(
            "drift_window",
            NumberValue(default=600.0, unit="s", min=1.0, max=86400.0, precision=1, step=60.0),
            "Calibrations",
            "Running time of a window of public statistics; windows are compared to find a drift.",
        )
        self.setattr_argument(
            "peer_host",
            StringValue("127.0.0.1"),
            "Classical link",
            "Alice: Bob's PC. Bob: the address of this PC to listen on.",
        )
        self.setattr_argument(
            "peer_port",
            NumberValue(default=4790, min=1, max=65533, precision=0, step=1, type="int"),
            "Classical link",
            "TCP port of the key run on Bob's PC; the two after it are for the lab day and its calibrations.",
        )
        self.setattr_argument(
            "batch_rounds",
            NumberValue(default=2000, min=1, max=20000, precision=0, step=100, type="int"),
            "Acquisition",
            "Rounds between two comparisons of the nodes' counts.",
        )
        self.setattr_argument(
            "poll_interval",
            NumberValue(default=1.0, unit="s", min=0.02, max=10.0, precision=2, step=0.1),
            "Acquisition",
            "Time between two readings of schedule and public facts.",
        )

    def prepare(self):
        if self.scheduler.pipeline_name == MAIN_PIPELINE:
            raise ParameterError(
                f"the lab day runs beside its experiments, not in their pipeline {MAIN_PIPELINE!r}; "
                "submit it to another, such as lab_day (artiq_client submit -p lab_day)"
            )
        self.directory = path_argument(self, "run_directory")
        self.configuration_path = path_argument(self, "configuration_file")
        parameters = ProtocolParameters.load(path_argument(self, "parameters_file"))
        self.num_rounds = parameters.num_rounds
        self.link_key = link_key_of(self, parameters, self.directory)
        self.last_rounds = self.num_lost_holds = 0
        if not self.calibrate:
            self.graph = CalibrationGraph(())
        else:
            self.graph = CalibrationGraph.load(
                path_argument(self, "calibrations_file") if self.calibrations_file else ""
            )
        self.memory_path = self.directory / "lab_day.json"
        # A folder for each start: a simulated master counts its experiments from 0 again.
        self.results = self.directory / "calibrations" / time.strftime("%Y%m%dT%H%M%S")
        self.calibration = None  # number and name of the one that was submitted, configuration before it
        self.acquisition = self.hold = None  # numbers

    def run(self):
        self.now = clock_of(self)
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.configuration_path.exists():
            self.configuration_path.parent.mkdir(parents=True, exist_ok=True)
            self.configuration_path.write_text(NodeConfiguration(role=self.role).to_json(), encoding="utf-8")
        self.memory = Memory.load(self.memory_path)
        self.work = ScheduledWork(self.scheduler, MAIN_PIPELINE)
        # Of an earlier start: its key run continues, its hold ends.
        self.acquisition = self.work.find(KEY_RUN, {"run_directory": self.run_directory})
        self.hold = self.work.find(HOLD, self.node_arguments())
        self.end_hold()
        self.connection = None
        with DecisionLog(self.directory, self.role, logger.info) as self.log:
            try:
                self.run_to_completion()
            except TerminationRequested:
                self.log_decision("terminated", "termination was requested")
                self.end_everything(Reason.TERMINATED)
                raise
            except Exception:
                self.end_everything(Reason.ERROR)
                raise
            finally:
                self.close_connection()

    def run_to_completion(self):
        """Connect to the other node, again whenever it was lost, until the run is complete."""
        while not self.sealed():
            if self.run_until_peer_lost():
                return
            self.end_hold()
        # The last round was agreed on by the key runs of both nodes.
        self.log_decision("finish", f"all rounds are in {RECORD_NAME}; the other node is not needed any more")

    def sealed(self) -> bool:
        """Whether the key run has ended with its last round."""
        return (self.directory / RECORD_NAME).exists()

    def run_until_peer_lost(self) -> bool:
        """Run from the connection to the end of the run; False if the other node was lost before."""
        try:
            connection = self.connection = self.open_connection()
            self.memory.pauses = connection.greet(self.role, self.graph, self.memory.pauses)
            self.log_decision("met", f"the other node is at {connection.peer}")
            autonomy = Autonomy(self.role, self.graph, self.memory, DriftWatch(window_s=self.drift_window))
            while not self.step(autonomy, connection):
                self.wait()
            return True
        except PeerAbsentError as error:
            self.log_decision("alone", str(error))
            self.close_connection()
            return False

    def close_connection(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def open_connection(self) -> PauseConnection:
        """Connect to the other node: Bob listens, Alice connects."""
        connect = PauseConnection.listen if self.role == "bob" else PauseConnection.connect

        def interrupted():
            return self.scheduler.check_pause() or self.sealed()

        while True:
            try:
                return connect(
                    self.peer_host,
                    int(self.peer_port) + 1,
                    CONNECT_TIMEOUT_S,
                    interrupted,
                    key=self.link_key,
                )
            except PeerAbsentError:
                if not self.scheduler.check_pause():
                    raise
                self.scheduler.pause()

    def wait(self):
        """Wait for the next step; pause if the scheduler wants that."""
        time.sleep(self.poll_interval)
        if self.scheduler.check_pause():
            self.scheduler.pause()

    def step(self, autonomy: Autonomy, connection: PauseConnection) -> bool:
        """One step: observe, decide, act; True at the end of the run."""
        messages = self.received(connection)
        self.work.refresh()
        self.replace_lost_hold()
        over = False
        failure = None
        for action in autonomy.step(self.observation(messages)):
            match action:
                case StartAcquisition():
                    self.acquisition = self.work.submit(KEY_RUN, "", self.key_run(), KEY_RUN_PRIORITY)
                case Hold():
                    self.num_lost_holds = 0
                    self.hold = self.work.submit(HOLD, "", self.node_arguments(), HOLD_PRIORITY)
                case EndHold():
                    self.end_hold()
                case Submit(name):
                    before = NodeConfiguration.load(self.configuration_path, self.role)
                    number = self.work.calibrate(self.graph[name], self.calibration_arguments(name))
                    self.calibration = (number, name, before)
                case Cancel():
                    self.work.end(self.calibration[0])
                case Send(kind, fields):
                    connection.send(kind, **fields)
                case Note():
                    self.log.write(self.now(), self.rounds_done(), action)
                case Finish():
                    over = True
                case GiveUp(reason):
                    failure = NeedsOperatorError(reason)
        self.memory.save(self.memory_path)
        if failure is not None:
            raise failure
        return over

    # Observations.

    def received(self, connection):
        """Messages that have arrived. A lost connection is raised once there are none before it."""
        messages = []
        try:
            while (message := connection.poll()) is not None:
                messages.append(message)
        except PeerAbsentError:
            if not messages:
                raise
        return messages

    def observation(self, messages) -> Observation:
        """Schedule and public facts as they are now."""
        state = self.fact("node_state", "")
        return Observation(
            now_s=self.now(),
            acquisition=self.acquisition_state(state),
            held=self.work.started(self.hold),
            running=state == "running" and self.hold is None,
            locked=self.fact("laser_lock", "locked") == "locked",
            ion_present=self.fact("ion_state", "present") == "present",
            counts=PublicCounts(
                time_s=self.fact("last_update_unix", 0.0),
                heralds=self.rounds_done(),
                patterns=tuple(int(count) for count in self.fact("herald_patterns", ())),
                ion_losses=int(self.fact("ion_losses", 0)),
            ),
            outcomes=self.outcomes(),
            messages=tuple(messages),
        )

    def fact(self, name, default):
        """A public fact, whichever experiment published it last."""
        return self.get_dataset(PREFIX + name, default, archive=False)

    def rounds_done(self) -> int:
        """Rounds of the key run; a calibration of both nodes counts its own under the same name."""
        if self.fact("num_rounds", 0) == self.num_rounds:
            self.last_rounds = int(self.fact("rounds_done", 0))
        return self.last_rounds

    def acquisition_state(self, state) -> Acquisition:
        """State of the key run, which is finished when its record is sealed."""
        if self.work.exists(self.acquisition):
            return Acquisition.ACTIVE
        if self.sealed():
            return Acquisition.FINISHED
        return Acquisition.ABSENT

    def outcomes(self):
        """Outcome of the calibration, once it has ended."""
        if self.calibration is None or self.work.exists(self.calibration[0]):
            return ()
        number, name, before = self.calibration
        self.calibration = None
        after = NodeConfiguration.load(self.configuration_path, self.role)
        problem = self.problem(number, after)
        moved = {} if problem else self.graph[name].moved(before, after)
        return (Outcome(name=name, succeeded=not problem, moved=moved, message=problem),)

    def problem(self, number, configured) -> str:
        """Why the calibration of this number has left no result that is in use; empty if it has."""
        found = sorted(self.results.rglob(f"*_{number:05d}.json"))
        if not found:
            return f"no result; see the log of experiment {number}"
        result = json.loads(found[-1].read_text(encoding="utf-8"))
        settings = result["finding"]["settings"] if result["role"] == self.role else {}
        if configured.with_fields(settings) != configured:
            return f"the result was not applied; see the log of experiment {number} and {found[-1].name}"
        return ""

    # Submissions.

    def node_arguments(self):
        return {"role": self.role, "configuration_file": str(self.configuration_path)}

    def key_run(self):
        return self.node_arguments() | {
            "parameters_file": self.parameters_file,
            "run_directory": self.run_directory,
            "peer_host": self.peer_host,
            "peer_port": int(self.peer_port),
            "batch_rounds": int(self.batch_rounds),
            "key_store": self.key_store,
            "passphrase_file": self.passphrase_file,
            "key_file": self.key_file,
        }

    def calibration_arguments(self, name):
        """Arguments of a calibration besides those in the graph."""
        if not self.graph[name].joint:
            return self.node_arguments() | {
                "result_directory": str(self.results),
                "update_configuration": True,
            }
        # A run of both nodes needs a directory of its own: in an old one it would go on.
        number = 1 + len(list(self.results.glob(f"{name}_*")))
        return self.node_arguments() | {
            "run_directory": str(self.results / f"{name}_{number:03d}"),
            "update_configuration": self.role in self.graph[name].updates,
            "peer_host": self.peer_host,
            "peer_port": int(self.peer_port) + 2,
        }

    def replace_lost_hold(self):
        """Submit the hold again if it has ended by itself."""
        if self.hold is None or self.work.exists(self.hold):
            return
        self.num_lost_holds += 1
        if self.num_lost_holds > MAX_LOST_HOLDS:
            raise NeedsOperatorError(f"the hold ended by itself, last as experiment {self.hold}; see its log")
        self.log_decision("hold", f"experiment {self.hold} ended by itself; another begins")
        self.hold = self.work.submit(HOLD, "", self.node_arguments(), HOLD_PRIORITY)
        self.work.refresh()

    def end_hold(self):
        """End the hold, and a calibration that still runs."""
        if self.calibration is not None:
            self.work.end(self.calibration[0])
            self.calibration = None
        self.work.end(self.hold)
        self.hold = None

    def log_decision(self, event, reason):
        self.log.write(self.now(), self.rounds_done(), Note(event, reason))

    def end_everything(self, reason):
        """End what this lab day has submitted, and send the other node `leaving` if it is connected."""
        self.end_hold()
        self.work.end(self.acquisition)
        try:
            if self.connection is not None:
                self.connection.send("leaving", reason=reason)
        except DiqkdError:
            pass
