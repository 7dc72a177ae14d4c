"""The pool of keys behind the API: requests of many clients, few commits.

A commit waits for the disk, so that all requests that have come meanwhile share the next one. A key is
handed out after it has left this node's ledger, durably.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from diqkd_postproc.delivery.data_formats import Key
from diqkd_postproc.delivery.key_halves import KeyHalves, KeyRequest
from diqkd_postproc.delivery.refusals import Unavailable
from diqkd_postproc.delivery.store_thread import StoreThread
from diqkd_postproc.protocol.errors import DiqkdError

MAX_KEYS_IN_BATCH = 512
MAX_WAITING = 1024
COUNTS_LIFETIME_S = 0.5
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A client's request, and where its keys go."""

    request: KeyRequest
    is_abandoned: Callable[[], bool]
    keys: asyncio.Future[tuple[Key, ...]]

    def end(self, outcome: tuple[Key, ...] | Exception) -> None:
        if self.keys.done():
            if isinstance(outcome, tuple):
                _log.warning("%d keys have left the store for a client that has gone", len(outcome))
        elif isinstance(outcome, tuple):
            self.keys.set_result(outcome)
        else:
            self.keys.set_exception(outcome)


class KeyPool:
    """Gives keys to the SAEs of one KME.

    One task gathers the requests that are waiting, at most MAX_WAITING, until they want MAX_KEYS_IN_BATCH
    keys.
    """

    def __init__(self, halves: KeyHalves, store_thread: StoreThread) -> None:
        self._halves = halves
        self._store_thread = store_thread
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(MAX_WAITING)
        self._counts: dict[int, tuple[int, int]] = {}
        self._counts_until = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to deliver."""
        self._task = asyncio.get_running_loop().create_task(self._serve())

    async def close(self) -> None:
        """Refuse every further request."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def allot(
        self, master: str, slave: str, number: int, size: int, is_abandoned: Callable[[], bool]
    ) -> tuple[Key, ...]:
        """`number` new keys of `size` bits, for which `slave` can ask the other KME; gone from the store.

        is_abandoned: whether the client has gone, for which nothing is delivered. Raises Unavailable where
        too many requests wait, InsufficientKeyError where too few bits are left.
        """
        request = KeyRequest(master=master, slave=slave, number=number, size=size)
        return await self._enqueue(request, is_abandoned)

    async def collect(
        self, master: str, slave: str, key_ids: Sequence[str], is_abandoned: Callable[[], bool]
    ) -> tuple[Key, ...]:
        """The keys of these ids, issued for `slave` at the request of `master`; all or none, once.

        Raises BadRequest for an id whose bits are not here (any more), Unauthorized for one that was not
        issued for these SAEs; errors of the store leave the keys where they were.
        """
        return await self._enqueue(
            KeyRequest(master=master, slave=slave, key_ids=tuple(key_ids)), is_abandoned
        )

    async def counts(self, size: int) -> tuple[int, int]:
        """(keys of `size` bits that are left to issue here, most that there were).

        Up to date with this node's requests, and by COUNTS_LIFETIME_S with new keys.
        """
        now = asyncio.get_running_loop().time()
        if size not in self._counts or now > self._counts_until:
            self._counts = {size: await self._store_thread.run(self._halves.counts, size)}
            self._counts_until = now + COUNTS_LIFETIME_S
        return self._counts[size]

    async def free_bits(self) -> int:
        """Free bits of the half that this KME issues from, pads included."""
        return await self._store_thread.run(self._halves.free_bits)

    async def _enqueue(self, request: KeyRequest, is_abandoned: Callable[[], bool]) -> tuple[Key, ...]:
        keys: asyncio.Future[tuple[Key, ...]] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait(_Waiting(request=request, is_abandoned=is_abandoned, keys=keys))
        except asyncio.QueueFull:
            raise Unavailable(f"{MAX_WAITING} requests are waiting already; request again later") from None
        return await keys

    async def _serve(self) -> None:
        while True:
            batch = [await self._queue.get()]
            num_keys = batch[0].request.num_keys
            while not self._queue.empty() and num_keys < MAX_KEYS_IN_BATCH:
                batch.append(self._queue.get_nowait())
                num_keys += batch[-1].request.num_keys
            try:
                await self._serve_batch(batch)
            except asyncio.CancelledError:
                for waiting in batch:
                    waiting.keys.cancel()
                raise

    async def _serve_batch(self, batch: Sequence[_Waiting]) -> None:
        for waiting in batch:
            if waiting.is_abandoned():
                waiting.end(Unavailable("the client has gone"))
        batch = [waiting for waiting in batch if not waiting.keys.done()]
        if not batch:
            return
        try:
            outcomes = await self._store_thread.run(self._halves.serve, [one.request for one in batch])
        except DiqkdError as error:
            outcomes = [error] * len(batch)
        except Exception as error:
            _log.error("requests failed by a fault of this program: %s", type(error).__name__)
            outcomes = [Unavailable("the service has a fault")] * len(batch)
        self._counts = {}
        for waiting, outcome in zip(batch, outcomes, strict=True):
            waiting.end(outcome)
