"""The pool of keys behind the API: requests of many clients, few commits.

A commit waits for the disk and an exchange with the other KME costs 128 bits of key, so that all requests
that have come meanwhile share the next one. A key is handed out when the other KME has stated, under a
tag, that it holds the same bits for the slave, durably; and after they have left this node's ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from diqkd_postproc.delivery.data_formats import Key
from diqkd_postproc.delivery.exchange_messages import Group, Range
from diqkd_postproc.delivery.kme_connection import KmeConnection
from diqkd_postproc.delivery.refusals import Unavailable
from diqkd_postproc.delivery.reservations import Owners, Reservations
from diqkd_postproc.delivery.store_thread import StoreThread
from diqkd_postproc.key_store import GeneratedKeys, HeldKey, Piece
from diqkd_postproc.protocol.errors import DiqkdError, InsufficientKeyError

MAX_KEYS_IN_EXCHANGE = 512
MAX_WAITING = 1024
MAX_ATTEMPTS = 3
COUNTS_LIFETIME_S = 0.5
_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class _KeyRequestInProgress:
    """One client's request for keys, new ones (`number`, `size`) or known ones (`labels`)."""

    owners: Owners
    is_abandoned: Callable[[], bool]
    keys: asyncio.Future[tuple[Key, ...]]
    number: int = 0
    size: int = 0
    labels: tuple[str, ...] = ()
    pieces: tuple[Piece, ...] = ()
    attempts: int = 0

    @property
    def num_keys(self) -> int:
        return self.number or len(self.labels)

    def fail(self, error: Exception) -> None:
        if not self.keys.done():
            self.keys.set_exception(error)

    def succeed(self, keys: tuple[Key, ...]) -> None:
        if not self.keys.done():
            self.keys.set_result(keys)
        else:
            _log.warning("%d keys have left the store for a client that has gone", len(keys))


