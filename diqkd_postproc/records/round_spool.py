"""The crash-safe private journal of one node's acquisition: random settings in, outcomes out.

One SQLite file holds the pool of QRNG bits and the rounds. Bits leave the pool in `begin_batch`, in one
transaction that marks them spent, zeroes them in the pool and keeps the batch's settings until the batch
ends: no crash can make a bit be used twice. Rounds follow in `store`, contiguous from 0.

A round is *acknowledged* once it is on disk (`rounds_acknowledged`). Commits are bundled, because each one
waits for the disk several times: rounds are committed at `end_batch`, `flush`, `close`, and otherwise when
COMMIT_ROUNDS are waiting or COMMIT_INTERVAL_S has passed since the last commit. A process that is killed
loses at most the rounds not yet acknowledged, and the file opens with a contiguous prefix of rounds.

No post-selection: a herald is a round. After a crash `pending_batch` still has the settings of the rounds
that were not acknowledged; `record_lost` completes those that were heralded with outcome 0, and `end_batch`
discards the other settings, never to be used again.

One process at a time: the spool is locked while it is open. Not for concurrent threads.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.protocol.errors import ParameterError, StorageError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import ROLES, is_test_round
from diqkd_postproc.records import random_pool, round_table
from diqkd_postproc.records.batch import Batch, PendingBatch, UInt8, settings_from_bits
from diqkd_postproc.records.private_database import (
    create_database,
    open_database,
    storage_errors,
    transaction,
)
from diqkd_postproc.records.sealed_record import (
    DTYPES,
    LOST_TIMESTAMP,
    RoundRecord,
    check_run_id,
)
from diqkd_postproc.records.voided_rounds import num_voided

SCHEMA_VERSION = 1
APPLICATION_ID = 0x44495250  # "DIRP"
COMMIT_ROUNDS = 8192
COMMIT_INTERVAL_S = 1.0
LOCK_TIMEOUT_S = 1.0

_SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE batch (
    only INTEGER PRIMARY KEY CHECK (only = 0), first_round INTEGER NOT NULL, num_rounds INTEGER NOT NULL,
    settings BLOB NOT NULL);
{round_table.SCHEMA};
{random_pool.SCHEMA}
"""


