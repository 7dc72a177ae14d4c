"""Two KMEs without sockets: stores, reservations and exchanges, joined by a wire that a test can bend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from diqkd_postproc.delivery.authenticated_exchange import AuthenticatedExchange
from diqkd_postproc.delivery.exchange_messages import (
    ANSWER,
    FAILURE,
    LENGTH_BYTES,
    REQUEST,
    TAG_BYTES,
    Group,
    Outcome,
    Range,
)
from diqkd_postproc.delivery.reservations import Owners, Reservations
from diqkd_postproc.delivery.store_thread import StoreThread
from diqkd_postproc.delivery.tag_pads import TagPads
from diqkd_postproc.key_store import KeyStore, Piece
from tests.support.delivery_trial import ALICE_KME, BOB_KME, configuration_of

Wire = Callable[[bytes], Sequence[bytes]]
SESSIONS = ("session-1",)


def straight(data: bytes) -> Sequence[bytes]:
    return [data]


def parts(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Kind, tag and body of a frame."""
    assert int.from_bytes(data[:LENGTH_BYTES], "big") == len(data) - LENGTH_BYTES
    rest = data[LENGTH_BYTES:]
    return rest[:1], rest[1 : 1 + TAG_BYTES], rest[1 + TAG_BYTES :]


class JoinedKme:
    """One side; `connect` joins two, as hello does."""

    def __init__(self, role: str, certificates: Path, folder: Path) -> None:
        self.configuration = configuration_of(role, certificates, folder)
        self.role = role
        self.store = KeyStore.open(self.configuration.kme.key_store)
        self.store_thread = StoreThread()
        self.pads = TagPads(self.store.generated, role)
        self.reservations = Reservations(self.store.generated, self.configuration)
        me, peer = (ALICE_KME, BOB_KME) if role == "alice" else (BOB_KME, ALICE_KME)
        self.exchange = AuthenticatedExchange(
            me, peer, role, self.pads, self.reservations.settle, self.store_thread
        )
        self.pads.prepare()

    def close(self) -> None:
        self.store_thread.close()
        self.store.close()

    def reserve(self, owners: Owners, count: int = 1, size: int = 128) -> tuple[Piece, ...]:
        return self.reservations.reserve([owners] * count, size, SESSIONS)


def hello(one: JoinedKme, other: JoinedKme) -> None:
    one.exchange.usable_by_peer = set(other.pads.usable(one.role))
    other.exchange.usable_by_peer = set(one.pads.usable(other.role))


def group(kind: str, pieces: Sequence[Piece]) -> Group:
    return Group.model_validate({"kind": kind, "ranges": [Range.of(piece) for piece in pieces]})


async def ask(
    asking: JoinedKme,
    asked: JoinedKme,
    groups: Sequence[Group],
    request_wire: Wire = straight,
    answer_wire: Wire = straight,
    timeout_s: float = 300.0,
) -> list[Outcome]:
    """One exchange, every frame passing its wire; errors of either side are raised."""

    async def carry(data: bytes) -> None:
        for request in request_wire(data):
            kind, tag, body = parts(request)
            assert kind == REQUEST
            for frame in answer_wire(await asked.exchange.answer(tag, body)):
                kind, tag, body = parts(frame)
                assert kind in (ANSWER, FAILURE)
                receive = (
                    asking.exchange.receive_answer if kind == ANSWER else asking.exchange.receive_failure
                )
                receive(tag, body)

    carrying: list[asyncio.Task[None]] = []
    asking_task = asyncio.create_task(
        asking.exchange.request(
            groups, SESSIONS, lambda data: carrying.append(asyncio.create_task(carry(data))), timeout_s
        )
    )
    while not asking_task.done():
        await asyncio.sleep(0.001)
        for task in carrying:
            if task.done() and task.exception() is not None:
                asking_task.cancel()
                await asyncio.gather(asking_task, return_exceptions=True)
                await task
    await asyncio.gather(*carrying)
    return await asking_task
