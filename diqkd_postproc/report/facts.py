"""Facts of a run for its report, taken from the private files of one node or of a demonstration's two.

Of a record only public columns are read: round types, herald patterns, timestamps, lost rounds. Of a key
store only the balance sheet and its public name. The one number that derives from outcomes is Bob's count of
lost test rounds, which his session left; `publication` takes it out again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.link.characterisation import Characterisation, characterise
from diqkd_postproc.link.statistics import Estimate
from diqkd_postproc.link.timeline import Timeline, timeline_of
from diqkd_postproc.protocol.balance_sheet import BalanceSheet
from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import (
    HERALD_PATTERNS,
    chsh_score_of_losing,
    chsh_score_of_winning,
)
from diqkd_postproc.protocol.version import __version__
from diqkd_postproc.records.order_losses import late_losses, lost_by_order
from diqkd_postproc.records.sealed_record import RoundRecord
from diqkd_postproc.report.run_directory import REMARK_NAME, find_nodes
from diqkd_postproc.security.key_length import KeyLength
from diqkd_postproc.security.proofs import key_length_of
from diqkd_postproc.session.engine import derive_session_id
from diqkd_postproc.session.journal import SessionJournal, journal_path
from diqkd_postproc.session.messages import Decision, Verdict
from diqkd_postproc.session.result_file import load_result

Ending = Literal["key", "aborted", "unfinished", "acquired"]

MAX_REMARK = 4000
"""Characters of a remark that are printed."""

REASONS = {
    Verdict.VALIDATION_FAILED: "Bob's reconstruction of Alice's outcomes did not pass its validation.",
    Verdict.TOO_MANY_LOSSES: "Too many test rounds were lost: the Bell violation was too small.",
    Verdict.CONFIRMATION_TAG_WRONG: "A tag did not verify: a message was changed on its way.",
}
"""Why there is no key, one sentence for each verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProvenance:
    """Where one node's record comes from: all public, none of it authenticated."""

    role: str
    values: Mapping[str, str]
    configuration: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """How post-processing ended. num_losses, decode_iterations: None unless Bob's files were there."""

    session_id: str
    ending: Ending
    reason: str = ""
    num_losses: int | None = None
    decode_iterations: int | None = None
    seconds: Mapping[str, float]
    transcript_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Rounds whose outcome is unknown and counted as 0."""

    first_round: int
    num_rounds: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """Everything that `page` prints. Counts are of rounds, lengths of bits.

    roles: whose files were read. directory: None in a published report. same_key: whether two key stores
    hold the same key, known in a demonstration only. num_lost: rounds whose outcome is unknown and
    counts as 0; None, and `losses` empty, where a published report must not state them.
    characterisation: of a run whose outcomes are shared and that can make no key. remark: what the
    laboratory wrote about the run, in `remark.txt`.
    """

    public: bool
    roles: tuple[str, ...]
    directory: str | None
    run_id: str
    parameters: ProtocolParameters
    key_length: KeyLength
    session: SessionFacts | None
    balance_sheet: BalanceSheet | None
    same_key: bool | None
    num_tests: int
    num_lost: int | None
    num_late_losses: int
    num_order_losses: int | None
    herald_patterns: Mapping[str, int]
    label_mismatches: int | None  # None in records from before they were counted
    timeline: Timeline
    losses: tuple[Loss, ...]
    provenance: tuple[NodeProvenance, ...]
    written_by: str
    characterisation: Characterisation | None = None
    remark: str = ""

    @property
    def ending(self) -> Ending:
        """What became of the run."""
        return self.session.ending if self.session else "acquired"

    @property
    def key_bits(self) -> int:
        """Length of the key that was made; 0 where none was."""
        if self.ending != "key":
            return 0
        variable = self.parameters.length == "variable" and self.balance_sheet is not None
        return self.balance_sheet.generated if variable and self.balance_sheet else self.parameters.key_bits

    @property
    def losses_are_public(self) -> bool:
        """Whether the number of lost rounds was announced: an abort's reason, or what a length pays for."""
        return self.ending == "aborted" or self.parameters.length == "variable"

    @property
    def most_losses(self) -> int:
        """Most lost rounds that make a key of this run."""
        rule = self.parameters.length_rule
        if rule is None:
            return self.parameters.max_losses
        return max(0, rule.most_losses(self.num_tests, self.num_late_losses, self.parameters.syndrome_bits))

    @property
    def demanded_score(self) -> float:
        """CHSH score below which there is no key."""
        if self.parameters.length_rule is None or not self.num_tests:
            return chsh_score_of_winning(self.parameters.omega_threshold)
        return chsh_score_of_losing(self.most_losses / self.num_tests)

    @property
    def length_terms(self) -> dict[str, float]:
        """Summands of the key's length in bits, as far as they are known: a variable length has spent some in
        this run."""
        terms, rule = dict(self.key_length.terms), self.parameters.length_rule
        losses = self.session.num_losses if self.session else None
        if rule is None or rule.length == "fixed" or losses is None:
            return terms
        return terms | {
            "test_credit": float(rule.free.eta) * self.num_tests,
            "losses": -float(rule.free.kappa) * losses,
            "late_losses": -float(self.num_late_losses),
            "syndrome": -float(self.parameters.syndrome_bits),
        }

    @property
    def chsh_score(self) -> Estimate | None:
        """S = 4 - 8 losses / tests, where the number of losses is known."""
        losses = self.session.num_losses if self.session else None
        if losses is None or self.num_tests == 0:
            return None
        rate = losses / self.num_tests
        error = 8 * float(np.sqrt(rate * (1 - rate) / self.num_tests))
        return Estimate(chsh_score_of_losing(rate), error, self.num_tests)

    @property
    def simulated(self) -> bool:
        """Whether the nodes say that they ran on the stand-in for ARTIQ, that is without hardware."""
        return any("stub" in node.values.get("artiq", "") for node in self.provenance)


