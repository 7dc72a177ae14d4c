"""The key delivery service of one node, put together: `diqkd serve`.

Stopping (SIGTERM or SIGINT) finishes the requests that are being served, then closes connection and store. A
kill at any point loses at most keys that were on their way to a client, and issues nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from diqkd_postproc.authentication import one_time_tag
from diqkd_postproc.delivery.api_listener import ApiListener
from diqkd_postproc.delivery.audit_log import AuditLog
from diqkd_postproc.delivery.configuration import DeliveryConfiguration
from diqkd_postproc.delivery.http_connection import HttpLimits
from diqkd_postproc.delivery.key_delivery_api import KeyDeliveryApi
from diqkd_postproc.delivery.key_pool import KeyPool
from diqkd_postproc.delivery.kme_connection import KmeConnection
from diqkd_postproc.delivery.reservations import Reservations
from diqkd_postproc.delivery.store_thread import StoreThread
from diqkd_postproc.delivery.tag_pads import TagPads
from diqkd_postproc.delivery.tls import service_context
from diqkd_postproc.key_store import KeyStore
from diqkd_postproc.protocol.errors import StorageError

STOPPING_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningService:
    """A service that is up: where SAEs connect, and where the other KME does, if it has to.

    Addresses are (host, port) as bound; `kme_address` is None where this KME connects to the other.
    """

    api_address: tuple[str, int]
    kme_address: tuple[str, int] | None
    kme_connection: KmeConnection
    pool: KeyPool


@asynccontextmanager
async def running_service(
    configuration: DeliveryConfiguration, limits: HttpLimits | None = None
) -> AsyncIterator[RunningService]:
    """A service that is up while the block runs. Everything that can be wrong with files is raised first.

    limits: bounds of HTTP connections, None for the defaults. Raises StorageError or ParameterError for
    files, credentials and addresses that cannot be used.
    """
    kme = configuration.kme
    async with contextlib.AsyncExitStack() as stack:
        context = service_context(kme.certificate, kme.private_key, kme.authority)
        audit_log = stack.enter_context(contextlib.closing(AuditLog(kme.audit_log)))
        store = stack.enter_context(KeyStore.open(kme.key_store, credential=kme.credential()))
        store_thread = stack.enter_context(contextlib.closing(StoreThread()))
        pads = TagPads(store.generated, kme.role)
        reservations = Reservations(store.generated, configuration)
        connection = KmeConnection(configuration, pads, reservations.settle, store_thread)
        pool = KeyPool(store.generated, reservations, connection, store_thread)
        listener = ApiListener(configuration, KeyDeliveryApi(configuration, pool, audit_log), context, limits)
        await store_thread.run(one_time_tag, bytes(32), bytes(8), b"")  # compiled before anybody waits for it
        try:
            await pool.start()
            stack.push_async_callback(pool.close)
            kme_address = await connection.start()
            stack.push_async_callback(connection.close)
            api_address = await listener.start()
            stack.push_async_callback(listener.close, STOPPING_S)
        except OSError as error:
            raise StorageError(f"cannot listen: {error.strerror}; choose another address") from None
        audit_log.write("start", "up")
        stack.callback(audit_log.write, "stop", "down")
        yield RunningService(
            api_address=api_address, kme_address=kme_address, kme_connection=connection, pool=pool
        )


async def serve_until_stopped(
    configuration: DeliveryConfiguration, on_start: Callable[[RunningService], None]
) -> None:
    """Run the service until SIGTERM or SIGINT.

    on_start: called once when all listeners are up. Errors as `running_service`.
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
