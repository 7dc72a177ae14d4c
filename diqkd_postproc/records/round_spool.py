"""Crash-safe private journal of one node's acquisition: random settings and tokens in, outcomes out.

One SQLite file holds the pool of QRNG bits and the rounds. Bits leave the pool in `begin_batch`, in one
transaction that marks them spent, zeroes them in the pool and keeps the batch's settings until the batch
ends: no crash can make a bit be used twice. Rounds follow in `store`, contiguous from 0.

A round is *acknowledged* once it is on disk (`rounds_acknowledged`). Commits are bundled, because each one
waits for the disk several times: rounds are committed at `end_batch`, `flush`, `close`, and otherwise when
COMMIT_ROUNDS are waiting or COMMIT_INTERVAL_S has passed since the last commit. A process that is killed
loses at most the rounds not yet acknowledged, and the file opens with a contiguous prefix of rounds.

No post-selection: an index is used once. After a crash the indices of the open batch that may have been used
(`rounds_begun`) are recorded as lost by `record_used`, and `end_batch` discards what else was drawn, never to
be used again. The other node's columns follow after each batch (`store_peer`).

One process at a time: the spool is locked while it is open. Not for concurrent threads.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.protocol.errors import ParameterError, StorageError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import ROLES
from diqkd_postproc.records import random_pool, round_table
from diqkd_postproc.records.batch import Batch, Draws
from diqkd_postproc.records.columns import (
    IS_BIT,
    IS_BIT_OR_NONE,
    OWN,
    PEER,
    Columns,
    checked_column,
)
from diqkd_postproc.records.private_database import (
    create_database,
    open_database,
    storage_errors,
    transaction,
)
from diqkd_postproc.records.sealed_record import RoundRecord, check_run_id, columns_of_record

SCHEMA_VERSION = 2
APPLICATION_ID = 0x44495250  # "DIRP"
COMMIT_ROUNDS = 8192
COMMIT_INTERVAL_S = 1.0
LOCK_TIMEOUT_S = 1.0
MAX_REASON = 200
EXCHANGED_WITH_PEER = ("sent", "received", "end_token", "lost", "herald_pattern")
"""What each node sends the other of its rounds after a batch; the pattern is a statistic, and not kept."""

_SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE batch (
    only INTEGER PRIMARY KEY CHECK (only = 0), first_round INTEGER NOT NULL, num_rounds INTEGER NOT NULL,
    settings BLOB NOT NULL, tokens BLOB NOT NULL);
{round_table.SCHEMA};
{random_pool.SCHEMA}
"""


def checked_reason(reason: str) -> str:
    """`reason` as plain text; ParameterError unless it is short printable ASCII.

    What SQLite cannot store, such as a lone surrogate, must not wait among the rounds: no later commit would
    succeed.
    """
    if len(reason) > MAX_REASON or not reason.isascii() or not reason.isprintable():
        raise ParameterError(f"a reason in a record has at most {MAX_REASON} printable ASCII characters")
    return str(reason)