def collect_facts(directory: Path, keys: Path | None = None) -> RunFacts:
    """Facts of the run in `directory`, a node's or a demonstration's; `keys`: its key store, if elsewhere.

    Raises StorageError where files are missing, damaged, unsafe, or not of one run.
    """
    nodes = find_nodes(directory, keys)
    records = [RoundRecord.read(node.record) for node in nodes]
    record = records[-1]
    for other in records[:-1]:
        if (other.run_id, other.parameters.digest) != (record.run_id, record.parameters.digest):
            raise StorageError(f"the records in {directory} belong to different runs; report them one by one")
    sessions: list[SessionFacts] = []
    sheets: list[BalanceSheet] = []
    same_key: bool | None = None
    stores = [_open_store(node.keys, record.parameters) for node in nodes if node.keys is not None]
    try:
        for store in stores:
            session = _session(store, record)
            has_key = session is not None and session.ending == "key"
            sheets.append(store.balance_sheet(session.session_id if session and has_key else None))
            if session is not None:
                sessions.append(session)
        if len(stores) == 2 and all(session.ending == "key" for session in sessions) and len(sessions) == 2:
            same_key = stores[0].has_same_key(stores[1], sessions[0].session_id)
    finally:
        for store in stores:
            store.close()
    patterns, counts = np.unique(record.herald_pattern, return_counts=True)
    found = dict(zip(patterns.tolist(), counts.tolist(), strict=True))
    return RunFacts(
        public=False,
        roles=tuple(r.role for r in records),
        directory=str(directory.resolve()),
        run_id=record.run_id,
        parameters=record.parameters,
        key_length=key_length_of(record.parameters),
        session=_combined(sessions),
        balance_sheet=sheets[-1] if sheets else None,
        same_key=same_key,
        num_tests=int(np.count_nonzero(record.round_type)),
        num_lost=int(np.count_nonzero(np.any([r.lost for r in records], axis=0))),
        num_late_losses=int(np.count_nonzero(late_losses(record))),
        num_order_losses=int(np.count_nonzero(np.any([lost_by_order(r) for r in records], axis=0))),
        herald_patterns={f"{p:04b}": int(found.get(p, 0)) for p in HERALD_PATTERNS},
        label_mismatches=record.attributes.get("label_mismatches"),
        timeline=timeline_of(record),
        losses=tuple(_loss(noted) for r in records for noted in r.attributes.get("losses", [])),
        provenance=tuple(_provenance(r) for r in records),
        written_by=f"diqkd {__version__}",
        characterisation=characterise(records[0], records[1]) if _is_characterisation(records) else None,
        remark=_remark(directory),
    )


