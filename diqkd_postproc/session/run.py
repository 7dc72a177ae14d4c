"""Post-processing of one party, from its record to the key in its key store.

Checks that the inputs belong together, opens the journal, finds the peer, lets the driver work, and gives
the result or the error that ended the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from diqkd_postproc.key_store import UNUSED, KeyStore
from diqkd_postproc.protocol.balance_sheet import BalanceSheet
from diqkd_postproc.protocol.errors import ParameterError, ProtocolAbort
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import Role
from diqkd_postproc.records.order_losses import require_few_late_losses
from diqkd_postproc.records.sealed_record import RoundRecord
from diqkd_postproc.session.computation import Computation, ProgressReporter
from diqkd_postproc.session.continuity import Past, require_one_past
from diqkd_postproc.session.driver import SessionDriver
from diqkd_postproc.session.engine import PeerUnavailable, SessionEngine, TranscriptEntry, derive_session_id
from diqkd_postproc.session.events import Pad
from diqkd_postproc.session.exchange import FileExchange
from diqkd_postproc.session.journal import SessionJournal, journal_path
from diqkd_postproc.session.transport import Transport, connect
from diqkd_postproc.session.transport import listen as wait_for_connection


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionResult:
    """How a session ended in a key; the key itself is in the key store.

    num_losses, decode_iterations: Bob only, and None where an earlier session had done that work; with a
    variable length both know num_losses. num_order_losses: those of them that are lost whatever was measured
    (docs/order.md). max_losses: the most that make a key.
    proof, proof_status: on which theorem the key rests, and how far that has been reviewed.
    transcript: the public messages, with `transcript_digest` over all: equal on both sides.
    seconds: time by stage; the extraction runs beside other stages. peer_confirmed: whether Alice said that
    she has her key too; where she did not, starting both sides again lets her finish.
    """

    role: Role
    session_id: str
    key_bits: int
    num_tests: int
    num_losses: int | None
    num_order_losses: int
    max_losses: int
    proof: str
    proof_status: str
    decode_iterations: int | None
    seconds: dict[str, float]
    balance_sheet: BalanceSheet
    transcript_digest: str
    transcript: tuple[TranscriptEntry, ...]
    resumed: bool
    peer_confirmed: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"balance_sheet": self.balance_sheet.to_dict()}


def _no_progress(stage: str, done: float, total: float = 1.0) -> None:
    pass


def _no_objection(session_id: str) -> None:
    pass


def run_session(
    role: Role,
    record: RoundRecord,
    key_store: KeyStore,
    parameters: ProtocolParameters,
    host: str,
    port: int,
    listen: bool,
    progress: ProgressReporter | None = None,
    timeout: float = 600.0,
    listening: Callable[[str, int], None] | None = None,
    agreed: Callable[[str], None] | None = None,
) -> SessionResult:
    """Run steps 4 to 12 with the peer at `host:port`, or waiting for it there (`listen`).

    timeout: seconds to wait for the peer's connection. progress: called as (stage, done, total), also from
    worker threads. listening: called with the bound address. agreed: called with the session's id when
    both sides fit together, before a pad is used; what it raises ends the session. Call it again after any
    interruption, on both sides: the session goes on where it stopped, with the same messages under the same
    pads.

    Raises ProtocolAbort (a test failed), PeerUnavailable, AuthenticationError or RemoteProtocolError
    (tampering, or different initial keys), ParameterError (the two sides do not fit together),
    InsufficientKeyError, StorageError, of which OldCopyError.
    """

    async def open_transport(engine: SessionEngine, driver: SessionDriver) -> Transport:
        driver.prepare()
        if listen:
            return await wait_for_connection(host, port, timeout, listening)
        return await connect(host, port, timeout)

    return _run(
        role, record, key_store, parameters, progress or _no_progress, agreed or _no_objection, open_transport
    )


def run_exchange(
    role: Role,
    record: RoundRecord,
    key_store: KeyStore,
    parameters: ProtocolParameters,
    folder: Path,
    progress: ProgressReporter | None = None,
    agreed: Callable[[str], None] | None = None,
) -> SessionResult:
    """Go as far as the files in `folder` allow (see `exchange`), and write this side's file there.

    Raises ExchangePending, which says which file to carry, as long as there is no key on this side; else as
    `run_session`.
    """

    async def open_transport(engine: SessionEngine, driver: SessionDriver) -> Transport:
        return FileExchange(folder, engine)

    return _run(
        role, record, key_store, parameters, progress or _no_progress, agreed or _no_objection, open_transport
    )


TransportOpener = Callable[[SessionEngine, SessionDriver], Awaitable[Transport]]


def _run(
    role: Role,
    record: RoundRecord,
    key_store: KeyStore,
    parameters: ProtocolParameters,
    progress: ProgressReporter,
    agreed: Callable[[str], None],
    open_transport: TransportOpener,
) -> SessionResult:
    _check_inputs(role, record, key_store, parameters)
    key_id = _key_id_of(record, key_store, parameters)
    session_id = derive_session_id(parameters, key_id, record.run_id)
    key_is_active = key_store.has_key(session_id)
    if not key_is_active:
        key_store.require_pads(session_id.hex())
    path = journal_path(key_store.path, session_id)
    journal = SessionJournal(path, parameters, session_id, key_store.epoch)
    try:
        past = _past(key_store, key_is_active)
        num_increments = len(parameters.syndrome_totals)
        require_one_past(role, journal.entries, past, path, key_store.path, num_increments)
        engine = SessionEngine(
            role, parameters, key_id, record.run_id, journal.entries, key_is_active, journal.epoch
        )
        computation = Computation(engine, record, key_store, parameters, progress)
        driver = SessionDriver(engine, computation, journal, key_store, progress, agreed)
        peer_confirmed = asyncio.run(_converse(engine, driver, open_transport))
    except PeerUnavailable:
        if not key_store.has_key(session_id):
            raise
        peer_confirmed = False
    finally:
        journal.close()
    return SessionResult(
        role=role,
        session_id=session_id.hex(),
        key_bits=computation.key_bits,
        num_tests=int(record.round_type.sum()),
        num_losses=computation.num_losses,
        num_order_losses=computation.num_order_losses,
        max_losses=computation.most_losses,
        proof=parameters.proof_label,
        proof_status=parameters.proof_status,
        decode_iterations=computation.decode_iterations,
        seconds=driver.seconds,
        balance_sheet=key_store.balance_sheet(session_id),
        transcript_digest=engine.transcript_digest,
        transcript=engine.transcript,
        resumed=engine.resumed,
        peer_confirmed=peer_confirmed,
    )


async def _converse(engine: SessionEngine, driver: SessionDriver, open_transport: TransportOpener) -> bool:
    return await driver.run(await open_transport(engine, driver))


def _check_inputs(
    role: Role, record: RoundRecord, key_store: KeyStore, parameters: ProtocolParameters
) -> None:
    if role not in get_args(Role):
        raise ParameterError(f"role {role!r} is neither 'alice' nor 'bob'")
    if record.role != role:
        raise ParameterError(f"this is {record.role}'s record, the role is {role}; give {role}'s record")
    if record.outcomes_are_shared:
        raise ParameterError(
            f"the outcomes of run {record.run_id} are known to both nodes: it characterised the link and "
            'makes no key; acquire a run with the experiment "DIQKD key generation"'
        )
    for what, digest in (("record", record.parameters.digest), ("key store", key_store.parameters_digest)):
        if digest != parameters.digest:
            raise ParameterError(
                f"the {what} was made with parameters {digest[:16]}, this session has "
                f"{parameters.digest[:16]}; give the parameter file of that run"
            )
    if parameters.key_bits == 0:
        raise ProtocolAbort(
            "these parameters allow no secret key (key_bits = 0), so no part of the initial key is spent; "
            "a key needs more rounds or a better link"
        )
    num_tests = int(record.round_type.sum())
    if parameters.max_tests is not None and num_tests > parameters.max_tests:
        raise ProtocolAbort(
            f"{num_tests} of the rounds were test rounds, the proof {parameters.proof!r} allows "
            f"{parameters.max_tests}; both sides see this, nothing was sent and no part of the initial key "
            "is spent. About one honest run in 1000 ends so; acquire another"
        )
    require_few_late_losses(record)


def _key_id_of(record: RoundRecord, key_store: KeyStore, parameters: ProtocolParameters) -> str:
    """The initial key of this record's session: the current one, or an earlier one that made its key.

    The proof allows one session a record: one that ended without a key is not begun again with new pads.
    """
    for key_id in key_store.key_ids[:-1]:
        session_id = derive_session_id(parameters, key_id, record.run_id)
        if key_store.has_key(session_id):
            return key_id
        if journal_path(key_store.path, session_id).exists():
            raise ParameterError(
                f"run {record.run_id} was post-processed with an earlier initial key and gave no key; a "
                "record serves one session. Acquire another"
            )
    return key_store.key_id


def _past(key_store: KeyStore, key_is_active: bool) -> Past:
    """What the key store remembers of the session; its pads were found to be unused or the session's."""
    pads: tuple[Pad, ...] = get_args(Pad)
    consumed = frozenset(pad for pad in pads if key_store.segment_state(pad) != UNUSED)
    return Past(consumed, key_is_active)