class RoundSpool:
    """One node's spool; open it with `create` or `open`, close it with `close` or a `with` block."""

    parameters_class: type[ProtocolParameters] = ProtocolParameters

    def __init__(self, path: Path | str) -> None:
        """Open an existing spool and check it; same as `open` without comparisons."""
        self.path = Path(path)
        self._connection = open_database(self.path, APPLICATION_ID, exclusive=True, timeout_s=LOCK_TIMEOUT_S)
        self._waiting: list[Columns] = []
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
                f"{self.path} has schema {meta.get('schema_version')}, this program reads {SCHEMA_VERSION}: "
                "finish that run with the version of diqkd that began it, or begin a new run directory"
            )
        self.role: str = meta["role"]
        self.parameters = self.parameters_class.from_toml(meta["parameters"])
        self.provenance: dict[str, Any] = json.loads(meta["provenance"])
        self._run_id = meta.get("run_id")
        self.label_mismatches = int(meta.get("label_mismatches", 0))
        self._table = round_table.RoundTable(self._connection, self.path)
        acknowledged = self._table.num_rounds()
        self._acknowledged = self._done = acknowledged
        self._pool = random_pool.RandomPool(self._connection, self.path)
        self._peer_done = self._table.num_rounds("peer_rounds")
        if self._peer_done > acknowledged:
            raise StorageError(f"{self.path} is damaged: it has columns of rounds that it does not have")
        row = self._connection.execute(
            "SELECT first_round, num_rounds, settings, tokens FROM batch"
        ).fetchone()
        self._batch: Batch | None = None
        self._begun = acknowledged
        if row is not None:
            first, count, *blobs = row
            if any(len(blob) != count for blob in blobs) or not first <= acknowledged <= first + count:
                raise StorageError(f"{self.path} is damaged: its batch does not fit its rounds")
            self._begun = int(meta.get("begun", first + count))
            # A previous process may have used these draws: the rounds can only be completed as lost.
            draws = Draws(*(np.frombuffer(blob, dtype=np.uint8) for blob in blobs))
            self._batch = Batch(self.role, self.parameters.protocol, first, draws, interrupted=True)

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
        """Open a spool to resume or seal it; what is given has to match, else StorageError."""
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
        """Set the run id that the nodes agreed upon; StorageError if the spool has another one."""
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
        """Rounds accepted so far; the index of the next one."""
        return self._done

    @property
    def rounds_acknowledged(self) -> int:
        """Rounds that are on disk and survive any crash."""
        return self._acknowledged

    @property
    def rounds_begun(self) -> int:
        """Index after the last round that may have begun: no setting of a later one was ever applied."""
        return self._done if self._batch is None else max(self._done, self._begun)

    @property
    def peer_rounds_done(self) -> int:
        """Rounds of which the other node's columns are here; the index of the next one."""
        return self._peer_done

    @property
    def bits_available(self) -> int:
        """Unspent random bits in the pool."""
        return self._pool.bits_available

    @property
    def bits_needed(self) -> int:
        """Random bits that the rounds which still have no settings need."""
        reserved = self._done if self._batch is None else self._batch.end
        return (self.parameters.num_rounds - reserved) * self.parameters.random_bits_per_round[self.role]

    def fill_pool(self, read_bytes: Callable[[int], bytes], num_bytes: int) -> None:
        """Append `num_bytes` random bytes of a source to the pool, 1 MiB a transaction."""
        self._pool.fill(read_bytes, num_bytes)

    def begin_batch(self, num_rounds: int) -> Draws:
        """Draw settings and tokens of the next `num_rounds` rounds.

        Before this returns, the bits are spent and zeroed on disk. Raises StorageError when the pool is too
        short or a batch is still open, ParameterError for more rounds than the run has left.
        """
        if self._run_id is None:
            raise StorageError(
                f"{self.path} has no run id yet; agree upon one with the peer, then adopt_run_id"
            )
        if self._batch is not None:
            raise StorageError(
                f"{self.path}: a batch is open; complete it (`record_used`) and call `end_batch`"
            )
        if not 1 <= num_rounds <= self.parameters.num_rounds - self._done:
            raise ParameterError(
                f"a batch of {num_rounds} rounds was asked for, the run has "
                f"{self.parameters.num_rounds - self._done} of {self.parameters.num_rounds} left"
            )
        num_bits = num_rounds * self.parameters.random_bits_per_round[self.role]
        if num_bits > self.bits_available:
            raise StorageError(
                f"the pool of random bits is too short: this batch needs {num_bits} bits, "
                f"{self.bits_available} are left; fill it with at least {(self.bits_needed + 7) // 8} bytes"
            )
        with transaction(self._connection, self.path) as connection:
            draws = Draws.from_bits(self.role, self.parameters, self._pool.consume(num_bits))
            connection.execute(
                "INSERT INTO batch VALUES (0, ?, ?, ?, ?)",
                (self._done, num_rounds, draws.settings.tobytes(), draws.tokens.tobytes()),
            )
        self._batch = Batch(self.role, self.parameters.protocol, self._done, draws)
        self._begun = self._batch.end
        self._last_commit = time.monotonic()
        return draws

    def store(
        self,
        first_round: int,
        *,
        outcome: npt.ArrayLike,
        received: npt.ArrayLike,
        received_setting: npt.ArrayLike,
        received_end: npt.ArrayLike,
        herald_pattern: npt.ArrayLike,
        timestamp_mu: npt.ArrayLike,
        edge_mu: npt.ArrayLike,
        lost: npt.ArrayLike,
        reasons: Sequence[str] = (),
    ) -> None:
        """Record the rounds that follow, within the open batch: arrays of one length, one entry a round.

        The columns are those of `Batch.columns`; reasons: public, one for each lost round, in order.
        If the disk is full, StorageError is raised and the rounds stay waiting: `flush` again when there is
        space. Any other error leaves the spool as it was.
        """
        batch = self._open_batch()
        if batch.interrupted:
            raise StorageError(
                f"{self.path}: the batch was interrupted; its rounds can only be completed with "
                "`record_used`, then call `end_batch`"
            )
        if first_round != self._done:
            raise StorageError(f"rounds from {first_round} on were given, the next one is {self._done}")
        columns = batch.columns(
            first_round,
            outcome=outcome,
            received=received,
            received_setting=received_setting,
            received_end=received_end,
            herald_pattern=herald_pattern,
            timestamp_mu=timestamp_mu,
            edge_mu=edge_mu,
            lost=lost,
        )
        lost_at = np.flatnonzero(columns["lost"])
        if len(reasons) != lost_at.size:
            raise ParameterError(f"{lost_at.size} rounds are lost and {len(reasons)} reasons were given")
        losses = [
            (first_round + int(index), 1, checked_reason(reason))
            for index, reason in zip(lost_at, reasons, strict=True)
        ]
        self._append(columns)
        self._losses_waiting += losses
        waited = time.monotonic() - self._last_commit
        if self._done - self._acknowledged >= COMMIT_ROUNDS or waited >= COMMIT_INTERVAL_S:
            self.flush()

    def record_used(self, end: int, reason: str) -> None:
        """Record the rounds up to `end` as used up and lost, on disk before this returns. reason: public.

        For indices whose settings may have been applied, or whose partners were used at the other node.
        """
        batch = self._open_batch()
        reason = checked_reason(reason)
        count = end - self._done
        if count < 0 or end > batch.end:
            raise StorageError(
                f"rounds {self._done} to {end - 1} cannot be recorded as lost: this node has drawn settings "
                f"up to round {batch.end - 1}. Use the run directory itself, not an older copy, or begin a "
                "new run"
            )
        if count:
            first_round = self._done
            self._append(batch.lost_columns(first_round, count))
            self._losses_waiting.append((first_round, count, reason))
        self.flush()

    def _open_batch(self) -> Batch:
        if self._batch is None:
            raise StorageError(f"{self.path}: no batch is open; call begin_batch first")
        return self._batch

    def _append(self, columns: Columns) -> None:
        self._waiting.append(columns)
        self._done += columns["outcome"].size

    def note_begun(self, end: int) -> None:
        """Commit, and note that this node's hardware began no round from `end` on and will begin none.

        Without this note every setting of the open batch counts as applied: whoever dies cannot tell.
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

    def flush(self) -> None:
        """Commit all accepted rounds; they are acknowledged when this returns."""
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
        """Commit the batch's rounds and discard its unused settings for good; idempotent."""
        if self._batch is None:
            return
        with transaction(self._connection, self.path) as connection:
            self._insert_waiting()
            connection.execute("DELETE FROM batch")
            connection.execute("DELETE FROM meta WHERE name = 'begun'")
        self._committed()
        self._batch = None

    def add_gap(self, reason: str, start_unix: float, end_unix: float) -> None:
        """Record a pause before the next round: public reason, begin and end in seconds since 1970 (UTC)."""
        with transaction(self._connection, self.path):
            self._table.insert_gap(self._done, checked_reason(reason), start_unix, end_unix)

    @property
    def num_late_losses(self) -> int:
        """Rounds without an outcome of Alice's, as far as this node knows them."""
        name = "lost" if self.role == "alice" else "late_loss"
        self.flush()
        return int(np.count_nonzero(self._table.columns((name,))[name]))

    def own_columns(self, first_round: int) -> Columns:
        """What the other node gets of the rounds from `first_round` on: sent, received and lost."""
        self.flush()
        return self._table.columns(EXCHANGED_WITH_PEER, first_round)

    def store_peer(self, first_round: int, peer: Columns) -> None:
        """Add the other node's `own_columns` from `first_round` on, on disk before this returns."""
        count = peer["sent"].size
        if first_round != self._peer_done or first_round + count > self._done:
            raise StorageError(
                f"columns of rounds {first_round} to {first_round + count - 1} came, those from "
                f"{self._peer_done} to {self._done - 1} were due"
            )
        self.flush()
        if not count:
            return
        own = self._table.columns(("lost", "herald_pattern"), first_round)
        patterns, peers = own["herald_pattern"][:count], peer["herald_pattern"]
        mismatches = self.label_mismatches + int(
            np.count_nonzero((patterns != peers) & (patterns > 0) & (peers > 0))
        )
        columns: Columns = {
            "peer_sent": checked_column("sent", peer["sent"], IS_BIT),
            "peer_received": checked_column("received", peer["received"], IS_BIT_OR_NONE),
            "peer_end_token": checked_column("end_token", peer["end_token"], IS_BIT_OR_NONE),
            "late_loss": own["lost"][:count]
            if self.role == "alice"
            else checked_column("lost", peer["lost"], IS_BIT),
        }
        with transaction(self._connection, self.path):
            self._table.insert_peer(first_round, columns)
            self._connection.execute(
                "INSERT OR REPLACE INTO meta VALUES ('label_mismatches', ?)", (str(mismatches),)
            )
        self._peer_done += count
        self.label_mismatches = mismatches

    def shared_rounds(self, first_round: int) -> Columns:
        """All columns of the rounds from `first_round` on, for a characterisation, whose outcomes the nodes
        share; ParameterError if the run is to make a key."""
        if self.parameters.key_bits > 0:
            raise ParameterError(
                f"this run is to make a key of {self.parameters.key_bits:,} bits: its outcomes are not shared"
            )
        self.flush()
        return self._table.columns(tuple(OWN), first_round)

    def seal(self, record_path: Path | str) -> RoundRecord:
        """Write the finished run to a sealed HDF5 record, read it back, and return what was read.

        Sealing again is harmless. Raises StorageError if rounds are missing, or if `record_path` holds
        something else.
        """
        self.flush()
        done = min(self._done, self._peer_done)
        if self._run_id is None or done != self.parameters.num_rounds:
            raise StorageError(
                f"the run has {done} of {self.parameters.num_rounds} rounds of both nodes; "
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
                "label_mismatches": self.label_mismatches,
            },
            **columns_of_record(
                self.role, self._table.columns(tuple(OWN)) | self._table.columns(tuple(PEER))
            ),
        )
        if not Path(record_path).exists():
            record.write(record_path)
        written = RoundRecord.read(record_path)
        if not written.same_as(record):
            raise StorageError(f"{record_path} holds other rounds than this spool; it is not overwritten")
        return written

    def close(self) -> None:
        """Commit what is waiting and release the file; an open batch stays pending."""
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