class RoundSpool:
    """One node's spool; open it with `create` or `open`, close it with `close` or a `with` block."""

    parameters_class: type[ProtocolParameters] = ProtocolParameters

    def __init__(self, path: Path | str) -> None:
        """Open an existing spool and check it; same as `open` without comparisons."""
        self.path = Path(path)
        self._connection = open_database(self.path, APPLICATION_ID, exclusive=True, timeout_s=LOCK_TIMEOUT_S)
        self._waiting: list[dict[str, npt.NDArray[Any]]] = []
        self._losses_waiting: list[tuple[int, int, str]] = []
        self._last_commit = time.monotonic()
        try:
            with storage_errors(self.path):
                self._load()
        except BaseException:
            self._connection.close()
            raise

    def _load(self) -> None:
        meta = dict(self._connection.execute("SELECT name, value FROM meta"))
        if meta.get("schema_version") != str(SCHEMA_VERSION):
            raise StorageError(
                f"{self.path} has schema {meta.get('schema_version')}, this program reads {SCHEMA_VERSION}"
            )
        self.role: str = meta["role"]
        self.parameters = self.parameters_class.from_toml(meta["parameters"])
        self.provenance: dict[str, Any] = json.loads(meta["provenance"])
        self._run_id = meta.get("run_id")
        self._table = round_table.RoundTable(self._connection, self.path)
        acknowledged = self._table.num_rounds()
        self._acknowledged = self._done = acknowledged
        self._pool = random_pool.RandomPool(self._connection, self.path)
        row = self._connection.execute("SELECT first_round, num_rounds, settings FROM batch").fetchone()
        self._batch: Batch | None = None
        self._begun = acknowledged
        if row is not None:
            first, count, settings = row
            if len(settings) != count or not first <= acknowledged <= first + count:
                raise StorageError(f"{self.path} is damaged: its batch does not fit its rounds")
            self._begun = int(meta.get("begun", first + count))
            # A previous process may have applied these settings: rounds can only be completed as lost.
            self._batch = Batch(self.role, first, np.frombuffer(settings, dtype=np.uint8), interrupted=True)

    @classmethod
    def create(
        cls,
        path: Path | str,
        role: str,
        parameters: ProtocolParameters,
        provenance: Mapping[str, Any],
        run_id: str | None = None,
    ) -> RoundSpool:
        """Create a spool (mode 0600, its directory 0700); an existing file is never overwritten.

        provenance: public facts of the run (versions, RID, configuration), JSON-compatible.
        run_id: 32 hexadecimal digits that both nodes agreed upon; it may follow later by `adopt_run_id`.
        """
        if role not in ROLES:
            raise ParameterError(f"role {role!r} is not one of {', '.join(ROLES)}")
        meta = {
            "schema_version": str(SCHEMA_VERSION),
            "role": role,
            "parameters": parameters.to_toml(),
            "provenance": json.dumps(dict(provenance), sort_keys=True),
        }
        if run_id is not None:
            meta["run_id"] = check_run_id(run_id)
        create_database(path, _SCHEMA, APPLICATION_ID, {"INSERT INTO meta VALUES (?, ?)": meta.items()})
        return cls(path)

    @classmethod
    def open(
        cls,
        path: Path | str,
        role: str | None = None,
        parameters: ProtocolParameters | None = None,
        run_id: str | None = None,
    ) -> RoundSpool:
        """Open a spool to resume or seal it.

        What is given of role, parameters and run id has to match the spool. Raises StorageError where it does
        not, and where the file is missing, unsafe or damaged.
        """
        spool = cls(path)
        try:
            if role is not None and spool.role != role:
                raise StorageError(f"{path} belongs to {spool.role}, not to {role}")
            if parameters is not None and spool.parameters.digest != parameters.digest:
                raise StorageError(
                    f"{path} was recorded with parameters {spool.parameters.digest[:16]}, this run has "
                    f"{parameters.digest[:16]}; resume with the old parameters or begin a new spool"
                )
            if run_id is not None:
                spool.adopt_run_id(run_id)
        except BaseException:
            spool.close()
            raise
        return spool

    @property
    def run_id(self) -> str | None:
        """Public name of the run, equal at both nodes; None until it has been agreed upon."""
        return self._run_id

    def adopt_run_id(self, run_id: str) -> None:
        """Set the run id that the nodes agreed upon, 32 lower-case hexadecimal digits.

        The same id again is accepted, so that a restarted node may repeat the agreement. Raises StorageError
        if the spool has another one.
        """
        check_run_id(run_id)
        if self._run_id == run_id:
            return
        if self._run_id is not None:
            raise StorageError(f"{self.path} belongs to run {self._run_id}, not to run {run_id}")
        with transaction(self._connection, self.path) as connection:
            connection.execute("INSERT INTO meta VALUES ('run_id', ?)", (run_id,))
        self._run_id = run_id

    @property
    def rounds_done(self) -> int:
        """Rounds accepted so far, which is the index of the next one.

        The last of them may not be on disk yet, see `rounds_acknowledged`.
        """
        return self._done

    @property
    def rounds_acknowledged(self) -> int:
        """Rounds that are on disk and survive any crash."""
        return self._acknowledged

    @property
    def rounds_begun(self) -> int:
        """Index after the last round that may have begun.

        No setting of a later round was ever applied, so that those settings can be discarded; every earlier
        round counts, whether or not it has an outcome.
        """
        return self._done if self._batch is None else max(self._done, self._begun)

    @property
    def batch_start(self) -> int:
        """First round of the open batch; the index of the next round if none is open."""
        return self._done if self._batch is None else self._batch.first_round

    @property
    def bits_available(self) -> int:
        """Unspent random bits in the pool."""
        return self._pool.bits_available

    @property
    def bits_needed(self) -> int:
        """Random bits for the rounds that still have no settings.

        One bit a round for Alice, test_bits + 1 for Bob.
        """
        reserved = self._done if self._batch is None else self._batch.end
        return (self.parameters.num_rounds - reserved) * self.parameters.setting_bits_per_round[self.role]

    @property
    def pending_batch(self) -> PendingBatch | None:
        """The batch that has begun and not ended, None if there is none.

        Its settings are those of the rounds still to come. They are secret until the rounds are played.
        """
        if self._batch is None:
            return None
        return PendingBatch(first_round=self._done, settings=self._batch.settings_from(self._done))

    def fill_pool(self, read_bytes: Callable[[int], bytes], num_bytes: int) -> None:
        """Append `num_bytes` random bytes of a source to the pool, 1 MiB a transaction.

        read_bytes: returns at most as many bytes as it is given, from the random number generator. Raises
        StorageError where it returns none, or too many.
        """
        self._pool.fill(read_bytes, num_bytes)

    def begin_batch(self, num_rounds: int) -> UInt8:
        """Draw the settings of the next `num_rounds` rounds: (num_rounds,) uint8, x for Alice, y for Bob.

        Before this returns, the bits are spent and zeroed on disk. Raises StorageError when the pool is too
        short or a batch is still open, ParameterError for more rounds than the run has left.
        """
        if self._run_id is None:
            raise StorageError(
                f"{self.path} has no run id yet; agree upon one with the peer, then adopt_run_id"
            )
        if self._batch is not None:
            raise StorageError(f"{self.path}: a batch is open; complete it (record_lost) and call end_batch")
        if not 1 <= num_rounds <= self.parameters.num_rounds - self._done:
            raise ParameterError(
                f"a batch of {num_rounds} rounds was requested, the run has "
                f"{self.parameters.num_rounds - self._done} of {self.parameters.num_rounds} left"
            )
        num_bits = num_rounds * self.parameters.setting_bits_per_round[self.role]
        if num_bits > self.bits_available:
            raise StorageError(
                f"the pool of random bits is too short: this batch needs {num_bits} bits, "
                f"{self.bits_available} are left; fill it with at least {(self.bits_needed + 7) // 8} bytes"
            )
        with transaction(self._connection, self.path) as connection:
            settings = settings_from_bits(self.role, self.parameters, self._pool.consume(num_bits))
            connection.execute(
                "INSERT INTO batch VALUES (0, ?, ?, ?)", (self._done, num_rounds, settings.tobytes())
            )
        self._batch = Batch(self.role, self._done, settings)
        self._begun = self._batch.end
        self._last_commit = time.monotonic()
        return settings.copy()

    def store(
        self,
        first_round: int,
        outcome: npt.ArrayLike,
        round_type: npt.ArrayLike,
        herald_pattern: npt.ArrayLike,
        timestamp_mu: npt.ArrayLike,
    ) -> None:
        """Record the rounds that follow, within the open batch: arrays of one length, one entry a round.

        If the disk is full, StorageError is raised and the rounds stay waiting: `flush` again when there is
        space. Any other error leaves the spool as it was.
        """
        if self._batch is not None and self._batch.interrupted:
            raise StorageError(
                f"{self.path}: the batch was interrupted; its heralded rounds can only be completed with "
                "record_lost, then call end_batch"
            )
        outcomes = round_table.checked_column("outcome", outcome, round_table.IS_BIT)
        patterns = round_table.checked_column("herald_pattern", herald_pattern, round_table.IS_PATTERN)
        timestamps = np.asarray(timestamp_mu).astype(np.int64)
        self._append(first_round, outcomes, round_type, patterns, timestamps, lost=0)
        waited = time.monotonic() - self._last_commit
        if self._done - self._acknowledged >= COMMIT_ROUNDS or waited >= COMMIT_INTERVAL_S:
            self.flush()

    def record_lost(
        self,
        count: int,
        round_type: npt.ArrayLike | None = None,
        herald_pattern: npt.ArrayLike = 0,
        reason: str = "unknown",
    ) -> None:
        """Record the next `count` rounds of the open batch as lost: outcome 0, on disk before this returns.

        round_type: (count,) or one value; Bob may leave it out, since it follows from his settings.
        herald_pattern: (count,) or one value, 0 where unknown. reason: public.
        """
        if count < 1:
            raise ParameterError(f"count={count} of lost rounds is not positive")
        if round_type is None:
            if self.role != "bob" or self._batch is None:
                raise ParameterError("round_type of lost rounds is needed: request it from the peer")
            round_type = is_test_round(self._batch.settings_from(self._done)[:count]).astype(np.uint8)
        types = np.broadcast_to(np.asarray(round_type), (count,))
        patterns = round_table.checked_column(
            "herald_pattern", np.broadcast_to(herald_pattern, (count,)), round_table.IS_PATTERN_OR_UNKNOWN
        )
        first_round = self._done
        timestamps = np.full(count, LOST_TIMESTAMP, dtype=np.int64)
        self._append(first_round, np.zeros(count, dtype=np.uint8), types, patterns, timestamps, lost=1)
        self._losses_waiting.append((first_round, count, reason))
        self.flush()

    def note_begun(self, end: int) -> None:
        """Commit, and note that this node's hardware began no round from `end` on and will begin none.

        Without this note every setting of the open batch counts as applied, because a process that dies
        records nothing more.
        """
        if self._batch is None:
            return
        if not self._done <= end <= self._batch.end:
            raise StorageError(f"{self._done} rounds are done of {self._batch.end}, none ends at {end}")
        with transaction(self._connection, self.path) as connection:
            self._insert_waiting()
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('begun', ?)", (str(end),))
        self._committed()
        self._begun = end

    def replace_by_lost(
        self, first_round: int, round_type: npt.ArrayLike, herald_pattern: npt.ArrayLike, reason: str
    ) -> None:
        """Record the open batch's rounds from `first_round` on as lost, whatever was recorded of them.

        For rounds whose outcomes cannot be distinguished any more. Their number stays; round_type and
        herald_pattern are (k,) for all of them. On disk, in one transaction, before this returns.
        """
        types, patterns = np.asarray(round_type), np.asarray(herald_pattern)
        if self._batch is None or not self._batch.first_round <= first_round <= self._done:
            raise StorageError(f"{self.path}: round {first_round} does not belong to an open batch")
        if types.shape != (self._done - first_round,):
            raise ParameterError(f"{types.size} round types, {self._done - first_round} rounds are replaced")
        if not types.size:
            return
        self.flush()
        count = int(types.size)
        outcome, timestamps = np.zeros(count, np.uint8), np.full(count, LOST_TIMESTAMP, np.int64)
        patterns = round_table.checked_column("herald_pattern", patterns, round_table.IS_PATTERN_OR_UNKNOWN)
        chunk = self._batch.chunk(first_round, outcome, types, patterns, timestamps, 1)
        with transaction(self._connection, self.path):
            self._table.take_back(first_round)
            self._table.insert(first_round, [chunk])
            self._table.insert_loss(first_round, count, reason)

    def _append(
        self,
        first_round: int,
        outcome: UInt8,
        round_type: npt.ArrayLike,
        herald_pattern: UInt8,
        timestamp_mu: npt.NDArray[np.int64],
        lost: int,
    ) -> None:
        if first_round != self._done:
            raise StorageError(f"rounds from {first_round} on were given, the next one is {self._done}")
        if self._batch is None:
            raise StorageError(f"{self.path}: no batch is open; call begin_batch first")
        self._waiting.append(
            self._batch.chunk(first_round, outcome, round_type, herald_pattern, timestamp_mu, lost)
        )
        self._done += outcome.size

    def flush(self) -> None:
        """Commit all accepted rounds, which are then acknowledged and survive any crash.

        To be called before anything that the peer has sent about these rounds is read. Raises StorageError.
        """
        if self._done != self._acknowledged:
            with transaction(self._connection, self.path):
                self._insert_waiting()
            self._committed()

    def _insert_waiting(self) -> None:
        if self._table.end() == self._done:
            # An interrupt came between an earlier commit and its bookkeeping.
            return
        self._table.insert(self._acknowledged, self._waiting)
        for loss in self._losses_waiting:
            self._table.insert_loss(*loss)

    def _committed(self) -> None:
        self._acknowledged = self._done
        self._waiting.clear()
        self._losses_waiting.clear()
        self._last_commit = time.monotonic()

    def end_batch(self) -> None:
        """Commit the batch's rounds and discard its unused settings for good.

        Without an open batch nothing happens. Raises StorageError.
        """
        if self._batch is None:
            return
        with transaction(self._connection, self.path) as connection:
            self._insert_waiting()
            connection.execute("DELETE FROM batch")
            connection.execute("DELETE FROM meta WHERE name = 'begun'")
        self._committed()
        self._batch = None

    def add_gap(self, reason: str, start_unix: float, end_unix: float) -> None:
        """Record a pause before the next round.

        reason: public. start_unix, end_unix: seconds since 1970 (UTC). Raises StorageError.
        """
        with transaction(self._connection, self.path):
            self._table.insert_gap(self._done, reason, start_unix, end_unix)

    @property
    def num_voided(self) -> int:
        """Rounds that were voided after their types were public, in all starts of the run."""
        return num_voided(self._table.losses())

    def public_rounds(self, first_round: int) -> tuple[UInt8, UInt8]:
        """Round types and herald patterns from `first_round` on: two (k,) uint8, which the peer may know.

        Flushes first, so that the peer never learns of a round that a crash could undo here.
        """
        self.flush()
        columns = self._table.columns(("round_type", "herald_pattern"), first_round)
        return columns["round_type"], columns["herald_pattern"]

    def shared_rounds(self, first_round: int) -> dict[str, npt.NDArray[Any]]:
        """All columns of the rounds from `first_round` on, for a characterisation, whose outcomes the nodes
        share; ParameterError if the run is to make a key."""
        if self.parameters.key_bits > 0:
            raise ParameterError(
                f"this run is to make a key of {self.parameters.key_bits:,} bits: its outcomes are not shared"
            )
        self.flush()
        return self._table.columns(tuple(DTYPES), first_round)

    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        return self._table.columns(tuple(DTYPES))

    def seal(self, record_path: Path | str) -> RoundRecord:
        """Write the finished run to a sealed HDF5 record, read it back, and return what was read.

        Sealing again is harmless. Raises StorageError if rounds are missing, or if `record_path` holds
        something else.
        """
        self.flush()
        if self._run_id is None or self._done != self.parameters.num_rounds:
            raise StorageError(
                f"the run has {self._done} of {self.parameters.num_rounds} rounds; "
                "only a finished run is sealed"
            )
        record = RoundRecord(
            role=self.role,
            parameters=self.parameters,
            run_id=self._run_id,
            attributes={
                "provenance": self.provenance,
                "gaps": self._table.gaps(),
                "losses": self._table.losses(),
            },
            **self._columns(),
        )
        if not Path(record_path).exists():
            record.write(record_path)
        written = RoundRecord.read(record_path)
        if not written.same_as(record):
            raise StorageError(f"{record_path} holds other rounds than this spool; it is not overwritten")
        return written

    def close(self) -> None:
        """Commit what is waiting and close the file.

        An open batch stays pending and is found by the next `open`. Raises StorageError where the commit
        fails; the file is closed all the same.
        """
        try:
            self.flush()
        finally:
            self._connection.close()

    def __enter__(self) -> RoundSpool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RoundSpool({str(self.path)!r}, role={self.role!r}, rounds_done={self._done})"
