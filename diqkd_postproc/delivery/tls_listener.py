"""A listening socket for clients with a certificate: connections are counted from the moment of accepting.

asyncio's own TLS server has no bound on handshakes under way, and sends no alert (`tls_connection`). Who has
shown no certificate cannot keep out who has: where too many handshakes are under way, the oldest one ends.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable

from diqkd_postproc.delivery.bounded_log import BoundedLog
from diqkd_postproc.delivery.configuration import host_and_port
from diqkd_postproc.delivery.tls_connection import LINGER_S, TlsConnection

HANDSHAKE_S = 10.0
BACKLOG = 128
MAX_HANDSHAKES = 128
_log = logging.getLogger(__name__)
OnClient = Callable[[TlsConnection], Awaitable[None]]


class TlsListener:
    """Calls `on_client` for every client that has shown a certificate; closes the connection after that.

    context: may be exchanged while it listens, for connections to come. max_connections: clients with a
    certificate at a time; what exceeds it is closed. Handshakes under way are bounded by MAX_HANDSHAKES and
    HANDSHAKE_S; failed ones are logged in `refusals`.
    """

    def __init__(
        self, context: ssl.SSLContext, on_client: OnClient, max_connections: int, refusals: BoundedLog
    ) -> None:
        self.context = context
        self._on_client = on_client
        self._max_connections = max_connections
        self._refusals = refusals
        self._tasks: set[asyncio.Task[None]] = set()
        self._handshakes: dict[TlsConnection, asyncio.TimerHandle] = {}
        self._server: asyncio.Server | None = None

    async def start(self, address: str) -> tuple[str, int]:
        """Listen; returns the address, with the port that the system chose where 0 was given."""
        host, port = host_and_port(address)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: TlsConnection(self.context, self), host, port, backlog=BACKLOG
        )
        name = self._server.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    def stop_listening(self) -> None:
        """Accept nobody any more; those who are connected stay."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._handshakes):
            connection.abort()

    async def close(self, seconds: float = 0.0) -> None:
        """Give the connections some time to end by themselves, then end them."""
        self.stop_listening()
        if self._tasks and seconds:
            await asyncio.wait(list(self._tasks), timeout=seconds)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def opened(self, connection: TlsConnection) -> None:
        """Count a handshake; end the oldest where there are too many."""
        if len(self._handshakes) >= MAX_HANDSHAKES:
            oldest = next(iter(self._handshakes))
            self._forget(oldest)
            oldest.abort()
        self._handshakes[connection] = asyncio.get_running_loop().call_later(
            HANDSHAKE_S, connection.refuse, "the handshake took too long"
        )

    def secured(self, connection: TlsConnection) -> None:
        """Serve a client that has shown its certificate."""
        self._forget(connection)
        if len(self._tasks) >= self._max_connections:
            self._refusals.warning("refused a connection: %d are open", self._max_connections)
            connection.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def refused(self, connection: TlsConnection, reason: str) -> None:
        """Log a failed handshake; it counts as one until its alert has had the time to arrive."""
        if timer := self._handshakes.get(connection):
            timer.cancel()
            self._handshakes[connection] = asyncio.get_running_loop().call_later(LINGER_S, connection.abort)
        self._refusals.warning("refused a TLS handshake from %s: %s", connection.address, reason)

    def lost(self, connection: TlsConnection) -> None:
        """Forget a handshake that did not end otherwise."""
        self._forget(connection)

    def _forget(self, connection: TlsConnection) -> None:
        if timer := self._handshakes.pop(connection, None):
            timer.cancel()

    async def _serve(self, connection: TlsConnection) -> None:
        try:
            await self._on_client(connection)
        except (OSError, asyncio.CancelledError):
            pass  # a client that went, or the service stops
        except Exception as error:
            _log.error("a connection ended by a fault of this program: %s", type(error).__name__)
        finally:
            connection.abort()
