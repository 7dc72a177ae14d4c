"""`run_session`: one party's post-processing, from its record to the key in its key store.

The driver of the engine: it moves bytes, sends work to a thread, writes the journal and the key store,
and turns the end of the session into a result or an error. The extraction runs in a second thread as soon
as the outcomes are final, so that Alice extracts while Bob decodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TypeVar, get_args

from diqkd_postproc.balance_sheet import BalanceSheet
from diqkd_postproc.errors import (
    AuthenticationError,
    InsufficientKeyError,
    ParameterError,
    ProtocolAbort,
    RemoteProtocolError,
    StorageError,
)
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.parameters import ProtocolParameters
from diqkd_postproc.records.sealed_record import RoundRecord
from diqkd_postproc.session.computation import Bits, Computation, ProgressReporter
from diqkd_postproc.session.engine import PeerUnavailable, SessionEngine, derive_session_id
from diqkd_postproc.session.events import (
    Aborted,
    ActivateKey,
    Answer,
    ConsumeKey,
    Done,
    Event,
    Failed,
    Finished,
    Need,
    Passed,
    PeerAgreed,
    Persist,
    Signal,
    StartExtraction,
    Work,
)
from diqkd_postproc.session.journal import SessionJournal, journal_path
from diqkd_postproc.session.messages import AbortReason, Message, Role, Verdict
from diqkd_postproc.session.transport import GOODBYE_S, SILENCE_S, Connection, connect, listen

_T = TypeVar("_T")

STAGES = {
    Work.SETTINGS: "basis revelation",
    Work.SYNDROME: "syndrome",
    Work.OUTCOME_HASH: "outcome hash",
    Work.DECODE: "error correction",
    Work.VALIDATE: "validation of error correction",
    Work.COUNT_LOSSES: "validation of Bell violation",
    Work.ROUND_TYPES_TAG: "authentication",
    Work.CHECK_ROUND_TYPES: "authentication",
    Work.CONFIRMATION: "authentication",
    Work.CHECK_CONFIRMATION: "authentication",
    Work.EXTRACT: "waiting for the extraction",
    Work.DECISION: "key activation",
    Work.CHECK_DECISION: "key activation",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionResult:
    """How a session ended in a key; the key itself is in the key store.

    num_losses, decode_iterations: Bob only, and None where an earlier session had done that work.
    seconds: time by stage; the extraction runs beside other stages. peer_confirmed: whether Alice said that
    she has her key too; where she did not, starting both sides again lets her finish.
    """

    role: Role
    session_id: str
    key_bits: int
    num_tests: int
    num_losses: int | None
    max_losses: int
    decode_iterations: int | None
    seconds: dict[str, float]
    balance_sheet: BalanceSheet
    transcript_digest: str
    resumed: bool
    peer_confirmed: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"balance_sheet": self.balance_sheet.to_dict()}


def _no_progress(stage: str, done: float, total: float = 1.0) -> None:
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
) -> SessionResult:
    """Run steps 4 to 12 with the peer at `host:port`, or waiting for it there (`listen`).

    timeout: seconds to wait for the peer's connection. progress: called as (stage, done, total), also from
    worker threads. listening: told the bound address. Call it again after any interruption, on both sides:
    the session goes on where it stopped, with the same messages under the same pads.

    Raises ProtocolAbort (a test failed; PeerUnavailable: no peer), AuthenticationError or
    RemoteProtocolError (tampering, or different initial keys), ParameterError (the two sides do not fit
    together), InsufficientKeyError, StorageError.
    """
    _check_inputs(role, record, key_store, parameters)
    session_id = derive_session_id(parameters, key_store.key_id, record.run_id)
    key_is_active = _has_key(key_store, session_id)
    if not key_is_active:
        key_store.require_pads(session_id.hex())
    journal = SessionJournal(journal_path(key_store.path, session_id), parameters, session_id)
    try:
        engine = SessionEngine(
            role, parameters, key_store.key_id, record.run_id, journal.entries, key_is_active
        )
        computation = Computation(engine, record, key_store, parameters, progress or _no_progress)
        driver = _Driver(
            engine, computation, journal, key_store, progress or _no_progress, parameters.max_losses
        )
        peer_confirmed = asyncio.run(_converse(driver, host, port, listen, timeout, listening))
    except PeerUnavailable:
        if not key_is_active:
            raise
        peer_confirmed = False
    finally:
        journal.close()
    return SessionResult(
        role=role,
        session_id=session_id.hex(),
        key_bits=parameters.key_bits,
        num_tests=int(record.round_type.sum()),
        num_losses=computation.num_losses,
        max_losses=parameters.max_losses,
        decode_iterations=computation.decode_iterations,
        seconds=driver.seconds,
        balance_sheet=key_store.balance_sheet(),
        transcript_digest=engine.transcript_digest,
        resumed=engine.resumed,
        peer_confirmed=peer_confirmed,
    )


def _check_inputs(
    role: Role, record: RoundRecord, key_store: KeyStore, parameters: ProtocolParameters
) -> None:
    if role not in get_args(Role):
        raise ParameterError(f"role {role!r} is neither 'alice' nor 'bob'")
    if record.role != role:
        raise ParameterError(f"this is {record.role}'s record, the role is {role}; give {role}'s record")
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


def _has_key(key_store: KeyStore, session_id: bytes) -> bool:
    try:
        key_store.generated_key(session_id.hex())
    except StorageError:
        return False
    return True


async def _converse(
    driver: _Driver,
    host: str,
    port: int,
    listens: bool,
    timeout: float,
    listening: Callable[[str, int], None] | None,
) -> bool:
    if listens:
        connection = await listen(host, port, timeout, listening)
    else:
        connection = await connect(host, port, timeout)
    return await driver.run(connection)


class _Driver:
    """Answers one engine's events over one connection."""

    def __init__(
        self,
        engine: SessionEngine,
        computation: Computation,
        journal: SessionJournal,
        key_store: KeyStore,
        progress: ProgressReporter,
        max_losses: int,
    ) -> None:
        self.seconds: dict[str, float] = {}
        self._engine = engine
        self._computation = computation
        self._journal = journal
        self._key_store = key_store
        self._progress = progress
        self._max_losses = max_losses
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="diqkd-session")
        self._extraction: asyncio.Task[Bits] | None = None
        self._arrived = asyncio.Event()
        self._pump_error: BaseException | None = None
        self._peer_confirmed: bool | None = None

    async def run(self, connection: Connection) -> bool:
        """Drive to the end; whether the peer confirmed. Raises what ended the session otherwise."""
        pump = asyncio.create_task(self._pump(connection))
        try:
            await connection.send(self._engine.data_to_send())
            while self._peer_confirmed is None:
                await self._turn()
                await connection.send(self._engine.data_to_send())
        except BaseException as error:
            await self._say_why(connection, error)
            raise
        finally:
            self._computation.stop.set()
            if self._extraction is not None:
                self._extraction.cancel()
            connection.end()
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(pump, GOODBYE_S)
            await connection.close()
            self._threads.shutdown(wait=False, cancel_futures=True)
        return self._peer_confirmed

    async def _say_why(self, connection: Connection, error: BaseException) -> None:
        if not isinstance(error, ProtocolAbort | AuthenticationError):
            self._engine.leave(_reason(error))
        await connection.send(self._engine.data_to_send())

    async def _pump(self, connection: Connection) -> None:
        data = b"start"
        while data:
            data = await connection.receive()
            if self._pump_error is None:
                try:
                    self._engine.receive_data(data)
                except RemoteProtocolError as error:
                    self._pump_error = error
            self._arrived.set()

    async def _turn(self) -> None:
        self._arrived.clear()
        event = self._engine.next_event()
        if event is Signal.NEED_DATA:
            await self._wait_for_data()
        elif isinstance(event, Signal):
            raise AssertionError("every event is answered before the next is asked for")
        else:
            await self._handle(event)

    async def _wait_for_data(self) -> None:
        if self._pump_error is not None:
            raise self._pump_error
        with self._timed("waiting for the peer"):
            try:
                await asyncio.wait_for(self._arrived.wait(), SILENCE_S)
            except TimeoutError:
                raise PeerUnavailable(
                    f"the peer has said nothing for {SILENCE_S:g} s; start both sides again and the "
                    "session goes on where it stopped"
                ) from None

    async def _handle(self, event: Event) -> None:
        engine = self._engine
        if isinstance(event, Need):
            await self._work(event.work)
        elif isinstance(event, Persist):
            self._journal.append(event)
            engine.acknowledge(event)
        elif isinstance(event, ConsumeKey):
            self._computation.spend(event.segment)
            engine.acknowledge(event)
        elif isinstance(event, ActivateKey):
            self._key_store.activate(engine.session_id.hex(), await self._key())
            engine.acknowledge(event)
        elif isinstance(event, StartExtraction):
            self._start_extraction()
        elif isinstance(event, Finished):
            self._peer_confirmed = event.peer_confirmed
        elif isinstance(event, Aborted):
            raise _abort_error(event, self._max_losses)
        elif isinstance(event, PeerAgreed):
            self._progress("agreement with the peer", 1.0)

    async def _work(self, work: Work) -> None:
        stage = STAGES[work]
        self._progress(stage, 0.0)
        with self._timed(stage):
            result: Message | Answer
            if work is Work.EXTRACT:
                await self._key()
                result = Done()
            else:
                result = await self._with_peer(self._in_thread(lambda: self._computation.perform(work)))
        if isinstance(result, Done | Passed | Failed):
            self._engine.answer(result)
        else:
            self._engine.send(result)
        self._progress(stage, 1.0)

    def _in_thread(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, function)

    async def _with_peer(self, work: asyncio.Future[_T]) -> _T:
        """The result of work; gives up when the peer goes away meanwhile."""
        while not work.done():
            self._engine.check_connection()
            self._arrived.clear()
            arrival = asyncio.create_task(self._arrived.wait())
            either: set[asyncio.Future[Any]] = {work, arrival}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            arrival.cancel()
        return await work

    def _start_extraction(self) -> None:
        if self._extraction is None:
            self._extraction = asyncio.create_task(self._extract())
            self._extraction.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _extract(self) -> Bits:
        if self._engine.resumed:
            if not self._computation.outcomes_are_known:
                await self._in_thread(lambda: self._computation.perform(Work.DECODE))
            # The ledger holds for which outcomes the hash was sent or validated: others are refused here.
            self._computation.spend("pad_ec")
        with self._timed("privacy amplification"):
            return await self._in_thread(self._computation.extract)

    async def _key(self) -> Bits:
        self._start_extraction()
        assert self._extraction is not None
        return await self._with_peer(self._extraction)

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def _reason(error: BaseException) -> AbortReason:
    if isinstance(error, RemoteProtocolError | ParameterError):
        return AbortReason.PROTOCOL_ERROR
    if isinstance(error, StorageError):
        return AbortReason.STORAGE
    if isinstance(error, InsufficientKeyError):
        return AbortReason.INSUFFICIENT_KEY
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt):
        return AbortReason.INTERRUPTED
    return AbortReason.INTERNAL


def _abort_error(event: Aborted, max_losses: int) -> ProtocolAbort | AuthenticationError:
    """The error that tells the operator why there is no key."""
    if not event.verified:
        return AuthenticationError(
            "the tag of Bob's decision is wrong: it was changed on its way, or the two initial keys differ; "
            "no key was made"
        )
    if event.verdict is Verdict.CONFIRMATION_TAG_WRONG:
        return AuthenticationError(
            "Alice's tag does not fit what Bob received: a message was changed on its way; no key was made"
        )
    if event.verdict is Verdict.ROUND_TYPES_DIFFER:
        return AuthenticationError(
            "Bob's tag of the round types does not fit what Alice received: the round-type line or a message "
            "was changed; no key was made"
        )
    if event.verdict is Verdict.TOO_MANY_LOSSES:
        return ProtocolAbort(
            f"the Bell violation is too small: {event.num_losses} test rounds were lost, {max_losses} "
            "are allowed; no key was made. Recalibrate the link, or plan for a lower CHSH score"
        )
    return ProtocolAbort(
        "error correction failed: Bob's reconstruction of Alice's outcomes did not pass its validation; no "
        "key was made. The error rate is above the design point, a message was changed, or the initial keys "
        "differ"
    )
