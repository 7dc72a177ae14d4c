"""The listening side of the key delivery API: TLS, who is calling, how many may call at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import Counter

from diqkd_postproc.delivery.certificates import fingerprint, owner_of
from diqkd_postproc.delivery.configuration import DeliveryConfiguration, host_and_port
from diqkd_postproc.delivery.http_connection import HttpConnection, HttpLimits
from diqkd_postproc.delivery.key_delivery_api import Caller, KeyDeliveryApi

HANDSHAKE_S = 10.0
BACKLOG = 128
_log = logging.getLogger(__name__)


class ApiListener:
    """Accepts SAEs until closed."""

    def __init__(
        self,
        configuration: DeliveryConfiguration,
        api: KeyDeliveryApi,
        context: ssl.SSLContext,
        limits: HttpLimits | None = None,
    ) -> None:
        self._configuration = configuration
        self._api = api
        self._context = context
        self._limits = limits or HttpLimits()
        self._owners = {
            sae.certificate_name or sae.id: sae
            for sae in configuration.sae
            if sae.kme == configuration.kme.id
        }
        self._connections: dict[HttpConnection, asyncio.Task[None] | None] = {}
        self._callers: Counter[str] = Counter()
        self._server: asyncio.Server | None = None

    async def start(self) -> tuple[str, int]:
        """Listen; returns the address, with the port that the system chose where 0 was configured."""
        host, port = host_and_port(self._configuration.api.listen)
        self._server = await asyncio.start_server(
            self._accept,
            host,
            port,
            ssl=self._context,
            ssl_handshake_timeout=HANDSHAKE_S,
            backlog=BACKLOG,
        )
        address = self._server.sockets[0].getsockname()
        return str(address[0]), int(address[1])

    async def close(self, seconds: float) -> None:
        """Accept nobody any more, finish the requests that are being served, then drop who is left."""
        if self._server is not None:
            self._server.close()
        tasks = [task for task in self._connections.values() if task is not None]
        for connection in list(self._connections):
            connection.finish()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = self._identify(writer)
        bounds = self._configuration.api
        name = caller.sae or ""
        too_many = (
            len(self._connections) >= bounds.max_connections
            or self._callers[name] >= bounds.max_connections_per_sae
        )
        if too_many:
            _log.warning("refused a connection of %s: too many are open", caller.certificate_name[:64])
            writer.transport.abort()
            return
        connection = HttpConnection(
            reader, writer, lambda request: self._api.answer(request, caller), self._limits
        )
        self._connections[connection] = asyncio.current_task()
        self._callers[name] += 1
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await connection.serve()
        finally:
            del self._connections[connection]
            self._callers[name] -= 1

    def _identify(self, writer: asyncio.StreamWriter) -> Caller:
        connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
        certificate = connection.getpeercert(binary_form=True) or b""
        name = owner_of(certificate, self._configuration.api.sae_id_field) if certificate else None
        sae = self._owners.get(name) if name else None
        if sae is not None and sae.certificate_sha256 not in (None, fingerprint(certificate)):
            sae = None
        peer = writer.get_extra_info("peername")
        return Caller(
            sae=None if sae is None else sae.id,
            certificate_name=name or "(no single name)",
            address=f"{peer[0]}:{peer[1]}" if peer else "",
        )
