"""The pool between clients and the store: few transactions, and an answer to everybody whatever happens."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from diqkd_postproc.delivery import key_pool
from diqkd_postproc.delivery.data_formats import Key
from diqkd_postproc.delivery.key_halves import KeyRequest
from diqkd_postproc.delivery.key_pool import KeyPool
from diqkd_postproc.delivery.refusals import BadRequest, Unavailable
from diqkd_postproc.delivery.store_thread import StoreThread
from diqkd_postproc.protocol.errors import DiqkdError, StorageError

KEY = Key(key_id="id", key=b"\xde\xad\xbe\xef")


class Halves:
    """Batches that were served; each waits for `going`."""

    def __init__(self) -> None:
        self.batches: list[list[KeyRequest]] = []
        self.going, self.begun = threading.Event(), threading.Event()
        self.going.set()
        self.error: Exception | None = None
        self.num_counts = 0

    def serve(self, requests: Sequence[KeyRequest]) -> list[tuple[Key, ...] | DiqkdError]:
        self.batches.append(list(requests))
        self.begun.set()
        self.going.wait(60)
        if self.error:
            raise self.error
        return [BadRequest("none") if request.size == 8 else (KEY,) for request in requests]

    def counts(self, size: int) -> tuple[int, int]:
        self.num_counts += 1
        return size, self.num_counts

    def free_bits(self) -> int:
        return 42


def run(scenario: Callable[[KeyPool, Halves], Awaitable[None]]) -> Halves:
    async def whole() -> Halves:
        halves, thread = Halves(), StoreThread()
        pool = KeyPool(halves, thread)  # type: ignore[arg-type]
        pool.start()
        await scenario(pool, halves)
        halves.going.set()
        await pool.close()
        thread.close()
        return halves

    return asyncio.run(whole())


def ask(pool: KeyPool, size: int = 64, is_abandoned: Callable[[], bool] = lambda: False) -> asyncio.Task[Any]:
    return asyncio.create_task(pool.allot("master", "slave", 1, size, is_abandoned))


async def begun(halves: Halves) -> None:
    assert await asyncio.to_thread(halves.begun.wait, 60)


def test_requests_that_wait_share_a_transaction_each_with_its_own_answer() -> None:
    async def scenario(pool: KeyPool, halves: Halves) -> None:
        halves.going.clear()
        first = ask(pool)
        await begun(halves)
        waiting = [
            ask(pool),
            ask(pool, size=8),
            asyncio.create_task(pool.collect("m", "s", ["a", "b"], bool)),
        ]
        await asyncio.sleep(0)
        halves.going.set()
        answers = await asyncio.gather(first, *waiting, return_exceptions=True)
        assert answers[0] == answers[1] == answers[3] == (KEY,) and isinstance(answers[2], BadRequest)
        assert await pool.free_bits() == 42

    batches = run(scenario).batches
    assert [len(batch) for batch in batches] == [1, 3] and batches[1][2].key_ids == ("a", "b")


def test_a_batch_ends_where_it_wants_enough_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_pool, "MAX_KEYS_IN_BATCH", 2)

    async def scenario(pool: KeyPool, halves: Halves) -> None:
        await asyncio.gather(*(ask(pool) for _ in range(5)))

    assert [len(batch) for batch in run(scenario).batches] == [2, 2, 1]


def test_nothing_is_issued_for_clients_that_have_gone(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(pool: KeyPool, halves: Halves) -> None:
        with pytest.raises(Unavailable, match="the client has gone"):
            await ask(pool, is_abandoned=lambda: True)
        assert halves.batches == []
        halves.going.clear()
        late = ask(pool)
        await begun(halves)
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        halves.going.set()
        assert await ask(pool) == (KEY,)

    run(scenario)
    assert "1 keys have left the store for a client that has gone" in caplog.text


@pytest.mark.parametrize(
    ("error", "expected"),
    [(StorageError("the disk is full"), StorageError), (ZeroDivisionError("deadbeef"), Unavailable)],
)
def test_errors_of_the_store_are_everybodys_answer(
    error: Exception, expected: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(pool: KeyPool, halves: Halves) -> None:
        halves.error = error
        for answer in await asyncio.gather(ask(pool), ask(pool), return_exceptions=True):
            assert isinstance(answer, expected)
        halves.error = None
        assert await ask(pool) == (KEY,), "the pool goes on"

    run(scenario)
    assert "deadbeef" not in caplog.text


def test_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_pool, "MAX_WAITING", 2)

    async def scenario(pool: KeyPool, halves: Halves) -> None:
        halves.going.clear()
        first = ask(pool)
        await begun(halves)
        waiting = [ask(pool) for _ in range(3)]
        with pytest.raises(Unavailable, match="2 requests are waiting"):
            await waiting[2]
        halves.going.set()
        assert await asyncio.gather(first, *waiting[:2]) == [(KEY,)] * 3

    run(scenario)


def test_closing_cancels_who_waits(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(pool: KeyPool, halves: Halves) -> None:
        halves.going.clear()
        first = ask(pool)
        await begun(halves)
        await pool.close()
        assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], asyncio.CancelledError)

    with caplog.at_level(logging.ERROR):
        run(scenario)
    assert not caplog.records
    asyncio.run(KeyPool(Halves(), StoreThread()).close())  # type: ignore[arg-type]


def test_counts_are_fresh_after_every_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_pool, "COUNTS_LIFETIME_S", 3600.0)

    async def scenario(pool: KeyPool, halves: Halves) -> None:
        assert await pool.counts(64) == await pool.counts(64) == (64, 1)
        await ask(pool)
        assert await pool.counts(64) == (64, 2)

    run(scenario)
