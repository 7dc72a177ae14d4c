"""Run of both nodes whose rounds go into a private record: key generation and link characterisation."""

import logging
import time
from pathlib import Path

from artiq import __version__ as artiq_version
from artiq.experiment import *

from diqkd_node.run.environment import check_laboratory, clock_of
from diqkd_node.run.public_facts import AUTHENTICATED
from diqkd_node.run.two_node_run import TwoNodeRun
from diqkd_postproc import __version__
from diqkd_postproc.files import make_private_directory
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.records.health_tests import HealthTested
from diqkd_postproc.records.round_spool import RoundSpool
from diqkd_postproc.records.sealed_record import RECORD_NAME, RoundRecord

logger = logging.getLogger(__name__)

SPOOL_NAME = "spool.sqlite"
MIN_SURPLUS_BATCHES = 3  # a batch that ends early discards what is left of its settings


class RecordedRun(TwoNodeRun):
    """Rounds with settings from the random number generator, journalled in a spool, sealed at the end.

    A subclass sets `parameters` in `prepare`.
    """

    provenance_notes = {}  # public facts for the record, besides the usual ones

    def build(self):
        super().build()
        self.setattr_argument(
            "pool_surplus",
            NumberValue(default=0.1, unit="%", scale=0.01, min=0.0, max=1.0, precision=0, step=0.01),
            "Acquisition",
            "Random bits drawn before the start, beyond those that the rounds need: for discarded settings.",
        )

    def run(self):
        check_laboratory(self, self.parameters.protocol)
        self.now = clock_of(self)
        # First of all: a missing device shows before the other node begins to wait for this one.
        node = self.make_node()
        with self.deletion, self.open_spool(self.directory) as spool:
            self.fill_pool(spool)
            connection = self.open_connection()
            try:
                self.acquire(node, spool, connection)
                self.sealed(spool.seal(self.directory / RECORD_NAME))
            finally:
                connection.close()
        logger.info("run complete: %d rounds in %s", self.num_rounds, self.directory / RECORD_NAME)

    def sealed(self, record: RoundRecord) -> None:
        """Called with the record once all rounds are in it."""

    def open_spool(self, directory: Path) -> RoundSpool:
        """The spool of the run directory, new or resumed."""
        make_private_directory(directory)
        self.save_configuration(directory)
        path = directory / SPOOL_NAME
        if path.exists():
            # Another clock than the PC's cannot tell when a file was written.
            self.interrupted_unix = path.stat().st_mtime if self.now is time.time else self.now()
            spool = RoundSpool.open(path, role=self.role, parameters=self.parameters)
            if self.link_key is None and spool.provenance.get("connection") == AUTHENTICATED:
                spool.close()
                raise ParameterError(
                    f"the run in {directory} began with an authenticated connection; give its key store"
                )
            return spool
        provenance = {
            "diqkd": __version__,
            "artiq": artiq_version,
            "rid": int(self.scheduler.rid),
            "revision": str(self.scheduler.expid.get("repo_rev", "unknown")),
            "start_unix": self.now(),
            "node_configuration": self.configuration.to_json(),
            "connection": self.connection_kind,
        } | self.provenance_notes
        return RoundSpool.create(path, self.role, self.parameters, provenance)

    def fill_pool(self, spool: RoundSpool) -> None:
        """Draw the bits of all settings still to come (PROTOCOL section 2).

        Called before the first round, and again between two batches if interruptions have cost so many
        that the pool is short; the ion is then isolated."""
        needed = spool.bits_needed - spool.bits_available
        if needed <= 0:
            return
        batch_bits = int(self.batch_rounds) * self.parameters.random_bits_per_round[self.role]
        surplus = max(self.pool_surplus * spool.bits_needed, MIN_SURPLUS_BATCHES * batch_bits)
        num_bytes = -(-int(needed + surplus) // 8)
        source = HealthTested(self.get_device("qrng"))
        logger.info("reading %d random bytes", num_bytes)
        spool.fill_pool(source.read, num_bytes)
