"""A pool of known keys behind the key delivery API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from diqkd_postproc.delivery.data_formats import Key

ID_1 = "bc490419-7d60-487f-adc1-4ddcc177c139"
CANARY = b"\xde\xad\xbe\xef" * 8


class KnownPool:
    """A pool double: what was asked of it, and the error that it was told to raise."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.error: Exception | None = None
        self.waiting = asyncio.Event()
        self.going = asyncio.Event()
        self.going.set()
        self.was_abandoned = False

    async def allot(
        self, master: str, slave: str, number: int, size: int, is_abandoned: Callable[[], bool]
    ) -> tuple[Key, ...]:
        self.asked.append((master, slave, number, size))
        self.waiting.set()
        await self.going.wait()
        self.was_abandoned = is_abandoned()
        if self.error:
            raise self.error
        return tuple(Key(key_id=ID_1, key=CANARY[: size // 8]) for _ in range(number))

    async def collect(
        self, master: str, slave: str, key_ids: Sequence[str], is_abandoned: Callable[[], bool]
    ) -> tuple[Key, ...]:
        self.asked.append((master, slave, *key_ids))
        if self.error:
            raise self.error
        return tuple(Key(key_id=key_id, key=CANARY) for key_id in key_ids)

    async def counts(self, size: int) -> tuple[int, int]:
        return 7, 374

    async def free_bits(self) -> int:
        if self.error:
            raise self.error
        return 4711
