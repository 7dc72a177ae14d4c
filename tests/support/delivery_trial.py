"""Two KMEs for tests: certificates, configurations, and a plain HTTP client over real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from diqkd_postproc.delivery.api_listener import ApiListener
from diqkd_postproc.delivery.audit_log import AuditLog
from diqkd_postproc.delivery.bounded_log import BoundedLog
from diqkd_postproc.delivery.certificates import TrialAuthority
from diqkd_postproc.delivery.configuration import DeliveryConfiguration
from diqkd_postproc.delivery.http_connection import HttpLimits
from diqkd_postproc.delivery.key_delivery_api import KeyDeliveryApi, Pool
from diqkd_postproc.delivery.metrics import Metrics
from diqkd_postproc.delivery.service import RunningService, running_service
from diqkd_postproc.delivery.tls import client_context
from diqkd_postproc.key_store import PAD_NAMES, KeyStore
from tests.support.example_parameters import small_parameters

ALICE_KME, BOB_KME = "kme-alice", "kme-bob"
ALICE_SAE, ALICE_SAE_2 = "sae-alice", "sae-alice-2"
BOB_SAE, BOB_SAE_2 = "sae-bob", "sae-bob-2"
KME_OF = {ALICE_SAE: ALICE_KME, ALICE_SAE_2: ALICE_KME, BOB_SAE: BOB_KME, BOB_SAE_2: BOB_KME}
NO_SAE, STRANGER = "nobody", "stranger"
"""A certificate of our authority that is no SAE's, and one of another authority."""


def make_certificates(directory: Path, authority: TrialAuthority | None = None) -> Path:
    authority = authority or TrialAuthority("trial authority")
    authority.write(directory / "authority.crt")
    for kme in (ALICE_KME, BOB_KME):
        authority.issue(directory, kme, is_service=True, hosts=("localhost", "127.0.0.1"))
    for sae in (*KME_OF, NO_SAE):
        authority.issue(directory, sae, is_service=False)
    authority.issue(directory, "two-names", is_service=False, common_names=(ALICE_SAE, NO_SAE))
    TrialAuthority("trial authority").issue(directory, STRANGER, is_service=False, common_names=(ALICE_SAE,))
    return directory


def certificate_files(certificates: Path, name: str) -> tuple[Path, Path, Path]:
    return certificates / f"{name}.crt", certificates / f"{name}.key", certificates / "authority.crt"


def configuration_of(
    role: str,
    certificates: Path,
    folder: Path,
    *,
    api: Mapping[str, Any] | None = None,
    kme: Mapping[str, Any] | None = None,
    sae: Mapping[str, Mapping[str, Any]] | None = None,
) -> DeliveryConfiguration:
    me, peer = (ALICE_KME, BOB_KME) if role == "alice" else (BOB_KME, ALICE_KME)
    certificate, private_key, authority = certificate_files(certificates, me)
    return DeliveryConfiguration.model_validate(
        {
            "kme": {
                "id": me,
                "peer": peer,
                "role": role,
                "key_store": folder / f"{role}.sqlite",
                "audit_log": folder / f"{role}-audit.jsonl",
                "certificate": certificate,
                "private_key": private_key,
                "authority": authority,
                **(kme or {}),
            },
            "api": {"listen": "127.0.0.1:0", **(api or {})},
            "sae": [{"id": name, "kme": at, **(sae or {}).get(name, {})} for name, at in KME_OF.items()],
        }
    )


@asynccontextmanager
async def running_listener(
    configuration: DeliveryConfiguration,
    pool: Pool,
    limits: HttpLimits | None = None,
    closing_s: float = 5.0,
) -> AsyncIterator[tuple[ApiListener, int]]:
    audit_log = AuditLog(configuration.kme.audit_log)
    refusals = BoundedLog(logging.getLogger(__name__))
    api = KeyDeliveryApi(configuration, pool, audit_log, Metrics(), refusals)
    listener = ApiListener(configuration, api, refusals, limits)
    _, port = await listener.start()
    try:
        yield listener, port
    finally:
        await listener.close(closing_s)
        audit_log.close()


