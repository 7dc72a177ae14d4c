"""Link characterisation: rounds as in a key run, whose outcomes both nodes share. Never a key."""

import json
import logging

import numpy as np
from artiq.experiment import *

from diqkd_node.run import dashboard
from diqkd_node.run.outcome_sharing import SharingCoordinator
from diqkd_node.run.public_facts import CHARACTERISATION_FACTS
from diqkd_node.run.recorded_run import RecordedRun
from diqkd_postproc.link.characterisation import BlockScores, characterisation_parameters
from diqkd_postproc.protocol.roles import other
from diqkd_postproc.records.sealed_record import EXCHANGED, SHARED_OUTCOMES, RoundRecord
from diqkd_postproc.report.characterisation_files import as_dict, write_characterisation

logger = logging.getLogger(__name__)

PEER_RECORD_NAME = "peer_record.h5"


class LinkCharacterisation(RecordedRun, EnvExperiment):
    """Link characterisation

    Plays rounds as a key run does and shares inputs and outcomes after each batch. S, Q and all probabilities
    appear while it runs; figure, table and results are written at its end. Its records make no key."""

    public_facts = CHARACTERISATION_FACTS
    views = (dashboard.RUN_STATUS, dashboard.SCORES)
    default_directory = "~/diqkd/characterisation"
    provenance_notes = SHARED_OUTCOMES

    def build_round_arguments(self):
        self.setattr_argument(
            "num_rounds",
            NumberValue(default=100_000, min=100, max=100_000_000, precision=0, step=10_000, type="int"),
            "Run",
            "Heralded rounds; the published characterisation had 1 920 000.",
        )
        self.setattr_argument(
            "test_probability",
            NumberValue(default=0.5, min=1 / 256, max=255 / 256, precision=4, step=1 / 256),
            "Run",
            "Part of the rounds that are test rounds, rounded to 1/256; the same at both nodes.",
        )

    def prepare(self):
        super().prepare()
        self.num_rounds = int(self.num_rounds)
        self.parameters = characterisation_parameters(self.num_rounds, self.test_probability)
        self.blocks = BlockScores()
        self.peer_chunks = []
        self.record = None

    def make_coordinator(self, **arguments):
        return SharingCoordinator(shared=self.add_shared_rounds, **arguments)

    def add_shared_rounds(self, own, peer) -> None:
        """New rounds of both nodes."""
        self.peer_chunks.append(peer)
        alice, bob = (own, peer) if self.role == "alice" else (peer, own)
        self.blocks.add(self.now(), alice["setting"], bob["setting"], alice["outcome"], bob["outcome"])
        self.deletion.call(self.facts.publish, correlations=self.blocks.rows)

    def sealed(self, record: RoundRecord) -> None:
        """Keep the other node's rounds next to this node's."""
        self.record = record
        columns = {
            name: np.concatenate([chunk[name] for chunk in self.peer_chunks]) for name in self.peer_chunks[0]
        }
        # What both records hold alike has been exchanged already.
        columns |= {name: getattr(record, name) for name in EXCHANGED}
        self.peer_record = RoundRecord(
            role=other(self.role),
            parameters=self.parameters,
            run_id=record.run_id,
            attributes={"provenance": SHARED_OUTCOMES | {"received_by": self.role}},
            **columns,
        )
        path = self.directory / PEER_RECORD_NAME
        if not path.exists():
            self.peer_record.write(path)

    def analyze(self):
        if self.record is None:
            return
        own, peer = self.record, self.peer_record
        alice, bob = (own, peer) if self.role == "alice" else (peer, own)
        result, files = write_characterisation(alice, bob, self.directory, timed=own)
        logger.info("S = %.4f +- %.4f", result.chsh_score.value, result.chsh_score.standard_error)
        logger.info("Q = %s", result.qber_text)
        logger.info("written: %s", ", ".join(files.values()))
        self.result = json.dumps(as_dict(result))
