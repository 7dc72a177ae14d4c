"""The HTTP service over real TLS sockets, with a pool of known keys behind it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from diqkd_postproc.delivery.bounded_log import NUM_LINES, WINDOW_S, BoundedLog
from diqkd_postproc.delivery.certificates import TrialAuthority
from diqkd_postproc.delivery.http_connection import HttpLimits
from diqkd_postproc.delivery.refusals import BadRequest, Unauthorized
from diqkd_postproc.delivery.tls import client_context, service_context
from diqkd_postproc.protocol.errors import InsufficientKeyError, StorageError
from tests.support.delivery_trial import (
    ALICE_KME,
    ALICE_SAE,
    ALICE_SAE_2,
    BOB_KME,
    BOB_SAE,
    BOB_SAE_2,
    NO_SAE,
    STRANGER,
    RawClient,
    certificate_files,
    configuration_of,
    listening,
    make_certificates,
    running_listener,
    write_revocation_list,
)
from tests.support.known_pool import CANARY, ID_1, KnownPool

KEYS = f"/api/v1/keys/{BOB_SAE}"


def test_the_three_methods(certificates: Path, folder: Path) -> None:
    async def scenario() -> None:
        pool = KnownPool()
        async with listening(configuration_of("alice", certificates, folder), pool) as port:
            client = await RawClient.connect(port, certificates, ALICE_SAE)
            status, answer = await client.call("GET", f"{KEYS}/status")
            assert status == 200
            assert (answer["source_KME_ID"], answer["target_KME_ID"]) == (ALICE_KME, BOB_KME)
            assert (answer["master_SAE_ID"], answer["slave_SAE_ID"]) == (ALICE_SAE, BOB_SAE)
            assert (answer["stored_key_count"], answer["max_key_count"]) == (7, 374)
            assert answer["status_extension"] == {}
            for method, path, document in (
                ("GET", "enc_keys", None),
                ("POST", "enc_keys", None),
                ("POST", "enc_keys", {}),
            ):
                status, answer = await client.call(method, f"{KEYS}/{path}", document)
                assert status == 200 and len(answer["keys"]) == 1
                assert pool.asked.pop() == (ALICE_SAE, BOB_SAE, 1, 256)
            await client.call("GET", f"{KEYS}/enc_keys?number=3&size=128")
            assert pool.asked.pop() == (ALICE_SAE, BOB_SAE, 3, 128)
            await client.call("POST", f"{KEYS}/enc_keys", {"number": 20, "size": 512})
            assert pool.asked.pop() == (ALICE_SAE, BOB_SAE, 20, 512)
            await client.call("POST", f"{KEYS}/enc_keys?number=2&size=64")  # as some clients do
            assert pool.asked.pop() == (ALICE_SAE, BOB_SAE, 2, 64)
            status, answer = await client.call("GET", f"{KEYS}/dec_keys?key_ID={ID_1}")
            assert status == 200 and answer["keys"][0]["key_ID"] == ID_1
            assert pool.asked.pop() == (BOB_SAE, ALICE_SAE, ID_1)
            await client.call("POST", f"{KEYS}/dec_keys", {"key_IDs": [{"key_ID": ID_1}]})
            assert pool.asked.pop() == (BOB_SAE, ALICE_SAE, ID_1)
            await client.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "path", "document", "expected"),
    [
        ("GET", f"{KEYS}/enc_keys?size=7", None, (400, "size shall be a multiple of 8")),
        ("GET", f"{KEYS}/enc_keys?extension_mandatory=a", None, (400, "the URL takes")),
        ("POST", f"{KEYS}/enc_keys?number=1", {"number": 1}, (400, "the parameters of a POST")),
        ("POST", f"{KEYS}/enc_keys", [1], (400, "the body is not a JSON object")),
        ("POST", f"{KEYS}/dec_keys", {"key_IDs": []}, (400, "key_IDs shall hold")),
        ("POST", f"{KEYS}/dec_keys", None, (400, "the body is not a JSON object")),
        ("GET", f"/api/v1/keys/{ALICE_SAE_2}/status", None, (400, "the SAE ID in the path")),
        ("GET", f"/api/v1/keys/{ALICE_SAE}/status", None, (400, "the SAE ID in the path")),
        ("GET", "/api/v1/keys/unknown/enc_keys", None, (400, "the SAE ID in the path")),
        ("GET", "/api/v1/keys/%2e%2e%2fstatus/status", None, (400, "the SAE ID in the path")),
        ("POST", f"{KEYS}/status", None, (405, "status takes GET")),
        ("DELETE", f"{KEYS}/enc_keys", None, (405, "enc_keys takes GET, POST")),
        ("GET", f"{KEYS}/status/", None, (404, "no such resource")),
        ("GET", f"//api/v1/keys/{BOB_SAE}/status", None, (404, "no such resource")),
        ("GET", "/api/v1/keys//status", None, (404, "no such resource")),
        ("GET", f"/api/v1/keys/../keys/{BOB_SAE}/status", None, (404, "no such resource")),
        ("GET", "/", None, (404, "no such resource")),
        ("GET", f"/api/v1/keys/{'x' * 600}/status", None, (404, "no such resource")),
        ("GET", f"{KEYS}/enc_keys", {"number": 1}, (400, "a GET request has no body")),
    ],
)
def test_refusals(
    certificates: Path,
    folder: Path,
    method: str,
    path: str,
    document: object,
    expected: tuple[int, str],
) -> None:
    async def scenario() -> None:
        pool = KnownPool()
        async with listening(configuration_of("alice", certificates, folder), pool) as port:
            client = await RawClient.connect(port, certificates, ALICE_SAE)
            status, answer = await client.call(method, path, document)
            assert status == expected[0] and answer["message"].startswith(expected[1])
            assert not pool.asked
            assert (await client.call("GET", f"{KEYS}/status"))[0] == 200, "the connection goes on"
            await client.close()

    asyncio.run(scenario())


def test_errors_of_the_pool_become_status_codes(certificates: Path, folder: Path) -> None:
    cases = [
        (BadRequest("one or more keys specified are not found on KME"), 400, "one or more keys"),
        (Unauthorized("made for another SAE"), 401, None),
        (
            InsufficientKeyError("of 1 pieces of 256 free bits there are 0"),
            503,
            "not enough key is left",
        ),
        (StorageError("/home/alice/keys.sqlite: the disk is full"), 503, "the key store cannot be used"),
    ]

    async def scenario() -> None:
        pool = KnownPool()
        async with listening(configuration_of("alice", certificates, folder), pool) as port:
            client = await RawClient.connect(port, certificates, ALICE_SAE)
            for error, code, message in cases:
                pool.error = error
                status, answer = await client.call("GET", f"{KEYS}/enc_keys")
                assert status == code
                assert answer is None if message is None else answer["message"].startswith(message)
            await client.close()

    asyncio.run(scenario())


def test_who_is_served(certificates: Path, folder: Path) -> None:
    async def status_code(port: int, name: str) -> int:
        client = await RawClient.connect(port, certificates, name)
        code, _ = await client.call("GET", f"{KEYS}/enc_keys")
        await client.close()
        return code

    async def scenario() -> None:
        pool = KnownPool()
        files = certificate_files(certificates, ALICE_SAE_2)
        pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(files[0].read_text())).hexdigest()
        pins = {ALICE_SAE: {"certificate_sha256": pin}, ALICE_SAE_2: {"certificate_sha256": pin}}
        configuration = configuration_of("alice", certificates, folder, sae=pins)
        async with listening(configuration, pool) as port:
            assert await status_code(port, ALICE_SAE_2) == 200
            for name in (ALICE_SAE, NO_SAE, BOB_SAE, BOB_KME, "two-names"):
                assert await status_code(port, name) == 401, name
            assert len(pool.asked) == 1
            without = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            without.load_verify_locations(certificates / "authority.crt")
            for context in (without, client_context(*certificate_files(certificates, STRANGER))):
                with pytest.raises((ssl.SSLError, OSError, asyncio.IncompleteReadError)):
                    client = await RawClient.connect(port, certificates, "", context)
                    await client.call("GET", f"{KEYS}/enc_keys")
            assert len(pool.asked) == 1

    asyncio.run(scenario())


def test_peers_of_an_sae_are_enforced(certificates: Path, folder: Path) -> None:
    async def scenario() -> None:
        configuration = configuration_of(
            "alice", certificates, folder, sae={BOB_SAE: {"peers": [ALICE_SAE_2]}}
        )
        async with listening(configuration, KnownPool()) as port:
            for name, code in ((ALICE_SAE, 400), (ALICE_SAE_2, 200)):
                client = await RawClient.connect(port, certificates, name)
                assert (await client.call("GET", f"{KEYS}/enc_keys"))[0] == code
                await client.close()

    asyncio.run(scenario())


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_1_is_refused(certificates: Path, folder: Path) -> None:
    def context_up_to(version: ssl.TLSVersion) -> ssl.SSLContext:
        context = client_context(*certificate_files(certificates, ALICE_SAE))
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")
        return context

    def handshake(port: int, version: ssl.TLSVersion) -> str | None:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=60) as connection,
            context_up_to(version).wrap_socket(connection, server_hostname="localhost") as secured,
        ):
            return secured.version()

    async def scenario() -> None:
        async with listening(configuration_of("alice", certificates, folder), KnownPool()) as port:
            with pytest.raises((ssl.SSLError, OSError)):
                await asyncio.to_thread(handshake, port, ssl.TLSVersion.TLSv1_1)
            assert await asyncio.to_thread(handshake, port, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
            assert await asyncio.to_thread(handshake, port, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"

    asyncio.run(scenario())
    # The reason, which the event loop does not pass on: the version and nothing else.
    to_service, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context_up_to(ssl.TLSVersion.TLSv1_1).wrap_bio(
        to_client, to_service, server_hostname="localhost"
    )
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    service = service_context(*certificate_files(certificates, ALICE_KME)).wrap_bio(
        to_service, to_client, server_side=True
    )
    with pytest.raises(ssl.SSLError) as caught:
        service.do_handshake()
    assert caught.value.reason == "UNSUPPORTED_PROTOCOL"


HOSTILE = [
    (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
    (b"BLAH\r\n\r\n", 400),
    (b"POST " + KEYS.encode() + b"/enc_keys HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 400),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde", 400),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", 400),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
    (b"GET /x HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", None),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", 431),
    (b"G" * 40_000, 431),
    (
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n" + b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n0\r\n\r\n",
        413,
    ),
]  # fmt: skip


def test_malformed_requests_end_the_connection(certificates: Path, folder: Path) -> None:
    async def scenario() -> None:
        pool = KnownPool()
        async with listening(configuration_of("alice", certificates, folder), pool) as port:
            for data, code in HOSTILE:
                client = await RawClient.connect(port, certificates, ALICE_SAE)
                smuggled = f"GET {KEYS}/enc_keys HTTP/1.1\r\nHost: a\r\n\r\n".encode()
                await client.send(data + (smuggled if code else b""))
                status, headers, _ = await client.answer()
                if code:
                    assert status == code, data[:80]
                    assert headers["connection"] == "close"
                    assert await client.is_closed()
                await client.close()
            assert not pool.asked

    asyncio.run(scenario())


def test_slow_and_idle_clients_are_dropped(certificates: Path, folder: Path) -> None:
    limits = HttpLimits(request_s=0.05, idle_s=0.05, response_s=5.0)

    async def scenario() -> None:
        async with listening(configuration_of("alice", certificates, folder), KnownPool(), limits) as port:
            slow = await RawClient.connect(port, certificates, ALICE_SAE)
            await slow.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
            assert (await slow.answer())[0] == 408 and await slow.is_closed()
            idle = await RawClient.connect(port, certificates, ALICE_SAE)
            assert await idle.is_closed()
            for client in (slow, idle):
                await client.close()

    asyncio.run(scenario())


def test_pipelined_requests_are_answered_in_order(certificates: Path, folder: Path) -> None:
    async def scenario() -> None:
        async with listening(configuration_of("alice", certificates, folder), KnownPool()) as port:
            client = await RawClient.connect(port, certificates, ALICE_SAE)
            lines = [f"GET {KEYS}/{path} HTTP/1.1\r\nHost: a\r\n\r\n" for path in ("status", "x", "enc_keys")]
            await client.send("".join(lines).encode())
            assert [(await client.answer())[0] for _ in lines] == [200, 404, 200]
            await client.close()

    asyncio.run(scenario())


def test_head_and_upgrade_are_plain_requests(certificates: Path, folder: Path) -> None:
    async def scenario() -> None:
        async with listening(configuration_of("alice", certificates, folder), KnownPool()) as port:
            client = await RawClient.connect(port, certificates, ALICE_SAE)
            upgrade = "Connection: Upgrade\r\nUpgrade: h2c\r\n"
            await client.send(f"GET {KEYS}/status HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n".encode())
            assert (await client.answer())[0] == 200
            await client.send(f"HEAD {KEYS}/status HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert (await client.answer())[::2] == (405, b"")
            assert (await client.call("GET", f"{KEYS}/status"))[0] == 200
            await client.close()

    asyncio.run(scenario())


def test_nothing_is_read_before_tls(certificates: Path, folder: Path) -> None:
    """A request in plain text, then a handshake on the same connection: the request was never made."""

    def inject(port: int) -> None:
        context = client_context(*certificate_files(certificates, ALICE_SAE))
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(f"GET {KEYS}/enc_keys HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            with context.wrap_socket(connection, server_hostname="localhost") as secured:
                secured.recv(1)

    async def scenario() -> None:
        pool = KnownPool()
        async with listening(configuration_of("alice", certificates, folder), pool) as port:
            with pytest.raises(OSError):
                await asyncio.to_thread(inject, port)
        assert not pool.asked

    asyncio.run(scenario())


def test_strangers_who_only_connect_keep_nobody_out(certificates: Path, folder: Path) -> None:
    async def scenario() -> None:
        configuration = configuration_of("alice", certificates, folder, api={"max_connections": 4})
        async with listening(configuration, KnownPool()) as port:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("diqkd_postproc.delivery.tls_listener.MAX_HANDSHAKES", 8)
                strangers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
                assert await strangers[0][0].read() == b"", "the oldest ones were ended"
                client = await RawClient.connect(port, certificates, ALICE_SAE)
                assert (await client.call("GET", f"{KEYS}/status"))[0] == 200
                await client.close()
                for _, writer in strangers:
                    writer.close()

    asyncio.run(scenario())


def test_a_fault_of_the_program_is_503_without_details(certificates: Path, folder: Path) -> None:
    async def scenario() -> None:
        pool = KnownPool()
        pool.error = ZeroDivisionError("deadbeef")
        async with listening(configuration_of("alice", certificates, folder), pool) as port:
            client = await RawClient.connect(port, certificates, ALICE_SAE)
            answer = await client.call("GET", f"{KEYS}/enc_keys")
            assert answer == (503, {"message": "the service has a fault"})
            pool.error = None
            assert (await client.call("GET", f"{KEYS}/enc_keys"))[0] == 200
            await client.close()

    asyncio.run(scenario())


def test_too_many_connections_of_one_sae(certificates: Path, folder: Path) -> None:
    async def scenario() -> None:
        configuration = configuration_of(
            "alice", certificates, folder, api={"max_connections_per_sae": 2, "max_connections": 3}
        )
        async with listening(configuration, KnownPool()) as port:
            clients = [await RawClient.connect(port, certificates, ALICE_SAE) for _ in range(2)]
            for client in clients:
                assert (await client.call("GET", f"{KEYS}/status"))[0] == 200
            third = await RawClient.connect(port, certificates, ALICE_SAE)
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await third.call("GET", f"{KEYS}/status")
            other = await RawClient.connect(port, certificates, ALICE_SAE_2)
            assert (await other.call("GET", f"{KEYS}/status"))[0] == 200
            for client in (*clients, third, other):
                await client.close()

    asyncio.run(scenario())


def test_a_client_that_leaves_is_noticed_before_delivery(certificates: Path, folder: Path) -> None:
    async def scenario() -> None:
        pool = KnownPool()
        pool.going.clear()
        async with listening(configuration_of("alice", certificates, folder), pool) as port:
            client = await RawClient.connect(port, certificates, ALICE_SAE)
            await client.send(f"GET {KEYS}/enc_keys HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            await pool.waiting.wait()
            client.writer.transport.abort()
            for _ in range(1000):
                await asyncio.sleep(0)
            pool.going.set()
        assert pool.was_abandoned

    asyncio.run(scenario())


def test_closing_finishes_what_is_being_served(certificates: Path, folder: Path) -> None:
    async def scenario() -> None:
        pool = KnownPool()
        pool.going.clear()
        async with listening(configuration_of("alice", certificates, folder), pool) as port:
            busy = await RawClient.connect(port, certificates, ALICE_SAE)
            idle = await RawClient.connect(port, certificates, ALICE_SAE)
            assert (await idle.call("GET", f"{KEYS}/status"))[0] == 200
            await busy.send(f"GET {KEYS}/enc_keys HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            await pool.waiting.wait()
            asyncio.get_running_loop().call_later(0.02, pool.going.set)
        status, headers, _ = await busy.answer()
        assert status == 200 and headers["connection"] == "close"
        assert await idle.is_closed()
        for client in (busy, idle):
            await client.close()

    asyncio.run(scenario())


def test_the_audit_log_tells_who_got_what_and_no_bit_of_it(certificates: Path, folder: Path) -> None:
    configuration = configuration_of("alice", certificates, folder)

    async def scenario() -> None:
        async with listening(configuration, KnownPool()) as port:
            for name in (ALICE_SAE, NO_SAE):
                client = await RawClient.connect(port, certificates, name)
                await client.call("GET", f"{KEYS}/enc_keys")
                await client.call("GET", f"/api/v1/keys/{'%0A' * 50}/enc_keys")
                await client.close()

    asyncio.run(scenario())
    text = configuration.kme.audit_log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["outcome"], line["sae"]) for line in lines] == [
        (200, ALICE_SAE),
        (400, ALICE_SAE),
        (401, f"unknown: {NO_SAE}"),
        (401, f"unknown: {NO_SAE}"),
    ]
    assert lines[0]["action"] == "enc_keys" and lines[0]["key_ids"] == [ID_1] and lines[0]["size"] == 256
    assert lines[0]["peer_sae"] == BOB_SAE and lines[0]["address"].startswith("127.0.0.1:")
    for secret in ("deadbeef", "3q2+7w", "\\xde"):
        assert secret not in text
    if os.name == "posix":
        assert configuration.kme.audit_log.stat().st_mode & 0o777 == 0o600


def test_no_key_without_its_line_in_the_audit_log(certificates: Path, folder: Path) -> None:
    async def scenario() -> None:
        configuration = configuration_of("alice", certificates, folder)
        async with listening(configuration, KnownPool()) as port:
            client = await RawClient.connect(port, certificates, ALICE_SAE)
            with pytest.MonkeyPatch.context() as patch:

                def full(_descriptor: int, _data: bytes) -> int:
                    raise OSError(28, "No space left on device")

                patch.setattr("diqkd_postproc.delivery.audit_log.os.write", full)
                status, answer = await client.call("GET", f"{KEYS}/enc_keys")
            assert (status, answer) == (503, {"message": "the audit log cannot be written"})
            await client.close()

    asyncio.run(scenario())


def raw_visit(port: int, certificates: Path, version: ssl.TLSVersion, name: str | None) -> str:
    """What a client with or without a certificate is told, as curl sees it."""
    context = ssl.create_default_context(cafile=certificates / "authority.crt")
    context.maximum_version = version
    if name is not None:
        context.load_cert_chain(*certificate_files(certificates, name)[:2])
    with (
        pytest.raises(OSError) as caught,
        socket.create_connection(("127.0.0.1", port), timeout=60) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secured,
    ):
        secured.sendall(f"GET {KEYS}/status HTTP/1.1\r\nHost: kme\r\n\r\n".encode())
        assert secured.recv(100), "an answer, or at least an alert"
    return str(caught.value)


@pytest.mark.parametrize(
    ("version", "name", "alert", "reason"),
    [
        (ssl.TLSVersion.TLSv1_2, None, "handshake failure", "peer did not return a certificate"),
        (ssl.TLSVersion.TLSv1_3, None, "certificate required", "peer did not return a certificate"),
        (ssl.TLSVersion.TLSv1_2, STRANGER, "unknown ca", "certificate"),
        (ssl.TLSVersion.TLSv1_3, STRANGER, "unknown ca", "certificate"),
    ],
)
def test_a_refused_handshake_is_alerted_and_logged(
    certificates: Path,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    version: ssl.TLSVersion,
    name: str | None,
    alert: str,
    reason: str,
) -> None:
    async def scenario() -> None:
        async with listening(configuration_of("alice", certificates, folder), KnownPool()) as port:
            seen = await asyncio.to_thread(raw_visit, port, certificates, version, name)
            assert alert in seen.replace("_", " ").lower()

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("refused a TLS handshake from 127.0.0.1:") and reason in line


def test_refusals_are_logged_in_bounded_number(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    log = BoundedLog(logging.getLogger("bounded"), lambda: now)
    for _ in range(3 * NUM_LINES):
        log.warning("refused")
    now = 2 * WINDOW_S
    log.warning("refused %s", "again")
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["refused"] * NUM_LINES + [
        f"{2 * NUM_LINES} more refusals were not logged",
        "refused again",
    ]
    assert log.num_warnings == 3 * NUM_LINES + 1


def test_certificates_that_end_end_their_connections(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Expired ones at their time, revoked ones when the list changes; and no new handshake then."""
    authority = TrialAuthority("trial authority")
    certificates = make_certificates(folder / "certificates", authority)
    revocation_list = certificates / "revoked.pem"
    write_revocation_list(authority, revocation_list, [])
    configuration = configuration_of("alice", certificates, folder, kme={"revocation_list": revocation_list})
    revoked = certificate_files(certificates, ALICE_SAE)[0]
    now = datetime.now(UTC)

    async def scenario() -> None:
        pool = KnownPool()
        async with running_listener(configuration, pool) as (listener, port):
            bad, good = [
                await RawClient.connect(port, certificates, name) for name in (ALICE_SAE, ALICE_SAE_2)
            ]
            for client in (bad, good):
                assert (await client.call("GET", f"{KEYS}/status"))[0] == 200
            listener.check_certificates(now)
            write_revocation_list(authority, revocation_list, [revoked])
            os.utime(revocation_list, ns=(0, 0))
            listener.check_certificates(now)
            assert await bad.is_closed()
            assert (await good.call("GET", f"{KEYS}/status"))[0] == 200
            alert = await asyncio.to_thread(raw_visit, port, certificates, ssl.TLSVersion.TLSv1_3, ALICE_SAE)
            assert "revoked" in alert
            revocation_list.write_text("nonsense")
            os.utime(revocation_list, ns=(1, 1))
            listener.check_certificates(now)
            assert (await good.call("GET", f"{KEYS}/status"))[0] == 200, "the earlier list stays"
            listener.check_certificates(now + timedelta(days=31))
            assert await good.is_closed()
            for client in (bad, good):
                await client.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    text = caplog.text
    for part in (
        "'sae-alice' was revoked",
        "'sae-alice-2' has expired",
        "read the changed certificates again",
    ):
        assert part in text
    assert "the earlier ones stay" in text and "certificate revoked" in text


