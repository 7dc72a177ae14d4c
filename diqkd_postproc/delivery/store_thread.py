"""Thread of the key store: a commit waits for the disk, and the event loop must not.

A single thread keeps the store's changes in the order in which they were requested.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class StoreThread:
    """Runs functions one after the other, off the event loop."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="key store")

    async def run(self, function: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
        """The function's result. Once begun it runs to its end, even if the caller is cancelled.

        What the function raises comes through. RuntimeError after `close`.
        """
        future = self._executor.submit(function, *arguments, **named)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Wait for what was submitted, accept nothing more."""
        self._executor.shutdown(wait=True)
