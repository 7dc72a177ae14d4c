"""The methods of ETSI GS QKD 014 v1.1.1 and of SKIP (draft-cisco-skip-02), and two pages for operators.

    GET       /api/v1/keys/{slave_SAE_ID}/status
    GET, POST /api/v1/keys/{slave_SAE_ID}/enc_keys
    GET, POST /api/v1/keys/{master_SAE_ID}/dec_keys
    GET       /capabilities, /key?remoteSystemID=..., /key/{keyId}?remoteSystemID=...
    GET       /health, /metrics

Status codes are the standard's: 200, 400 and 503 with an Error object, 401 without a body. What is no method
gets HTTP's own 404 and 405. The SAE ID of the caller is the one its certificate names; the pages for
operators are for any certificate of the authority.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl, unquote

from diqkd_postproc.delivery import data_formats, metrics, skip_formats
from diqkd_postproc.delivery.audit_log import AuditLog
from diqkd_postproc.delivery.bounded_log import BoundedLog
from diqkd_postproc.delivery.configuration import DeliveryConfiguration
from diqkd_postproc.delivery.data_formats import Key
from diqkd_postproc.delivery.http_connection import HttpRequest, HttpResponse
from diqkd_postproc.delivery.refusals import BadRequest, Refusal, Unauthorized, Unavailable
from diqkd_postproc.protocol.errors import DiqkdError, InsufficientKeyError, StorageError

PREFIX = "/api/v1/keys/"
PAGES = ("health", "metrics")
METHODS = {
    "enc_keys": ("GET", "POST"),
    "dec_keys": ("GET", "POST"),
    **dict.fromkeys(("status", "capabilities", "key", "key_by_id", *PAGES), ("GET",)),
}
MAX_PATH_CHARACTERS = 512
_log = logging.getLogger(__name__)


class Pool(Protocol):
    """Where the keys come from; see `key_pool.KeyPool`."""

    async def allot(
        self, master: str, slave: str, number: int, size: int, is_abandoned: Callable[[], bool]
    ) -> tuple[Key, ...]:
        """New keys of `size` bits, for which `slave` can ask the other KME; gone from the store."""

    async def collect(
        self, master: str, slave: str, key_ids: Sequence[str], is_abandoned: Callable[[], bool]
    ) -> tuple[Key, ...]:
        """The keys of these ids, made for `slave` at the request of `master`; all or none, once."""

    async def counts(self, size: int) -> tuple[int, int]:
        """(keys of `size` bits that are left, most that there were)."""

    async def free_bits(self) -> int:
        """Bits that are left to issue keys and their tags from."""


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

    def __init__(
        self,
        configuration: DeliveryConfiguration,
        pool: Pool,
        audit_log: AuditLog,
        counters: metrics.Metrics,
        refusals: BoundedLog,
    ) -> None:
        self._configuration = configuration
        self._limits = configuration.api.limits()
        self._pool = pool
        self._audit_log = audit_log
        self._metrics = counters
        self._refusals = refusals

    async def answer(self, request: HttpRequest, caller: Caller) -> HttpResponse:
        """The answer to one request; every refusal becomes its status code, and every outcome a line.

        A refusal becomes its status code, missing key or a failing store 503. Keys whose line cannot be
        written are not handed out. Only cancellation is raised.
        """
        method, peer, key_id = _route(request)
        if not method:
            return HttpResponse(status=404, body=data_formats.error("no such resource"))
        if request.method not in METHODS[method]:
            allowed = ", ".join(METHODS[method])
            body = data_formats.error(f"{method} takes {allowed}")
            return HttpResponse(status=405, body=body, headers=(("Allow", allowed),))
        if method in PAGES:
            return await self._page(method)
        keys: tuple[Key, ...] = ()
        reason = ""
        try:
            if caller.sae is None:
                raise Unauthorized("the certificate names no SAE of this KME")
            body, keys = await self._serve(method, request, caller.sae, peer, key_id)
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
        self._metrics.count(method, response.status, len(keys))
        if reason:
            self._refusals.warning(
                "refused %s of %s: %d, %s", method, caller.certificate_name[:64], response.status, reason
            )
        try:
            self._note(method, response.status, caller, peer, keys, reason)
        except StorageError:
            return _refused(Unavailable("the audit log cannot be written"))
        return response

    async def _page(self, method: str) -> HttpResponse:
        """Pages for operators; both need the key store to be readable."""
        try:
            free_bits = await self._pool.free_bits()
        except DiqkdError:
            return _refused(Unavailable("the key store cannot be used"))
        if method == "metrics":
            return HttpResponse(
                status=200, body=self._metrics.text(free_bits), content_type=metrics.CONTENT_TYPE
            )
        return HttpResponse(status=200, body=b'{"status":"up"}')

    async def _serve(
        self, method: str, request: HttpRequest, sae: str, peer: str, key_id: str
    ) -> tuple[bytes, tuple[Key, ...]]:
        if method == "capabilities":
            return skip_formats.capabilities(sae, self._configuration.peers_of(sae)), ()
        if not self._configuration.may_share(sae, peer):
            raise BadRequest("the SAE ID in the path is not that of an SAE to share keys with")
        if method == "status":
            return await self._status(sae, peer), ()
        _require_json(request)
        if method in ("key", "key_by_id"):
            return await self._skip_key(request, sae, key_id)
        if method == "enc_keys":
            keys = await self._get_keys(request, sae, peer)
        else:
            keys = await self._get_keys_with_ids(request, sae, peer)
        return data_formats.key_container(keys), keys

    async def _skip_key(self, request: HttpRequest, sae: str, key_id: str) -> tuple[bytes, tuple[Key, ...]]:
        peer, size = skip_formats.parse_query(request.query, self._limits, has_size=not key_id)
        if key_id:
            ids = (skip_formats.parse_key_id(key_id),)
            keys = await self._pool.collect(peer, sae, ids, request.is_abandoned)
        else:
            keys = await self._pool.allot(sae, peer, 1, size, request.is_abandoned)
        return skip_formats.key_document(keys[0]), keys

    async def _status(self, sae: str, peer: str) -> bytes:
        left, most = await self._pool.counts(self._limits.key_size)
        return data_formats.status(
            source_kme=self._configuration.kme.id,
            target_kme=self._configuration.kme.peer,
            master_sae=sae,
            slave_sae=peer,
            stored_key_count=left,
            max_key_count=most,
            limits=self._limits,
            extension={},
        )

    async def _get_keys(self, request: HttpRequest, master: str, slave: str) -> tuple[Key, ...]:
        if _has_parameters_in_url(request):
            wanted = data_formats.parse_key_request_query(request.query)
        else:
            wanted = data_formats.parse_key_request(request.body)
        number, size = data_formats.draw_of(wanted, self._limits)
        return await self._pool.allot(master, slave, number, size, request.is_abandoned)

    async def _get_keys_with_ids(self, request: HttpRequest, slave: str, master: str) -> tuple[Key, ...]:
        if _has_parameters_in_url(request):
            key_ids = data_formats.parse_key_ids_query(request.query, self._limits)
        else:
            key_ids = data_formats.parse_key_ids(request.body, self._limits)
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


def _route(request: HttpRequest) -> tuple[str, str, str]:
    """(method, SAE ID of the peer, SKIP's keyId) of a request; empty where there is none such."""
    path = request.path
    if len(path) > MAX_PATH_CHARACTERS:
        return "", "", ""
    if path.startswith(PREFIX):
        peer, _, method = path.removeprefix(PREFIX).partition("/")
        is_method = peer and method in ("status", "enc_keys", "dec_keys")
        return (method, unquote(peer, errors="replace"), "") if is_method else ("", "", "")
    peer = dict(parse_qsl(request.query, max_num_fields=None)).get("remoteSystemID", "")
    key_id = path.removeprefix("/key/")
    if path.startswith("/key/") and key_id and "/" not in key_id:
        return "key_by_id", peer, key_id
    method = path.removeprefix("/")
    return (method, peer, "") if method in ("capabilities", "key", *PAGES) else ("", "", "")


def _require_json(request: HttpRequest) -> None:
    media_type = request.content_type.partition(";")[0].strip().lower()
    if request.method == "POST" and media_type not in ("", "application/json"):
        raise BadRequest("the body of a POST is application/json")
    if request.method == "GET" and request.body:
        raise BadRequest("a GET request has no body; use POST")


def _has_parameters_in_url(request: HttpRequest) -> bool:
    """Also of a POST without a body, as some clients make it; never in both places."""
    if request.query and request.body:
        raise BadRequest("the parameters of a POST are in its body or in the URL, not in both")
    return request.method == "GET" or bool(request.query)


def _refused(refusal: Refusal) -> HttpResponse:
    if refusal.status == 401:  # RFC 9110 wants a challenge; there is no scheme for certificates
        return HttpResponse(status=401, headers=(("WWW-Authenticate", "ClientCertificate"),))
    return HttpResponse(status=refusal.status, body=data_formats.error(refusal.message, refusal.details))
