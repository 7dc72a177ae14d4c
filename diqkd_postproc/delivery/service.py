"""The key delivery service of one node, put together: `diqkd serve`.

Stopping (SIGTERM or SIGINT) finishes the requests that are being served, then closes the store. A kill at
any point loses at most keys that were on their way to a client, and issues nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from diqkd_postproc.authentication import one_time_tag
from diqkd_postproc.delivery.api_listener import ApiListener
from diqkd_postproc.delivery.audit_log import AuditLog
from diqkd_postproc.delivery.bounded_log import BoundedLog
from diqkd_postproc.delivery.configuration import DeliveryConfiguration
from diqkd_postproc.delivery.http_connection import HttpLimits
from diqkd_postproc.delivery.key_delivery_api import KeyDeliveryApi
from diqkd_postproc.delivery.key_halves import KeyHalves
from diqkd_postproc.delivery.key_pool import KeyPool
from diqkd_postproc.delivery.metrics import Metrics
from diqkd_postproc.delivery.store_thread import StoreThread
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.protocol.errors import StorageError

STOPPING_S = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningService:
    """A service that is up: where SAEs connect, (host, port) as bound."""

    api_address: tuple[str, int]
    pool: KeyPool
    listener: ApiListener


@asynccontextmanager
async def running_service(
    configuration: DeliveryConfiguration, limits: HttpLimits | None = None
) -> AsyncIterator[RunningService]:
    """A service that is up while the block runs. Everything that can be wrong with files is raised first.

    limits: bounds of HTTP connections, None for the defaults. Raises StorageError or ParameterError for
    files, credentials and addresses that cannot be used.
    """
    kme = configuration.kme
    refusals = BoundedLog(_log)
    async with contextlib.AsyncExitStack() as stack:
        audit_log = stack.enter_context(contextlib.closing(AuditLog(kme.audit_log)))
        store = stack.enter_context(KeyStore.open(kme.key_store, credential=kme.credential()))
        store_thread = stack.enter_context(contextlib.closing(StoreThread()))
        halves = KeyHalves(store.generated, kme.role)
        pool = KeyPool(halves, store_thread)
        metrics = Metrics()
        api = KeyDeliveryApi(configuration, pool, audit_log, metrics, refusals)
        listener = ApiListener(configuration, api, refusals, limits)
        metrics.watch(lambda: listener.num_connections, lambda: refusals.num_warnings)
        await store_thread.run(one_time_tag, bytes(32), bytes(8), b"")  # compiled before anybody waits for it
        free_bits = await store_thread.run(halves.free_bits)
        pool.start()
        stack.push_async_callback(pool.close)
        try:
            api_address = await listener.start()
        except OSError as error:
            raise StorageError(
                f"cannot listen at {configuration.api.listen}: {error.strerror}; choose another address"
            ) from None
        stack.push_async_callback(listener.close, STOPPING_S)
        audit_log.write("start", "up")
        stack.callback(audit_log.write, "stop", "down")
        _log.info("%s issues from %d free bits of %s's half", kme.id, free_bits, kme.role)
        yield RunningService(api_address=api_address, pool=pool, listener=listener)
        _log.info("%s is stopping: requests that are being served end first", kme.id)
    _log.info("%s has stopped", kme.id)


async def serve_until_stopped(
    configuration: DeliveryConfiguration, on_start: Callable[[RunningService], None]
) -> None:
    """Run the service until SIGTERM or SIGINT.

    on_start: called once when the listener is up. Errors as `running_service`.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stopped.set)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stopped.set))
    async with running_service(configuration) as service:
        on_start(service)
        await stopped.wait()
