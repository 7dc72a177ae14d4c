"""The listening side of the key delivery API: TLS, identity of the client, limits, certificates that end.

Certificates are verified in the handshake, but a connection may outlive them. So open connections are
checked again every CHECK_S: one whose certificate has expired or was revoked ends after the request that is
being served. When a file of the service's own certificates changes, connections to come use the new one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from datetime import UTC, datetime

from diqkd_postproc.delivery.bounded_log import BoundedLog
from diqkd_postproc.delivery.certificates import (
    PresentedCertificate,
    read_certificate,
    revoked_serial_numbers,
)
from diqkd_postproc.delivery.configuration import DeliveryConfiguration
from diqkd_postproc.delivery.http_connection import HttpConnection, HttpLimits
from diqkd_postproc.delivery.key_delivery_api import Caller, KeyDeliveryApi
from diqkd_postproc.delivery.tls import service_context
from diqkd_postproc.delivery.tls_connection import TlsConnection
from diqkd_postproc.delivery.tls_listener import TlsListener
from diqkd_postproc.protocol.errors import StorageError

CHECK_S = 5.0
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
        refusals: BoundedLog,
        limits: HttpLimits | None = None,
    ) -> None:
        """Raises StorageError where a certificate, key, authority or revocation list cannot be used."""
        self._configuration = configuration
        self._api = api
        self._refusals = refusals
        self._limits = limits or HttpLimits()
        self._owners = {
            sae.certificate_name or sae.id: sae
            for sae in configuration.sae
            if sae.kme == configuration.kme.id
        }
        kme = configuration.kme
        self._files = (kme.certificate, kme.private_key, kme.authority, kme.revocation_list)
        self._connections: dict[HttpConnection, PresentedCertificate] = {}
        self._callers: Counter[str] = Counter()
        self._revoked: frozenset[int] = frozenset()
        self._changed = self._times_of_change()
        context = service_context(*self._files)
        self._read_revocation_list()
        self._listener = TlsListener(context, self._serve, configuration.api.max_connections, refusals)
        self._checks: asyncio.Task[None] | None = None

    async def start(self) -> tuple[str, int]:
        """Listen; returns the address, with the port that the system chose where 0 was configured."""
        address = await self._listener.start(self._configuration.api.listen)
        self._checks = asyncio.get_running_loop().create_task(self._check_again())
        return address

    async def close(self, seconds: float) -> None:
        """Accept nobody any more, finish the requests that are being served, then drop who is left.

        seconds: how long requests that are being served may take to end.
        """
        if self._checks is not None:
            self._checks.cancel()
        self._listener.stop_listening()
        for connection in list(self._connections):
            connection.finish()
        await self._listener.close(seconds)

    @property
    def num_connections(self) -> int:
        """Open connections of clients that have shown a certificate."""
        return len(self._connections)

    def check_certificates(self, now: datetime) -> None:
        """Read changed files again, and end the connections of certificates that are not valid any more."""
        if (changed := self._times_of_change()) != self._changed:
            self._changed = changed
            try:
                self._listener.context = service_context(*self._files)
                self._read_revocation_list()
                _log.info("read the changed certificates again")
            except StorageError as error:
                _log.error("the changed certificates cannot be used, the earlier ones stay: %s", error)
        for connection, certificate in list(self._connections.items()):
            is_revoked = certificate.serial_number in self._revoked
            if is_revoked or certificate.not_valid_after < now:
                reason = "was revoked" if is_revoked else "has expired"
                self._refusals.warning(
                    "ended a connection: the certificate of %r %s", _shown(certificate), reason
                )
                connection.finish()

    async def _check_again(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            self.check_certificates(datetime.now(UTC))

    def _read_revocation_list(self) -> None:
        kme = self._configuration.kme
        if kme.revocation_list is not None:
            self._revoked = revoked_serial_numbers(kme.revocation_list, kme.authority)

    def _times_of_change(self) -> tuple[int, ...]:
        times = []
        for path in self._files:
            try:
                times.append(0 if path is None else os.stat(path).st_mtime_ns)
            except OSError:
                times.append(-1)
        return tuple(times)

    async def _serve(self, connection: TlsConnection) -> None:
        certificate = read_certificate(connection.certificate, self._configuration.api.sae_id_field)
        caller = self._caller(certificate, connection.address)
        name = caller.sae or ""
        if self._callers[name] >= self._configuration.api.max_connections_per_sae:
            self._refusals.warning("refused a connection of %r: too many are open", _shown(certificate))
            return
        http = HttpConnection(
            connection.reader, connection, lambda request: self._api.answer(request, caller), self._limits
        )
        self._connections[http] = certificate
        self._callers[name] += 1
        try:
            await http.serve()
        finally:
            del self._connections[http]
            self._callers[name] -= 1

    def _caller(self, certificate: PresentedCertificate, address: str) -> Caller:
        sae = self._owners.get(certificate.name) if certificate.name else None
        if sae is not None and sae.certificate_sha256 not in (None, certificate.sha256):
            sae = None
        return Caller(
            sae=None if sae is None else sae.id,
            certificate_name=certificate.name or "(no single name)",
            address=address,
        )


def _shown(certificate: PresentedCertificate) -> str:
    return (certificate.name or "(no single name)")[:64]