def test_the_pages_for_operators(certificates: Path, folder: Path) -> None:
    openmetrics = pytest.importorskip(
        "prometheus_client.openmetrics.parser",
        reason="needs the package prometheus-client, of the extra test",
    )

    async def scenario() -> None:
        pool = KnownPool()
        async with listening(configuration_of("alice", certificates, folder), pool) as port:
            client = await RawClient.connect(port, certificates, NO_SAE)
            assert await client.call("GET", "/health") == (200, {"status": "up"})
            assert (await client.call("GET", f"{KEYS}/enc_keys"))[0] == 401
            master = await RawClient.connect(port, certificates, ALICE_SAE)
            assert (await master.call("POST", f"{KEYS}/enc_keys", {"number": 3}))[0] == 200
            await client.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            status, headers, body = await client.answer()
            assert status == 200 and headers["content-type"].startswith("application/openmetrics-text")
            samples = {
                (sample.name, *sorted(sample.labels.values())): sample.value
                for family in openmetrics.text_string_to_metric_families(body.decode())
                for sample in family.samples
            }
            assert samples["diqkd_delivery_requests_total", "200", "enc_keys"] == 1
            assert samples["diqkd_delivery_requests_total", "401", "enc_keys"] == 1
            assert samples["diqkd_delivery_keys_total", "enc_keys"] == 3
            assert samples["diqkd_delivery_free_bits",] == 4711
            assert ID_1.encode() not in body and CANARY.hex().encode() not in body
            pool.error = StorageError("/home/alice/keys.sqlite: the disk is full")
            assert await client.call("GET", "/health") == (503, {"message": "the key store cannot be used"})
            for one in (client, master):
                await one.close()

    asyncio.run(scenario())


