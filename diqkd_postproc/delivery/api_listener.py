"""The listening side of the key delivery API: TLS, identity of the client, limit of connections."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter

from diqkd_postproc.delivery.certificates import fingerprint, owner_of
from diqkd_postproc.delivery.configuration import DeliveryConfiguration
from diqkd_postproc.delivery.http_connection import HttpConnection, HttpLimits
from diqkd_postproc.delivery.key_delivery_api import Caller, KeyDeliveryApi
from diqkd_postproc.delivery.tls_listener import TlsListener

_log = logging.getLogger(__name__)


class ApiListener:
    """Listener for SAEs: their certificates become callers, their requests go to the API.

    Connections are bounded by `max_connections` in all and `max_connections_per_sae` for each SAE; callers
    whose certificate names no SAE share one such bound. What exceeds a bound is closed and logged.
    """

    def __init__(
        self,
        configuration: DeliveryConfiguration,
        api: KeyDeliveryApi,
        context: ssl.SSLContext,
        limits: HttpLimits | None = None,
    ) -> None:
        self._configuration = configuration
        self._api = api
        self._limits = limits or HttpLimits()
        self._owners = {
            sae.certificate_name or sae.id: sae
            for sae in configuration.sae
            if sae.kme == configuration.kme.id
        }
        self._connections: set[HttpConnection] = set()
        self._callers: Counter[str] = Counter()
        self._listener = TlsListener(context, self._serve, configuration.api.max_connections)

    async def start(self) -> tuple[str, int]:
        """Listen; returns the address, with the port that the system chose where 0 was configured."""
        return await self._listener.start(self._configuration.api.listen)

    async def close(self, seconds: float) -> None:
        """Accept nobody any more, finish the requests that are being served, then drop who is left.

        seconds: how long requests that are being served may take to end.
        """
        self._listener.stop_listening()
        for connection in list(self._connections):
            connection.finish()
        await self._listener.close(seconds)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = self._identify(writer)
        name = caller.sae or ""
        if self._callers[name] >= self._configuration.api.max_connections_per_sae:
            _log.warning("refused a connection of %r: too many are open", caller.certificate_name[:64])
            return
        connection = HttpConnection(
            reader, writer, lambda request: self._api.answer(request, caller), self._limits
        )
        self._connections.add(connection)
        self._callers[name] += 1
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)
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