@asynccontextmanager
async def listening(
    configuration: DeliveryConfiguration, pool: Pool, limits: HttpLimits | None = None
) -> AsyncIterator[int]:
    async with running_listener(configuration, pool, limits) as (_, port):
        yield port


def write_revocation_list(authority: TrialAuthority, path: Path, revoked: Sequence[Path]) -> None:
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    builder = builder.last_update(now - timedelta(hours=1)).next_update(now + timedelta(days=1))
    for certificate in revoked:
        serial_number = x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial_number).revocation_date(now)
        builder = builder.add_revoked_certificate(entry.build())
    signed = builder.sign(authority._key, hashes.SHA256())
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


class RawClient:
    """Sends bytes as they are and reads answers; one TLS connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(
        cls, port: int, certificates: Path, name: str, context: ssl.SSLContext | None = None
    ) -> RawClient:
        context = context or client_context(*certificate_files(certificates, name))
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=context))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers, body

    async def call(
        self, method: str, path: str, document: Any = None, body: bytes | None = None
    ) -> tuple[int, Any]:
        content = body if body is not None else b"" if document is None else json.dumps(document).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: kme\r\n"
        if content or method == "POST":
            head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        await self.send(head.encode() + b"\r\n" + content)
        status, headers, answer = await self.answer()
        assert headers["cache-control"] == "no-store"
        return status, json.loads(answer) if answer else None

    async def is_closed(self) -> bool:
        return await self.reader.read() == b""

    async def close(self) -> None:
        self.writer.close()


def make_stores(
    folder: Path, num_bits: int, seed: int = 1, sessions: tuple[str, ...] = ("session-1",)
) -> bytes:
    """Both stores in `folder` with a generated key for each session; returns the last's bits, packed."""
    key = np.zeros(0, dtype=np.uint8)
    pair = KeyStore.create_pair(
        folder / "alice.sqlite",
        folder / "bob.sqlite",
        small_parameters(1000),
        secrets.token_bytes,
        seed_bits=80,
    )
    for number, session in enumerate(sessions):
        key = np.random.default_rng(seed + number).integers(0, 2, num_bits, dtype=np.uint8)
        for store in pair:
            if number:
                store.renew()
            for name in PAD_NAMES:
                store.consume(name, session, b"message")
            store.activate(session, key)
    for store in pair:
        store.close()
    return np.packbits(key).tobytes()


class Trial:
    """Two running services over loopback; either can be stopped and started again."""

    def __init__(self, certificates: Path, folder: Path, **options: Any) -> None:
        self.certificates = certificates
        self.folder = folder
        self.options = options
        self.services: dict[str, RunningService] = {}
        self._stacks: dict[str, AsyncExitStack] = {}

    async def start(self, role: str) -> RunningService:
        configuration = configuration_of(role, self.certificates, self.folder, **self.options)
        stack = AsyncExitStack()
        service = await stack.enter_async_context(running_service(configuration))
        self.services[role], self._stacks[role] = service, stack
        return service

    async def stop(self, role: str) -> None:
        del self.services[role]
        await self._stacks.pop(role).aclose()

    async def client(self, sae: str) -> RawClient:
        role = "alice" if KME_OF[sae] == ALICE_KME else "bob"
        return await RawClient.connect(self.services[role].api_address[1], self.certificates, sae)

    async def __aenter__(self) -> Trial:
        await self.start("alice")
        await self.start("bob")
        return self

    async def __aexit__(self, *_: object) -> None:
        for role in list(self.services):
            await self.stop(role)


def key_bytes(answer: Any) -> dict[str, bytes]:
    return {item["key_ID"]: base64.b64decode(item["key"], validate=True) for item in answer["keys"]}