def test_skip(certificates: Path, folder: Path) -> None:
    """Paths, members and the hexadecimal of draft-cisco-skip-02, section 4."""

    async def scenario() -> None:
        pool = KnownPool()
        async with listening(configuration_of("alice", certificates, folder), pool) as port:
            client = await RawClient.connect(port, certificates, ALICE_SAE)
            status, answer = await client.call("GET", "/capabilities")
            assert status == 200 and (answer["entropy"], answer["key"]) == (False, True)
            assert answer["localSystemID"] == ALICE_SAE
            assert answer["remoteSystemID"] == [BOB_SAE, BOB_SAE_2]
            peer = f"remoteSystemID={BOB_SAE}"
            for query, size in ((peer, 256), (f"{peer}&size=128", 128)):
                status, answer = await client.call("GET", f"/key?{query}")
                assert status == 200
                assert answer == {"keyId": ID_1.replace("-", ""), "key": CANARY[: size // 8].hex()}
                assert pool.asked.pop() == (ALICE_SAE, BOB_SAE, 1, size)
            status, answer = await client.call("GET", f"/key/{ID_1.replace('-', '').upper()}?{peer}")
            assert status == 200 and answer == {"keyId": ID_1.replace("-", ""), "key": CANARY.hex()}
            assert pool.asked.pop() == (BOB_SAE, ALICE_SAE, ID_1)
            for method, path, expected in (
                ("GET", "/key", 400),
                ("GET", f"/key?remoteSystemID={ALICE_SAE_2}", 400),
                ("GET", f"/key?{peer}&size=7", 400),
                ("GET", f"/key?{peer}&size=x", 400),
                ("GET", f"/key?{peer}&more=1", 400),
                ("GET", f"/key?{peer}&{peer}", 400),
                ("GET", f"/key/{ID_1}?{peer}", 400),
                ("GET", f"/key/{'0' * 31}g?{peer}", 400),
                ("GET", f"/key/{'0' * 32}?{peer}&size=8", 400),
                ("GET", f"/key/{'0' * 32}/more?{peer}", 404),
                ("GET", "/key/", 404),
                ("GET", "/entropy", 404),
                ("POST", f"/key?{peer}", 405),
            ):
                assert (await client.call(method, path))[0] == expected, path
            assert not pool.asked
            await client.close()

    asyncio.run(scenario())


def test_a_body_of_another_type_is_refused(certificates: Path, folder: Path) -> None:
    async def scenario() -> None:
        async with listening(configuration_of("alice", certificates, folder), KnownPool()) as port:
            client = await RawClient.connect(port, certificates, ALICE_SAE)
            head = f"POST {KEYS}/enc_keys HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
            await client.send(f"{head}Content-Length: 2\r\n\r\n{{}}".encode())
            status, _, body = await client.answer()
            assert status == 400 and b"application/json" in body
            await client.close()

    asyncio.run(scenario())


def test_a_request_that_the_end_of_the_service_cuts_is_in_the_audit_log(
    certificates: Path, folder: Path
) -> None:
    configuration = configuration_of("alice", certificates, folder)

    async def scenario() -> None:
        pool = KnownPool()
        pool.going.clear()
        async with running_listener(configuration, pool, closing_s=0.01) as (_, port):
            client = await RawClient.connect(port, certificates, ALICE_SAE)
            await client.send(f"GET {KEYS}/enc_keys HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            await pool.waiting.wait()
            stranger, _ = await asyncio.open_connection("127.0.0.1", port)
        assert await client.is_closed() and await stranger.read() == b""
        await client.close()

    asyncio.run(scenario())
    (line,) = configuration.kme.audit_log.read_text().splitlines()
    assert json.loads(line)["outcome"] == "stopped" and json.loads(line)["action"] == "enc_keys"


def test_more_clients_than_allowed_are_refused_and_logged(
    certificates: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        configuration = configuration_of("alice", certificates, folder, api={"max_connections": 1})
        async with running_listener(configuration, KnownPool()) as (listener, port):
            first = await RawClient.connect(port, certificates, ALICE_SAE)
            assert (await first.call("GET", f"{KEYS}/status"))[0] == 200 and listener.num_connections == 1
            second = await RawClient.connect(port, certificates, ALICE_SAE_2)
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await second.call("GET", f"{KEYS}/status")
            for client in (first, second):
                await client.close()

    asyncio.run(scenario())
    assert "refused a connection: 1 are open" in caplog.text


def test_a_certificate_file_that_is_gone_ends_nothing(
    certificates: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = {}
    for name, path in zip(
        ("certificate", "private_key", "authority"), certificate_files(certificates, ALICE_KME), strict=True
    ):
        files[name] = folder / name
        files[name].write_bytes(path.read_bytes())
        files[name].chmod(0o600)

    async def scenario() -> None:
        configuration = configuration_of("alice", certificates, folder, kme=files)
        async with running_listener(configuration, KnownPool()) as (listener, port):
            files["certificate"].unlink()
            listener.check_certificates(datetime.now(UTC))
            client = await RawClient.connect(port, certificates, ALICE_SAE)
            assert (await client.call("GET", f"{KEYS}/status"))[0] == 200
            await client.close()

    asyncio.run(scenario())
    assert "the earlier ones stay" in caplog.text
