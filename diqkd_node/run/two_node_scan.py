"""Scan of the link by both nodes: rounds as in a key run, with analysis pulses from a public schedule.

Tomography and the herald-pattern phases differ in a table of pulses and in the analysis. The kernel, the
isolation, the coordination and the journal are those of a key run; the round-type line says "test" in every
round. Outcomes are shared after each batch. A scan that was interrupted goes on in the same run directory.
"""

import json
import logging
import time
from typing import Any

import numpy as np
from artiq import __version__ as artiq_version
from artiq.experiment import *

from diqkd_node.configuration import NodeConfiguration
from diqkd_node.run.environment import clock_of
from diqkd_node.run.outcome_sharing import SharingCoordinator
from diqkd_node.run.two_node_run import TwoNodeRun
from diqkd_node.sequence.pulse_table import AnalysisPulse, PulseTable
from diqkd_postproc import __version__
from diqkd_postproc.protocol.roles import BRIGHT_OUTCOME
from diqkd_postproc.records.scan_spool import ScanParameters, ScanSpool

logger = logging.getLogger(__name__)

SPOOL_NAME = "scan.sqlite"


class TwoNodeScan(TwoNodeRun):
    """Base of the scans. A subclass gives `scan`, `pairs`, `pulses` and `write_results`."""

    scan = ""
    default_rounds = 20_000

    def build_round_arguments(self):
        self.setattr_argument(
            "num_rounds",
            NumberValue(
                default=self.default_rounds, min=2, max=100_000_000, precision=0, step=1000, type="int"
            ),
            "Run",
            "Heralded rounds; the same at both nodes.",
        )

    def pairs(self) -> list[tuple[int, int]]:
        """Setting pairs of one cycle: indices into the pulses of Alice and of Bob."""
        raise NotImplementedError

    def pulses(self, configuration: NodeConfiguration) -> list[AnalysisPulse]:
        """Analysis pulses of this node."""
        raise NotImplementedError

    def conclude(self, rounds: dict[str, Any]) -> None:
        """What has to be done before the next experiment begins, which does not wait for `analyze`."""

    def write_results(self, rounds: dict[str, Any]) -> None:
        """Analyse all rounds: `pair` (n, 2), `alice_bright`, `bob_bright`, `herald_pattern`, lost ones left
        out."""
        raise NotImplementedError

    def prepare(self):
        super().prepare()
        self.num_rounds = int(self.num_rounds)
        self.parameters = ScanParameters.make(self.scan, self.pairs(), self.num_rounds)
        self.chunks = []
        self.run_id = ""

    def pulse_table(self) -> PulseTable:
        """The pulses of the scan."""
        return PulseTable.of_scan(self.pulses(self.configuration))

    def configuration_document(self) -> str:
        """With the pulses of the scan as `scan_pulses`, which no node configuration has."""
        pulses = {"scan_pulses": self.pulses(self.configuration)}
        return json.dumps(json.loads(super().configuration_document()) | pulses, indent=2) + "\n"

    def make_coordinator(self, **arguments):
        return SharingCoordinator(shared=self.add_shared_rounds, **arguments)

    def add_shared_rounds(self, own, peer) -> None:
        """New rounds of both nodes."""
        alice, bob = (own, peer) if self.role == "alice" else (peer, own)
        known = (alice["lost"] == 0) & (bob["lost"] == 0)
        self.chunks.append(
            {
                "pair": np.stack([alice["setting"], bob["setting"]], axis=1)[known],
                "alice_bright": alice["outcome"][known] == BRIGHT_OUTCOME["alice"],
                "bob_bright": bob["outcome"][known] == BRIGHT_OUTCOME["bob"],
                "herald_pattern": bob["herald_pattern"][known],
            }
        )

    def run(self):
        self.now = clock_of(self)
        self.start_unix = self.now()
        node = self.make_node()
        with self.deletion, self.open_spool() as spool:
            connection = self.open_connection()
            try:
                self.acquire(node, spool, connection)
            finally:
                connection.close()
            self.run_id = spool.run_id
        logger.info("scan complete: %d rounds", self.num_rounds)
        self.rounds = {name: np.concatenate([c[name] for c in self.chunks]) for name in self.chunks[0]}
        self.conclude(self.rounds)

    def open_spool(self) -> ScanSpool:
        """The scan's journal, new or resumed."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.save_configuration(self.directory)
        path = self.directory / SPOOL_NAME
        if path.exists():
            self.interrupted_unix = path.stat().st_mtime if self.now is time.time else self.now()
            return ScanSpool.open(path, role=self.role, parameters=self.parameters)
        return ScanSpool.create(path, self.role, self.parameters, self.provenance())

    def provenance(self) -> dict[str, Any]:
        """Where results come from; public."""
        return {
            "diqkd": __version__,
            "artiq": artiq_version,
            "rid": int(self.scheduler.rid),
            "revision": str(self.scheduler.expid.get("repo_rev", "unknown")),
            "role": self.role,
            "run_id": self.run_id,
            "start_unix": self.start_unix,
            "connection": self.connection_kind,
        }

    def analyze(self):
        if self.run_id:
            self.write_results(self.rounds)
