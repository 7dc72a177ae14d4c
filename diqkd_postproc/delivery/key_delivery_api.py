"""The methods of ETSI GS QKD 014 v1.1.1, clause 5: Get status, Get key, Get key with key IDs.

    GET       /api/v1/keys/{slave_SAE_ID}/status
    GET, POST /api/v1/keys/{slave_SAE_ID}/enc_keys
    GET, POST /api/v1/keys/{master_SAE_ID}/dec_keys

Status codes are the standard's: 200, 400 and 503 with an Error object, 401 without a body. What is no method
of the standard gets HTTP's own 404 and 405. The SAE ID of the caller is the one its certificate names.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote

from diqkd_postproc.delivery import data_formats
from diqkd_postproc.delivery.audit_log import AuditLog
from diqkd_postproc.delivery.configuration import DeliveryConfiguration
from diqkd_postproc.delivery.data_formats import Key
from diqkd_postproc.delivery.http_connection import HttpRequest, HttpResponse
from diqkd_postproc.delivery.refusals import BadRequest, Refusal, Unauthorized, Unavailable
from diqkd_postproc.protocol.errors import InsufficientKeyError, StorageError

PREFIX = "/api/v1/keys/"
METHODS = {"status": ("GET",), "enc_keys": ("GET", "POST"), "dec_keys": ("GET", "POST")}
MAX_PATH_CHARACTERS = 512
_log = logging.getLogger(__name__)


class Pool(Protocol):
    """Where the keys come from; see `key_pool.KeyPool`."""

    async def allot(
        self, master: str, slave: str, number: int, size: int, is_abandoned: Callable[[], bool]
    ) -> tuple[Key, ...]:
        """New keys of `size` bits that the other KME has set aside for `slave`; gone from the pool."""

    async def collect(
        self, master: str, slave: str, key_ids: Sequence[str], is_abandoned: Callable[[], bool]
    ) -> tuple[Key, ...]:
        """The keys of these ids, made for `slave` at the request of `master`; all or none, once."""

    async def counts(self, size: int) -> tuple[int, int]:
        """(keys of `size` bits that are left, most that there were)."""

    @property
    def is_connected(self) -> bool:
        """Whether the other KME can be reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is at the other end: `sae` is None where the certificate names no SAE of this KME."""

    sae: str | None
    certificate_name: str
    address: str


class KeyDeliveryApi:
    """API of one KME: routes, rights of the caller, and one line of the audit log a request.

    Resources of clause 5, tables 1 to 3; unknown ones are 404, wrong methods 405.
    """

    def __init__(self, configuration: DeliveryConfiguration, pool: Pool, audit_log: AuditLog) -> None:
        self._configuration = configuration
        self._limits = configuration.api.limits()
        self._pool = pool
        self._audit_log = audit_log

    async def answer(self, request: HttpRequest, caller: Caller) -> HttpResponse:
        """The answer to one request; every refusal becomes its status code, and every outcome a line.

        A refusal becomes its status code, missing key or a failing store 503. Keys whose line cannot be
        written are not handed out. Only cancellation is raised.
        """
        method, peer = _route(request.path)
        if not method:
            return HttpResponse(status=404, body=data_formats.error("no such resource"))
        if request.method not in METHODS[method]:
            allowed = ", ".join(METHODS[method])
            body = data_formats.error(f"{method} takes {allowed}")
            return HttpResponse(status=405, body=body, headers=(("Allow", allowed),))
        keys: tuple[Key, ...] = ()
        reason = ""
        try:
            if caller.sae is None:
                raise Unauthorized("the certificate names no SAE of this KME")
            body, keys = await self._serve(method, request, caller.sae, peer)
            response = HttpResponse(status=200, body=body)
        except Refusal as refusal:
            response, reason = _refused(refusal), refusal.message
        except InsufficientKeyError as error:
            response, reason = _refused(Unavailable("not enough key is left")), str(error)
        except StorageError as error:
            response, reason = _refused(Unavailable("the key store cannot be used")), str(error)
        except asyncio.CancelledError:
            self._note(method, "stopped", caller, peer, keys, "the service stopped")
            raise
        except Exception as error:  # the last resort of a boundary: no traceback, which could hold key bits
            reason = f"a fault of this program: {type(error).__name__}"
            _log.error("%s failed by %s", method, reason)
            response = _refused(Unavailable("the service has a fault"))
        try:
            self._note(method, response.status, caller, peer, keys, reason)
        except StorageError:
            return _refused(Unavailable("the audit log cannot be written"))
        return response

    async def _serve(
        self, method: str, request: HttpRequest, sae: str, peer: str
    ) -> tuple[bytes, tuple[Key, ...]]:
        if not self._configuration.may_share(sae, peer):
            raise BadRequest("the SAE ID in the path is not that of an SAE to share keys with")
        if method == "status":
            return await self._status(sae, peer), ()
        _require_json(request)
        if method == "enc_keys":
            keys = await self._get_keys(request, sae, peer)
        else:
            keys = await self._get_keys_with_ids(request, sae, peer)
        return data_formats.key_container(keys), keys

    async def _status(self, sae: str, peer: str) -> bytes:
        left, most = await self._pool.counts(self._limits.key_size)
        return data_formats.status(
            source_kme=self._configuration.kme.id,
            target_kme=self._configuration.peer_kme.peer,
            master_sae=sae,
            slave_sae=peer,
            stored_key_count=left,
            max_key_count=most,
            limits=self._limits,
            extension={"diqkd_link": "up" if self._pool.is_connected else "down"},
        )

    async def _get_keys(self, request: HttpRequest, master: str, slave: str) -> tuple[Key, ...]:
        if request.method == "GET":
            wanted = data_formats.parse_key_request_query(request.query)
        else:
            wanted = data_formats.parse_key_request(_body(request))
        number, size = data_formats.draw_of(wanted, self._limits)
        return await self._pool.allot(master, slave, number, size, request.is_abandoned)

    async def _get_keys_with_ids(self, request: HttpRequest, slave: str, master: str) -> tuple[Key, ...]:
        if request.method == "GET":
            key_ids = data_formats.parse_key_ids_query(request.query, self._limits)
        else:
            key_ids = data_formats.parse_key_ids(_body(request), self._limits)
        return await self._pool.collect(master, slave, key_ids, request.is_abandoned)

    def _note(
        self,
        method: str,
        outcome: str | int,
        caller: Caller,
        peer: str,
        keys: Sequence[Key],
        reason: str,
    ) -> None:
        self._audit_log.write(
            method,
            outcome,
            sae=caller.sae or f"unknown: {caller.certificate_name}",
            peer_sae=peer,
            address=caller.address,
            key_ids=[key.key_id for key in keys],
            size=8 * len(keys[0].key) if keys else None,
            reason=reason,
        )


def _route(path: str) -> tuple[str, str]:
    """(method, SAE ID) of a path, ("", "") where there is none such."""
    if not path.startswith(PREFIX) or len(path) > MAX_PATH_CHARACTERS:
        return "", ""
    parts = path.removeprefix(PREFIX).split("/")
    if len(parts) != 2 or not parts[0] or parts[1] not in METHODS:
        return "", ""
    return parts[1], unquote(parts[0], errors="replace")


def _require_json(request: HttpRequest) -> None:
    media_type = request.content_type.partition(";")[0].strip().lower()
    if request.method == "POST" and media_type not in ("", "application/json"):
        raise BadRequest("the body of a POST is application/json")
    if request.method == "GET" and request.body:
        raise BadRequest("a GET request has no body; use POST")


def _body(request: HttpRequest) -> bytes:
    if request.query:
        raise BadRequest("the parameters of a POST are in its body, not in the URL")
    return request.body


def _refused(refusal: Refusal) -> HttpResponse:
    if refusal.status == 401:  # RFC 9110 wants a challenge; there is no scheme for certificates
        return HttpResponse(status=401, headers=(("WWW-Authenticate", "ClientCertificate"),))
    return HttpResponse(status=refusal.status, body=data_formats.error(refusal.message, refusal.details))