def _remark(directory: Path) -> str:
    try:
        with (directory / REMARK_NAME).open(encoding="utf-8", errors="replace") as file:
            return file.read(MAX_REMARK).strip()
    except OSError:
        return ""


def _is_characterisation(records: list[RoundRecord]) -> bool:
    """Whether both nodes' outcomes are there and no key can ever come of them."""
    return len(records) == 2 and all(record.parameters.key_bits == 0 for record in records)


def _open_store(path: Path, parameters: ProtocolParameters) -> KeyStore:
    return KeyStore.open(path, parameters)


def _session(store: KeyStore, record: RoundRecord) -> SessionFacts | None:
    """How the session of this record ended, with whichever initial key it was; None if it was never begun."""
    for key_id in reversed(store.key_ids):
        session_id = derive_session_id(record.parameters, key_id, record.run_id)
        if (facts := _session_of(store, record, session_id)) is not None:
            return facts
    return None


def _session_of(store: KeyStore, record: RoundRecord, session_id: bytes) -> SessionFacts | None:
    name = session_id.hex()
    if store.has_key(name):
        result = load_result(store.path, name) or {}
        return SessionFacts(
            session_id=name,
            ending="key",
            num_losses=_count(result.get("num_losses")),
            decode_iterations=_count(result.get("decode_iterations")),
            seconds={str(stage): float(s) for stage, s in dict(result.get("seconds", {})).items()},
            transcript_digest=str(result["transcript_digest"]) if "transcript_digest" in result else None,
        )
    path = journal_path(store.path, session_id)
    if not os.path.lexists(path):
        return None
    # First: a decision whose tag was wrong is in the journal too, and anybody may have written it.
    if refused := (load_result(store.path, name) or {}).get("refused"):
        return SessionFacts(session_id=name, ending="aborted", reason=f"{refused}.", seconds={})
    journal = SessionJournal(path, record.parameters, session_id)
    journal.close()
    for entry in journal.entries:
        decision = entry.message
        if isinstance(decision, Decision) and not decision.accepted:
            return SessionFacts(
                session_id=name,
                ending="aborted",
                reason=REASONS[decision.verdict],
                num_losses=decision.num_losses if decision.verdict is Verdict.TOO_MANY_LOSSES else None,
                seconds={},
            )
    return SessionFacts(session_id=name, ending="unfinished", seconds={})


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _combined(sessions: list[SessionFacts]) -> SessionFacts | None:
    """Of two parties' sessions the one that knows more; the least finished ending of the two."""
    if not sessions:
        return None
    order = ("unfinished", "aborted", "key")
    last = min(sessions, key=lambda session: order.index(session.ending))
    if last.ending != "key":
        return last
    return max(sessions, key=lambda session: (session.num_losses is not None, bool(session.seconds)))


def _loss(noted: dict[str, Any]) -> Loss:
    return Loss(
        first_round=int(noted["first_round"]),
        num_rounds=int(noted["num_rounds"]),
        reason=str(noted["reason"]),
    )


def _provenance(record: RoundRecord) -> NodeProvenance:
    values = dict(record.attributes.get("provenance", {}))
    configuration = values.pop("node_configuration", None)
    return NodeProvenance(
        role=record.role,
        values={str(name): str(value) for name, value in values.items()},
        configuration=None if configuration is None else str(configuration),
    )
