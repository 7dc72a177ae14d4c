"""A listening socket where nothing is read before TLS: connections are counted from the moment of accepting.

asyncio's own TLS server has no bound on handshakes under way, and upgrading a stream that has begun to read
would let bytes from before the handshake pass for bytes after it. Here a new connection is paused at once,
counted, and given a reader only when its handshake is done. Who has shown no certificate cannot keep out who
has: where too many handshakes are under way, the oldest one ends.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable

from diqkd_postproc.delivery.configuration import host_and_port

HANDSHAKE_S = 10.0
BACKLOG = 128
MAX_HANDSHAKES = 128
_log = logging.getLogger(__name__)
OnClient = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class TlsListener:
    """Calls `on_client` for every client that has shown a certificate; closes the connection after that.

    max_connections: clients with a certificate at a time; what exceeds it is closed. Handshakes under way
    are bounded by MAX_HANDSHAKES and HANDSHAKE_S.
    """

    def __init__(self, context: ssl.SSLContext, on_client: OnClient, max_connections: int) -> None:
        self._context = context
        self._on_client = on_client
        self._max_connections = max_connections
        self._tasks: set[asyncio.Task[None]] = set()
        self._handshakes: dict[asyncio.Transport, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None

    async def start(self, address: str) -> tuple[str, int]:
        """Listen; returns the address, with the port that the system chose where 0 was given."""
        host, port = host_and_port(address)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Gate(self._enter), host, port, backlog=BACKLOG)
        name = self._server.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    def stop_listening(self) -> None:
        """Accept nobody any more; those who are connected stay."""
        if self._server is not None:
            self._server.close()

    async def close(self, seconds: float = 0.0) -> None:
        """Give the connections some time to end by themselves, then end them."""
        self.stop_listening()
        if self._tasks and seconds:
            await asyncio.wait(list(self._tasks), timeout=seconds)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _enter(self, raw: asyncio.Transport) -> None:
        if len(self._handshakes) >= MAX_HANDSHAKES:
            next(iter(self._handshakes.values())).cancel()
        task = asyncio.get_running_loop().create_task(self._serve(raw))
        self._handshakes[raw] = task
        self._tasks.add(task)

        def end(_task: asyncio.Task[None]) -> None:  # also of a task that was cancelled before it began
            self._tasks.discard(task)
            self._handshakes.pop(raw, None)
            raw.abort()

        task.add_done_callback(end)

    async def _serve(self, raw: asyncio.Transport) -> None:
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await self._secured(raw)
            del self._handshakes[raw]
            if len(self._tasks) - len(self._handshakes) > self._max_connections:
                _log.warning("refused a connection: %d are open", self._max_connections)
                return
            await self._on_client(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # a stranger's handshake, a client that went, or the service stops
        except Exception as error:
            _log.error("a connection ended by a fault of this program: %s", type(error).__name__)
        finally:
            if writer is not None:
                writer.transport.abort()

    async def _secured(self, raw: asyncio.Transport) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = await loop.start_tls(
            raw, protocol, self._context, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
        )
        if transport is None:
            raise ConnectionAbortedError
        protocol.connection_made(transport)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class _Gate(asyncio.Protocol):
    """Keeps a new connection from being read until its TLS is up."""

    def __init__(self, enter: Callable[[asyncio.Transport], None]) -> None:
        self._enter = enter

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        self._enter(transport)
