"""Two parties over loopback TCP, each in a thread of its own, with real key stores."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.protocol.errors import DiqkdError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import Role
from diqkd_postproc.records.sealed_record import RoundRecord
from diqkd_postproc.session import SessionResult, run_session

Stores = tuple[KeyStore, KeyStore]
Records = tuple[RoundRecord, RoundRecord]


def make_stores(folder: Path, parameters: ProtocolParameters, name: str = "keys") -> Stores:
    return KeyStore.create_pair(
        folder / "alice" / f"{name}.db", folder / "bob" / f"{name}.db", parameters, os.urandom
    )


def both(
    records: Records,
    stores: Stores,
    *,
    bob_listens: bool = True,
    through: Callable[[int], int] = lambda port: port,
) -> list[SessionResult | DiqkdError]:
    """Alice's and Bob's result or error; `through` puts something on the line, port by port."""
    bound: queue.Queue[int] = queue.Queue()

    def party(number: int, listens: bool) -> SessionResult:
        role: Role = "bob" if number else "alice"
        return run_session(
            role,
            records[number],
            stores[number],
            records[number].parameters,
            "127.0.0.1",
            0 if listens else through(bound.get(timeout=300)),
            listens,
            timeout=300,
            listening=lambda host, port: bound.put(port),
        )

    with ThreadPoolExecutor(2) as threads:
        futures: list[Future[SessionResult]] = [
            threads.submit(party, number, bool(number) == bob_listens) for number in (0, 1)
        ]
        results: list[SessionResult | DiqkdError] = []
        for future in futures:
            error = future.exception(60)
            assert error is None or isinstance(error, DiqkdError), error
            results.append(future.result() if error is None else error)
    return results