class KeyPool:
    """Gives keys to the SAEs of one KME.

    Two tasks, one for new and one for known keys, gather the requests that are waiting, until they
    want MAX_KEYS_IN_EXCHANGE keys. At most MAX_WAITING requests wait in each.
    """

    def __init__(
        self,
        generated: GeneratedKeys,
        reservations: Reservations,
        connection: KmeConnection,
        store_thread: StoreThread,
    ) -> None:
        self._generated = generated
        self._reservations = reservations
        self._connection = connection
        self._store_thread = store_thread
        self._new: asyncio.Queue[_KeyRequestInProgress] = asyncio.Queue(MAX_WAITING)
        self._known: asyncio.Queue[_KeyRequestInProgress] = asyncio.Queue(MAX_WAITING)
        self._to_cancel: tuple[Piece, ...] = ()
        self._cancelling = asyncio.Lock()
        self._held: tuple[HeldKey, ...] | None = None
        self._held_until = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        connection.on_connect = self._cancel_left_overs

    @property
    def is_connected(self) -> bool:
        """Whether the other KME can be reached."""
        return self._connection.is_up

    async def start(self) -> None:
        """Begin to deliver; what an earlier process left undone is cancelled when the peer is connected."""
        self._to_cancel = await self._store_thread.run(self._reservations.left_over)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._serve(self._new, self._allot_all)),
            loop.create_task(self._serve(self._known, self._collect_all)),
        ]

    async def settled(self) -> None:
        """Return when every reservation that nobody got is cancelled, with the other KME."""
        while self._to_cancel or self._cancelling.locked():
            await self._cancel_left_overs()
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Refuse every further request."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def allot(
        self, master: str, slave: str, number: int, size: int, is_abandoned: Callable[[], bool]
    ) -> tuple[Key, ...]:
        """New keys of `size` bits that the other KME holds for `slave`; gone from the pool.

        Returns `number` keys. is_abandoned: whether the client has gone, for which nothing is delivered.
        Raises Unavailable where the other KME is away, refuses or does not agree, InsufficientKeyError where
        too few bits are left.
        """
        if not self._connection.is_up:
            raise Unavailable("the other KME cannot be reached; request again later")
        request = self._begin(master, slave, is_abandoned, number=number, size=size)
        return await self._enqueue(self._new, request)

    async def collect(
        self, master: str, slave: str, key_ids: Sequence[str], is_abandoned: Callable[[], bool]
    ) -> tuple[Key, ...]:
        """The keys of these ids, made for `slave` at the request of `master`; all or none, once.

        Raises BadRequest for an id that is not here any more, Unauthorized for one made for other SAEs;
        errors of the store leave the keys where they were.
        """
        owners = Owners(master=master, slave=slave)
        labels = await self._store_thread.run(self._reservations.claim, owners, key_ids)
        try:
            return await self._enqueue(self._known, self._begin(master, slave, is_abandoned, labels=labels))
        except BaseException:
            await asyncio.shield(self._store_thread.run(self._reservations.unclaim, labels))
            raise

    async def counts(self, size: int) -> tuple[int, int]:
        """(keys of `size` bits that are left, most that there were), of what both nodes hold.

        Up to date with this node's requests, and by COUNTS_LIFETIME_S with the peer's.
        """
        now = asyncio.get_running_loop().time()
        if self._held is None or now > self._held_until:
            self._held = await self._store_thread.run(self._generated.held)
            self._held_until = now + COUNTS_LIFETIME_S
        known = {key.session_id for key in self._connection.keys}
        sessions = set(self._connection.sessions) if self._connection.is_up else known
        held = [key for key in self._held if key.session_id in sessions]
        return sum(key.available // size for key in held), sum(key.num_bits // size for key in held)

    def _begin(
        self,
        master: str,
        slave: str,
        is_abandoned: Callable[[], bool],
        *,
        number: int = 0,
        size: int = 0,
        labels: tuple[str, ...] = (),
    ) -> _KeyRequestInProgress:
        return _KeyRequestInProgress(
            owners=Owners(master=master, slave=slave),
            is_abandoned=is_abandoned,
            keys=asyncio.get_running_loop().create_future(),
            number=number,
            size=size,
            labels=labels,
        )

    async def _enqueue(
        self, queue: asyncio.Queue[_KeyRequestInProgress], request: _KeyRequestInProgress
    ) -> tuple[Key, ...]:
        try:
            queue.put_nowait(request)
        except asyncio.QueueFull:
            raise Unavailable(f"{MAX_WAITING} requests are waiting already; request again later") from None
        return await request.keys

    async def _serve(
        self,
        queue: asyncio.Queue[_KeyRequestInProgress],
        work: Callable[[list[_KeyRequestInProgress]], Awaitable[None]],
    ) -> None:
        while True:
            requests = [await queue.get()]
            num_keys = requests[0].num_keys
            while not queue.empty() and num_keys < MAX_KEYS_IN_EXCHANGE:
                requests.append(queue.get_nowait())
                num_keys += requests[-1].num_keys
            try:
                self._held = None
                await work(requests)
                self._held = None
            except DiqkdError as error:
                for request in requests:
                    request.fail(error)
            except Exception as error:
                _log.error("requests failed by a fault of this program: %s", type(error).__name__)
                for request in requests:
                    request.fail(Unavailable("the service has a fault"))
            except asyncio.CancelledError:
                for request in requests:
                    request.keys.cancel()
                raise

    async def _allot_all(self, requests: list[_KeyRequestInProgress]) -> None:
        if not self._connection.is_up:
            raise Unavailable("the other KME cannot be reached; request again later")
        requests = _not_abandoned(requests)
        try:
            failed = await self._store_thread.run(self._reserve_all, requests, self._connection.sessions)
            for request, error in failed:
                request.fail(error)
            reserved = [request for request in requests if request.pieces]
            await self._agree_and_deliver(reserved)
        finally:  # what was reserved and got by nobody, whatever has happened
            self._to_cancel += tuple(piece for request in requests for piece in request.pieces)
            for request in requests:
                request.pieces = ()
        if self._to_cancel:
            await self._cancel_left_overs()

    async def _agree_and_deliver(self, reserved: Sequence[_KeyRequestInProgress]) -> None:
        if not reserved:
            return
        groups = [
            Group(kind="keys", ranges=[Range.of(piece) for piece in request.pieces]) for request in reserved
        ]
        outcomes = list(zip(reserved, await self._connection.exchange(groups), strict=True))
        agreed = _not_abandoned([request for request, outcome in outcomes if outcome == "done"])
        keys = await self._store_thread.run(self._deliver_all, agreed)
        for request, delivered in zip(agreed, keys, strict=True):
            request.pieces = ()
            request.succeed(delivered)
        if forbidden := [request for request, outcome in outcomes if outcome == "forbidden"]:
            await self._take_back(forbidden)
        if taken := [request for request, outcome in outcomes if outcome == "taken"]:
            await self._try_again(taken)

    def _reserve_all(
        self, requests: Sequence[_KeyRequestInProgress], sessions: Sequence[str]
    ) -> list[tuple[_KeyRequestInProgress, InsufficientKeyError]]:
        """Reserve for all requests, in one transaction for each size; those for which no bits are left."""
        failed = []
        for size in {request.size for request in requests}:
            alike = [request for request in requests if request.size == size]
            try:
                self._reserve_alike(alike, sessions)
                continue
            except InsufficientKeyError as error:
                if len(alike) == 1:
                    failed.append((alike[0], error))
                    continue
            for request in alike:
                try:
                    self._reserve_alike([request], sessions)
                except InsufficientKeyError as error:
                    failed.append((request, error))
        return failed

    def _reserve_alike(self, requests: Sequence[_KeyRequestInProgress], sessions: Sequence[str]) -> None:
        owners = [request.owners for request in requests for _ in range(request.number)]
        pieces = iter(self._reservations.reserve(owners, requests[0].size, sessions))
        for request in requests:
            request.pieces = tuple(next(pieces) for _ in range(request.number))

    def _deliver_all(self, requests: Sequence[_KeyRequestInProgress]) -> list[tuple[Key, ...]]:
        keys = iter(self._reservations.deliver([piece for request in requests for piece in request.pieces]))
        return [tuple(next(keys) for _ in request.pieces) for request in requests]

    async def _take_back(self, forbidden: Sequence[_KeyRequestInProgress]) -> None:
        """The peer's configuration differs from ours; it has set nothing aside, so the bits are free."""
        await self._store_thread.run(self._reservations.take_back, _pieces_of(forbidden))
        for request in forbidden:
            request.pieces = ()
            _log.error(
                "the other KME does not let %s and %s share keys", request.owners.master, request.owners.slave
            )
            request.fail(Unavailable("the other KME does not let these SAEs share keys"))

    async def _try_again(self, taken: Sequence[_KeyRequestInProgress]) -> None:
        """The peer has issued those bits already; give them up and take others."""
        pieces = _pieces_of(taken)
        _log.warning("the other KME refused %d pieces: its store has no such free bits", len(pieces))
        await self._store_thread.run(self._reservations.give_up, pieces)
        for request in taken:
            request.attempts += 1
            request.pieces = ()
            if request.attempts >= MAX_ATTEMPTS or self._new.full():
                request.fail(
                    Unavailable("the two KMEs do not agree on which bits are free; request again later")
                )
            else:
                self._new.put_nowait(request)

    async def _cancel_left_overs(self) -> None:
        """Request the peer to free what no client received, then free it here."""
        async with self._cancelling:
            pieces = self._to_cancel[:MAX_KEYS_IN_EXCHANGE]
            if not pieces and not self._connection.peer_needs_pads:
                return
            try:
                await self._connection.exchange([Group(kind="cancel", ranges=[Range.of(p)]) for p in pieces])
                await self._store_thread.run(self._reservations.give_up, pieces)
            except DiqkdError as error:
                _log.warning("%d pieces are still to be cancelled: %s", len(pieces), error)
            else:
                self._to_cancel = tuple(piece for piece in self._to_cancel if piece not in pieces)

    async def _collect_all(self, requests: list[_KeyRequestInProgress]) -> None:
        waiting = _not_abandoned(requests)
        labels = [label for request in waiting for label in request.labels]
        try:
            keys = iter(await self._store_thread.run(self._reservations.collect, labels))
        except InsufficientKeyError:  # someone else uses the store; let the others not suffer from it
            if len(waiting) == 1:
                raise
            for request in waiting:
                with contextlib.suppress(DiqkdError):
                    request.succeed(await self._store_thread.run(self._reservations.collect, request.labels))
            raise
        for request in waiting:
            request.succeed(tuple(next(keys) for _ in request.labels))


def _pieces_of(requests: Sequence[_KeyRequestInProgress]) -> list[Piece]:
    return [piece for request in requests for piece in request.pieces]


def _not_abandoned(requests: Sequence[_KeyRequestInProgress]) -> list[_KeyRequestInProgress]:
    """The requests of clients that are still there; the others end here."""
    for request in requests:
        if request.is_abandoned():
            request.fail(Unavailable("the client has gone"))
    return [request for request in requests if not request.keys.done()]
