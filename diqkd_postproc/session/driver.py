"""Driver of one engine over one transport: moves bytes, sends work to threads, makes effects durable.

The extraction runs in a thread of its own as soon as the outcomes are final, so that Alice extracts while
Bob decodes. Journal and key store are written in the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.protocol.errors import (
    AuthenticationError,
    InsufficientKeyError,
    ParameterError,
    ProtocolAbort,
    RemoteProtocolError,
    StorageError,
)
from diqkd_postproc.session.computation import Bits, Computation, ProgressReporter
from diqkd_postproc.session.engine import PeerUnavailable, SessionEngine
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
    Persist,
    Signal,
    StartExtraction,
    Work,
)
from diqkd_postproc.session.journal import SessionJournal
from diqkd_postproc.session.messages import AbortReason, Message, MessageType, Verdict
from diqkd_postproc.session.transport import CLOSE_TIMEOUT_S, SILENCE_S, Transport

_T = TypeVar("_T")

STAGES = {
    Work.SETTINGS: "basis revelation",
    Work.SYNDROME: "syndrome",
    Work.OUTCOME_HASH: "outcome hash",
    Work.DECODE: "error correction",
    Work.ATTEMPT: "error correction",
    Work.REQUEST: "error correction",
    Work.RECONCILED: "error correction",
    Work.INCREMENT: "syndrome",
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


class SessionDriver:
    """Answers one engine's events over one transport."""

    def __init__(
        self,
        engine: SessionEngine,
        computation: Computation,
        journal: SessionJournal,
        key_store: KeyStore,
        progress: ProgressReporter,
        agreed: Callable[[str], None],
    ) -> None:
        self.seconds: dict[str, float] = {}
        self._engine = engine
        self._computation = computation
        self._journal = journal
        self._key_store = key_store
        self._progress = progress
        self._agreed = agreed
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="diqkd-session")
        self._extraction: asyncio.Task[Bits] | None = None
        self._arrived = asyncio.Event()
        self._pump_error: BaseException | None = None
        self._peer_confirmed: bool | None = None

    def prepare(self) -> None:
        """Start what can be done before the peer is there."""
        engine = self._engine
        code_is_needed = engine.role == "bob" or MessageType.SYNDROME not in engine.messages
        if code_is_needed and not engine.key_is_active:
            self._computation.prepare()

    async def run(self, transport: Transport) -> bool:
        """Drive to the end; whether the peer confirmed. Raises what ended the session otherwise."""
        pump = asyncio.create_task(self._pump(transport))
        try:
            await transport.send(self._engine.data_to_send())
            while self._peer_confirmed is None:
                await self._turn(transport)
                await transport.send(self._engine.data_to_send())
        except BaseException as error:
            await self._say_why(transport, error)
            raise
        finally:
            self._computation.stop.set()
            if self._extraction is not None:
                self._extraction.cancel()
            transport.end()
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(pump, CLOSE_TIMEOUT_S)
            await transport.close()
            self._threads.shutdown(wait=False, cancel_futures=True)
        return self._peer_confirmed

    async def _say_why(self, transport: Transport, error: BaseException) -> None:
        if not isinstance(error, ProtocolAbort | AuthenticationError):
            self._engine.leave(abort_reason(error))
        await transport.send(self._engine.data_to_send())

    async def _pump(self, transport: Transport) -> None:
        data = b"start"
        while data:
            data = await transport.receive()
            if self._pump_error is None:
                try:
                    self._engine.receive_data(data)
                except RemoteProtocolError as error:
                    self._pump_error = error
            self._arrived.set()

    async def _turn(self, transport: Transport) -> None:
        self._arrived.clear()
        event = self._engine.next_event()
        if event is Signal.NEED_DATA:
            await self._wait_for_data(transport)
        else:
            assert not isinstance(event, Signal), "every event is answered before the next is requested"
            await self._handle(event)

    async def _wait_for_data(self, transport: Transport) -> None:
        if self._pump_error is not None:
            raise self._pump_error
        if (pending := transport.pending()) is not None:
            raise pending
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
            self._computation.consume_pad(event.segment)
            engine.acknowledge(event)
        elif isinstance(event, ActivateKey):
            self._key_store.activate(engine.session_id.hex(), await self._key())
            engine.acknowledge(event)
        elif isinstance(event, StartExtraction):
            if self._computation.extracts_early:
                self._start_extraction()
        elif isinstance(event, Finished):
            self._peer_confirmed = event.peer_confirmed
        elif isinstance(event, Aborted):
            raise _abort_error(event, self._computation.most_losses, self._computation.num_order_losses)
        else:
            self._agreed(engine.session_id.hex())
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
            self._computation.consume_pad("pad_ec")
        with self._timed("privacy amplification"):
            return await self._in_thread(self._computation.extract)

    async def _key(self) -> Bits:
        self._start_extraction()
        assert self._extraction is not None
        key = await self._with_peer(self._extraction)
        return key[: self._computation.key_bits]

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def abort_reason(error: BaseException) -> AbortReason:
    """Reason that is sent to the peer for an error: its kind, never its text."""
    if isinstance(error, RemoteProtocolError | ParameterError):
        return AbortReason.PROTOCOL_ERROR
    if isinstance(error, StorageError):
        return AbortReason.STORAGE
    if isinstance(error, InsufficientKeyError):
        return AbortReason.INSUFFICIENT_KEY
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt):
        return AbortReason.INTERRUPTED
    return AbortReason.INTERNAL


def _abort_error(
    event: Aborted, max_losses: int, num_order_losses: int
) -> ProtocolAbort | AuthenticationError:
    """The error to raise, with the reason why there is no key."""
    if event.wrong_tag is MessageType.DECISION:
        return AuthenticationError(
            "the tag of Bob's decision is wrong: it was changed on its way, or the two initial keys differ; "
            "no key was made"
        )
    if event.wrong_tag is MessageType.ROUND_TYPES_TAG:
        return AuthenticationError(
            "Bob's tag of the round types does not fit what Alice has: the round-type line or a message was "
            "changed, the records differ in types, tokens or late losses, or the two initial keys differ; no "
            "key was made"
        )
    if event.verdict is Verdict.CONFIRMATION_TAG_WRONG:
        return AuthenticationError(
            "Alice's tag does not fit what Bob received: a message was changed on its way; no key was made"
        )
    if event.verdict is Verdict.TOO_MANY_LOSSES:
        by_order = ""
        if num_order_losses:
            by_order = (
                f" ({num_order_losses} of them by what came on the nodes' lines, whatever was measured)"
            )
        return ProtocolAbort(
            f"the Bell violation is too small: {event.num_losses} test rounds were lost{by_order}, "
            f"{max_losses} are allowed; no key was made. Recalibrate the link, or plan for a lower CHSH score"
        )
    return ProtocolAbort(
        "error correction failed: Bob's reconstruction of Alice's outcomes did not pass its validation; no "
        "key was made. The error rate is above the design point, a message was changed, or the initial keys "
        "differ"
    )
