"""Acquisition of a DIQKD run: heralded rounds with private settings, into this node's private record."""

import logging
import os
import time
from collections import deque
from pathlib import Path

import numpy as np
from artiq import __version__ as artiq_version
from artiq.experiment import *

from diqkd_node.classical_link import ClassicalLink, PeerAbsentError
from diqkd_node.configuration import NodeConfiguration
from diqkd_node.coordinator import Coordinator
from diqkd_node.deletion import DeletionGuard
from diqkd_node.node import Node
from diqkd_node.public_facts import PublicFacts
from diqkd_postproc import __version__
from diqkd_postproc.errors import ParameterError
from diqkd_postproc.parameters import ProtocolParameters
from diqkd_postproc.records.health_tests import HealthTested
from diqkd_postproc.records.round_spool import RoundSpool

logger = logging.getLogger(__name__)

SPOOL_NAME = "spool.sqlite"
RECORD_NAME = "record.h5"
MIN_SURPLUS_BATCHES = 3  # a batch that ends early discards what is left of its settings
RATE_S = 30.0  # the herald rate shown is that of so many seconds


class KeyGeneration(EnvExperiment):
    """DIQKD key generation

    Runs until both nodes have all rounds of the parameter file. Started again with the same run directory
    it goes on where it stopped. Outcomes and settings stay in the run directory."""

    def build(self):
        self.setattr_device("core")
        self.setattr_device("scheduler")
        self.setattr_argument(
            "role",
            EnumerationValue(["alice", "bob"], default="alice"),
            "Run",
            "Which party this node is. Bob drives the round-type line and listens for Alice's connection.",
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
            NumberValue(default=4790, min=1, max=65535, precision=0, step=1, type="int"),
            "Classical link",
            "TCP port on Bob's PC.",
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
            "Time between two looks at scheduler and classical link.",
        )
        self.setattr_argument(
            "stall_timeout",
            NumberValue(default=120.0, unit="s", min=1.0, max=86400.0, precision=1, step=10.0),
            "Acquisition",
            "Longest time without a herald, or without an answer of the other node, before giving up.",
        )
        self.setattr_argument(
            "pool_surplus",
            NumberValue(default=0.1, unit="%", scale=0.01, min=0.0, max=1.0, precision=0, step=0.01),
            "Acquisition",
            "Random bits drawn before the start, beyond those that the rounds need: for discarded settings.",
        )

    def prepare(self):
        self.parameters = ProtocolParameters.load(self.located("parameters_file"))
        self.configuration = self.load_configuration()
        self.directory = self.located("run_directory")
        self.deletion = DeletionGuard()
        self.interrupted_unix = None
        self.facts = PublicFacts(self.set_dataset)
        self.progress = deque()  # (time, rounds) of the last RATE_S
        self.now = time.time

    def load_configuration(self) -> NodeConfiguration:
        """The node configuration as its file is now."""
        path = self.located("configuration_file") if self.configuration_file else ""
        return NodeConfiguration.load(path, self.role, check_interval=self.check_interval)

    def located(self, argument: str) -> Path:
        """Path in an argument. Under artiq_master, which gives every run a folder of its own, a relative
        path would name another file each time; there it is refused."""
        text = getattr(self, argument)
        path = Path(text).expanduser()
        under_master = "log_level" in self.scheduler.expid
        if not text or (under_master and not path.is_absolute()):
            raise ParameterError(f"{argument}={text!r} is not a full path; it has to start with / or ~")
        return path

    def run(self):
        directory = self.directory
        if "clock" in self.get_device_db():
            self.now = self.get_device("clock").now
        # First of all: a missing device shows before the other node begins to wait for this one.
        node = Node(self, self.configuration)
        node.prepare()
        with self.deletion, self.open_spool(directory) as spool:
            self.fill_pool(spool)
            link = self.open_link()
            try:
                self.acquire(node, spool, link)
                spool.seal(directory / RECORD_NAME)
            finally:
                link.close()
        logger.info("run complete: %d rounds in %s", self.parameters.num_rounds, directory / RECORD_NAME)

    def open_spool(self, directory: Path) -> RoundSpool:
        """The spool of the run directory, new or resumed."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.keep_configuration(directory)
        path = directory / SPOOL_NAME
        if path.exists():
            # Another clock than the PC's cannot tell when a file was written.
            self.interrupted_unix = path.stat().st_mtime if self.now is time.time else self.now()
            return RoundSpool.open(path, role=self.role, parameters=self.parameters)
        provenance = {
            "diqkd": __version__,
            "artiq": artiq_version,
            "rid": int(self.scheduler.rid),
            "revision": str(self.scheduler.expid.get("repo_rev", "unknown")),
            "start_unix": self.now(),
            "node_configuration": self.configuration.to_json(),
        }
        return RoundSpool.create(path, self.role, self.parameters, provenance)

    def keep_configuration(self, directory: Path) -> None:
        """Write what the next rounds run with next to the record, one file a start and a recalibration."""
        stem = time.strftime("node_configuration_%Y%m%dT%H%M%S", time.gmtime(self.now()))
        path = directory / f"{stem}.json"
        number = 1
        while path.exists():
            number += 1
            path = directory / f"{stem}_{number}.json"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(self.configuration.to_json())

    def should_stop(self) -> bool:
        """Whether the scheduler wants this experiment to pause or end."""
        return self.deletion.ask(self.scheduler.check_pause, otherwise=True)

    def make_way(self) -> None:
        """Let experiments of higher priority run; TerminationRequested if this one is to end."""
        self.deletion.raise_if_deleted()
        self.scheduler.pause()

    def fill_pool(self, spool: RoundSpool) -> None:
        """Draw the bits of all settings still to come (PROTOCOL section 2).

        Called before the first round, and again between two batches if interruptions have cost so many
        that the pool is short; the link is then disconnected."""
        needed = spool.bits_needed - spool.bits_available
        if needed <= 0:
            return
        batch_bits = int(self.batch_rounds) * self.parameters.setting_bits_per_round[self.role]
        surplus = max(self.pool_surplus * spool.bits_needed, MIN_SURPLUS_BATCHES * batch_bits)
        num_bytes = -(-int(needed + surplus) // 8)
        source = HealthTested(self.get_device("qrng"))
        logger.info("reading %d random bytes", num_bytes)
        spool.fill_pool(source.read, num_bytes)

    def open_link(self) -> ClassicalLink:
        """Meet the other node: Bob listens, Alice connects."""
        meet = ClassicalLink.listen if self.role == "bob" else ClassicalLink.connect
        while True:
            try:
                return meet(self.peer_host, int(self.peer_port), self.peer_timeout, self.should_stop)
            except PeerAbsentError:
                if not self.should_stop():
                    raise
                self.make_way()

    def acquire(self, node: Node, spool: RoundSpool, link: ClassicalLink) -> None:
        """Run batches, with pauses for the scheduler, until the run is complete."""
        self.coordinator = coordinator = Coordinator(
            spool=spool,
            link=link,
            herald_patterns=self.configuration.herald_patterns,
            batch_rounds=int(self.batch_rounds),
            should_stop=self.should_stop,
            publish=self.publish,
            stall_timeout_s=self.stall_timeout,
            load_ion=self.ion_loader(),
            fill_pool=lambda: self.fill_pool(spool),
            interrupted_unix=self.interrupted_unix,
            now=self.now,
        )
        node.coordinator = coordinator
        try:
            coordinator.greet()
            while spool.rounds_done < self.parameters.num_rounds:
                node.run_batches()
                if spool.rounds_done < self.parameters.num_rounds:
                    self.core.close()
                    self.make_way()
                    node = self.recalibrated(node)
            coordinator.finish()
        except TerminationRequested:
            coordinator.leave("termination requested")
            raise
        except BaseException as error:
            coordinator.leave(type(error).__name__)
            raise

    def recalibrated(self, node: Node) -> Node:
        """The node with what a calibration has changed while this experiment made way."""
        configuration = self.load_configuration()
        if configuration == self.configuration:
            return node
        if configuration.herald_patterns != self.configuration.herald_patterns:
            raise ParameterError(
                "herald_patterns changed during the run; put them back, or begin a new run with them"
            )
        logger.info("the node configuration has changed; the next rounds run with the new one")
        self.configuration = configuration
        self.keep_configuration(self.directory)
        coordinator = node.coordinator
        node = Node(self, configuration, coordinator)
        node.prepare()
        return node

    def ion_loader(self):
        """`load` of the device `ion_loader`, for labs that have one."""
        return self.get_device("ion_loader").load if "ion_loader" in self.get_device_db() else None

    def publish(self, rounds_done: int, state: str) -> None:
        """Public facts for the dashboard."""
        now = self.now()
        progress = self.progress
        progress.append((now, rounds_done))
        while now - progress[0][0] > RATE_S and len(progress) > 2:
            progress.popleft()
        elapsed = now - progress[0][0]
        self.deletion.ask(
            self.facts.publish,
            num_rounds=self.parameters.num_rounds,
            rounds_done=int(rounds_done),
            herald_rate=float((rounds_done - progress[0][1]) / elapsed) if elapsed > 0 else 0.0,
            herald_patterns=np.array(self.coordinator.herald_counts, dtype=np.int64),
            node_state=state,
            ion_state="present" if self.coordinator.ion_present else "absent",
            ion_losses=self.coordinator.ion_losses,
            laser_lock="locked" if self.coordinator.locked else "lost",
            last_update_unix=float(now),
        )
