"""Run of both nodes: the common part of key generation, link characterisation and the scans of the link.

Arguments, the peer connection, the batches with their pauses for the scheduler, and the public facts. A
subclass defines which rounds are played: it gives `num_rounds` and a spool for the `Coordinator`.
"""

import logging
import os
import time
from collections import deque
from functools import partial
from pathlib import Path

import numpy as np
from artiq.experiment import *

from diqkd_node.configuration import NodeConfiguration
from diqkd_node.run import dashboard
from diqkd_node.run.coordinator import Coordinator
from diqkd_node.run.deletion import DeletionGuard
from diqkd_node.run.environment import path_argument
from diqkd_node.run.ion_reload import IonReload, loader_of
from diqkd_node.run.peer_connection import PeerAbsentError, PeerConnection
from diqkd_node.run.public_facts import ADDRESS_FACT, AUTHENTICATED, KEY_RUN_FACTS, OPEN, PublicFacts
from diqkd_node.run.reasons import Reason
from diqkd_node.run.shared_timings import shared_timings
from diqkd_node.sequence.node import Node
from diqkd_node.sequence.pulse_table import PulseTable
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.roles import ROLES

logger = logging.getLogger(__name__)

RATE_S = 30.0  # the herald rate shown is that of so many seconds


class TwoNodeRun(HasEnvironment):
    """Base of an experiment that both nodes run at the same time.

    A subclass gives `build_round_arguments`, sets `num_rounds` in `prepare`, and calls `acquire` in `run`.
    """

    public_facts = KEY_RUN_FACTS
    views = (dashboard.RUN_STATUS,)
    link_key = None  # `node_link` of the key store; None for an open connection
    makes_configuration = False  # whether the result may make the configuration file
    default_directory = "~/diqkd/run"

    def build(self):
        """Devices and arguments of every run."""
        self.setattr_device("core")
        self.setattr_device("scheduler")
        self.setattr_device("ccb")
        self.setattr_argument(
            "role",
            EnumerationValue(list(ROLES), default="alice"),
            "Run",
            "Which party this node is. Bob announces the round types and listens for Alice's connection.",
        )
        self.build_round_arguments()
        self.setattr_argument(
            "run_directory",
            StringValue(self.default_directory),
            "Run",
            "Private directory of this run at this node. Keep it off shared drives.",
        )
        self.setattr_argument(
            "configuration_file",
            StringValue(""),
            "Run",
            "Calibrated times, frequencies, phases and voltages of this node, JSON. Empty: published values.",
        )
        self.setattr_argument(
            "peer_host",
            StringValue("127.0.0.1"),
            "Classical link",
            "Alice: Bob's PC. Bob: the address of this PC to listen on.",
        )
        self.setattr_argument(
            "peer_port",
            NumberValue(default=4790, min=0, max=65535, precision=0, step=1, type="int"),
            "Classical link",
            "TCP port on Bob's PC. Bob: 0 takes a free port and publishes it.",
        )
        self.setattr_argument(
            "peer_timeout",
            NumberValue(default=60.0, unit="s", min=0.1, max=86400.0, precision=1, step=1.0),
            "Classical link",
            "How long to wait for the other node to appear.",
        )
        self.setattr_argument(
            "batch_rounds",
            NumberValue(default=2000, min=1, max=20000, precision=0, step=100, type="int"),
            "Acquisition",
            "Rounds between two comparisons of the nodes' counts; 2000 rounds take about 20 s.",
        )
        self.setattr_argument(
            "check_interval",
            NumberValue(default=0.2, unit="s", min=0.17, max=0.2, precision=2, step=0.01),
            "Acquisition",
            "Time between two checks of scheduler and peer connection.",
        )
        self.setattr_argument(
            "stall_timeout",
            NumberValue(default=120.0, unit="s", min=1.0, max=86400.0, precision=1, step=10.0),
            "Acquisition",
            "Longest time without a herald, or without an answer of the other node, before giving up.",
        )
        self.setattr_argument(
            "reload_interval",
            NumberValue(default=60.0, unit="s", min=0.1, max=86400.0, precision=1, step=10.0),
            "Acquisition",
            "How long to wait for an ion before asking the loader for another one.",
        )

    def build_round_arguments(self):
        """Ask which rounds are to be played."""

    def prepare(self):
        """Read the node's configuration. Raises ParameterError."""
        if self.role == "alice" and self.peer_port == 0:
            raise ParameterError("peer_port=0 is for Bob only; give Alice the port that he publishes")
        self.configuration = self.load_configuration()
        self.directory = path_argument(self, "run_directory")
        self.deletion = DeletionGuard()
        self.interrupted_unix = None
        self.facts = PublicFacts(self.set_dataset, self.public_facts | ADDRESS_FACT)
        self.progress = deque()  # (time, rounds) of the last RATE_S
        self.now = time.time

    def load_configuration(self) -> NodeConfiguration:
        """The node configuration as its file is now."""
        path = path_argument(self, "configuration_file") if self.configuration_file else ""
        if self.makes_configuration and not path.exists():
            path = ""
        return NodeConfiguration.load(path, self.role, {"batches.check_interval": self.check_interval})

    def save_configuration(self, directory: Path) -> None:
        """Write what the next rounds run with next to the record, one file a start and a recalibration."""
        stem = time.strftime("node_configuration_%Y%m%dT%H%M%S", time.gmtime(self.now()))
        path = directory / f"{stem}.json"
        number = 1
        while path.exists():
            number += 1
            path = directory / f"{stem}_{number}.json"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(self.configuration_document())

    def should_stop(self) -> bool:
        """Whether the scheduler wants this experiment to pause or end."""
        return self.deletion.call(self.scheduler.check_pause, if_deleted=True)

    def pause_for_scheduler(self) -> None:
        """Let experiments of higher priority run; TerminationRequested if this one is to end."""
        self.deletion.raise_if_deleted()
        self.scheduler.pause()

    def open_connection(self) -> PeerConnection:
        """Connect to the other node: Bob listens, Alice connects. Says once what protects the connection."""
        listen = partial(PeerConnection.listen, listening=self.publish_address)
        connect = listen if self.role == "bob" else PeerConnection.connect
        self.facts.publish(connection=self.connection_kind)
        if self.link_key is None:
            logger.warning(
                "the connection to the other node is open: without a key store of the run, nothing shows "
                "that its messages come from there"
            )
        while True:
            try:
                return connect(
                    self.peer_host,
                    int(self.peer_port),
                    self.peer_timeout,
                    self.should_stop,
                    key=self.link_key,
                )
            except PeerAbsentError:
                if not self.should_stop():
                    raise
                self.pause_for_scheduler()

    @property
    def connection_kind(self) -> str:
        """Public fact: what protects the connection to the other node."""
        return OPEN if self.link_key is None else AUTHENTICATED

    def publish_address(self, host: str, port: int) -> None:
        """Publish where Bob listens, which nobody else can know if his port was 0."""
        if self.peer_port == 0:
            self.peer_port = port  # after a pause he waits where Alice expects him
            self.facts.publish(listening=f"{host}:{port}")

    def make_coordinator(self, **arguments) -> Coordinator:
        """Host half of the run."""
        return Coordinator(**arguments)

    def fill_pool(self, spool) -> None:
        """Refill the pool of random bits, for runs that have one."""

    def acquire(self, node: Node, spool, connection: PeerConnection) -> None:
        """Run batches, with pauses for the scheduler, until the run is complete."""
        self.coordinator = coordinator = self.make_coordinator(
            spool=spool,
            connection=connection,
            herald_patterns=self.configuration.attempts.herald_patterns,
            timings=shared_timings(self.configuration),
            batch_rounds=int(self.batch_rounds),
            should_stop=self.should_stop,
            publish=self.publish,
            stall_timeout_s=self.stall_timeout,
            reload=IonReload(loader_of(self), self.reload_interval),
            fill_pool=lambda: self.fill_pool(spool),
            interrupted_unix=self.interrupted_unix,
            now=self.now,
        )
        node.coordinator = coordinator
        self.deletion.call(dashboard.show, self.ccb, *self.views)
        try:
            coordinator.greet()
            # `prepare` may have come hours before, while calibrations were still in the queue.
            node = self.recalibrated(node)
            while spool.rounds_done < self.num_rounds:
                node.run_batches()
                if spool.rounds_done < self.num_rounds:
                    self.core.close()
                    self.pause_for_scheduler()
                    node = self.recalibrated(node)
            coordinator.finish()
        except TerminationRequested:
            coordinator.leave(Reason.TERMINATED)
            raise
        except BaseException:
            coordinator.leave(Reason.ERROR)
            raise

    def recalibrated(self, node: Node) -> Node:
        """The node with the configuration that calibrations have changed while this experiment was paused."""
        configuration = self.load_configuration()
        if configuration == self.configuration:
            return node
        before, after = (shared_timings(item) for item in (self.configuration, configuration))
        if changed := [name for name in before if before[name] != after[name]]:
            raise ParameterError(
                f"{', '.join(changed)} changed during the run, and both nodes have to share it; put the old "
                "value back, or change it at both nodes and start them again"
            )
        logger.info("the node configuration has changed; the next rounds run with the new one")
        self.configuration = configuration
        self.save_configuration(self.directory)
        return self.make_node(node.coordinator)

    def pulse_table(self) -> PulseTable:
        """Analysis pulses of the rounds."""
        return PulseTable.of_rounds(self.configuration)

    def make_node(self, coordinator=None) -> Node:
        """The node with the present configuration, prepared."""
        node = Node(
            self,
            self.configuration,
            coordinator,
            self.pulse_table(),
            self.parameters.protocol,
            self.parameters.end_token,
        )
        node.prepare()
        return node

    def configuration_document(self) -> str:
        """JSON text of what the rounds run with."""
        return self.configuration.to_json()

    def publish(self, rounds_done: int, state: str) -> None:
        """Public facts for the dashboard."""
        now = self.now()
        progress = self.progress
        progress.append((now, rounds_done))
        while now - progress[0][0] > RATE_S and len(progress) > 2:
            progress.popleft()
        elapsed = now - progress[0][0]
        self.deletion.call(
            self.facts.publish,
            num_rounds=self.num_rounds,
            rounds_done=int(rounds_done),
            herald_rate=float((rounds_done - progress[0][1]) / elapsed) if elapsed > 0 else 0.0,
            herald_patterns=np.array(self.coordinator.herald_counts, dtype=np.int64),
            label_mismatches=self.coordinator.spool.label_mismatches,
            node_state=str(state),
            ion_state="present" if self.coordinator.ion_present else "absent",
            ion_losses=self.coordinator.ion_losses,
            laser_lock="locked" if self.coordinator.locked else "lost",
            last_update_unix=float(now),
        )
