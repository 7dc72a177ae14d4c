"""Certificates, revocation lists and what goes wrong with a TLS connection around its handshake."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from pathlib import Path

import pytest

from diqkd_postproc.delivery import tls_listener
from diqkd_postproc.delivery.certificates import TrialAuthority, read_certificate, revoked_serial_numbers
from diqkd_postproc.delivery.tls import client_context, service_context
from diqkd_postproc.protocol.errors import StorageError
from tests.support.delivery_trial import (
    ALICE_KME,
    ALICE_SAE,
    RawClient,
    certificate_files,
    configuration_of,
    listening,
    write_revocation_list,
)
from tests.support.known_pool import KnownPool


def test_the_name_is_the_one_in_the_configured_field(folder: Path) -> None:
    authority = TrialAuthority("authority")
    authority.issue(folder, "one", is_service=True, hosts=("a.example", "192.0.2.1"))
    authority.issue(folder, "two", is_service=True, hosts=("a.example", "b.example"), common_names=("x", "y"))
    authority.write(folder / "authority.crt")
    one, two, none = (
        ssl.PEM_cert_to_DER_cert((folder / f"{name}.crt").read_text()) for name in ("one", "two", "authority")
    )
    assert [read_certificate(one, field).name for field in ("common_name", "uri", "dns")] == [
        "one",
        "urn:diqkd:one",
        "a.example",
    ]
    assert [read_certificate(two, field).name for field in ("common_name", "uri", "dns")] == [
        None,
        "urn:diqkd:two",
        None,
    ]
    assert read_certificate(none, "dns").name is None, "no alternative names at all"


def test_revocation_lists_that_cannot_be_trusted_are_refused(folder: Path) -> None:
    authority, other = TrialAuthority("authority"), TrialAuthority("authority")
    authority.issue(folder, "one", is_service=False)
    authority.write(folder / "authority.crt")
    path = folder / "revoked.pem"
    write_revocation_list(authority, path, [folder / "one.crt"])
    assert len(revoked_serial_numbers(path, folder / "authority.crt")) == 1
    write_revocation_list(other, path, [])
    with pytest.raises(StorageError, match=r"is not a revocation list that .* has signed"):
        revoked_serial_numbers(path, folder / "authority.crt")
    path.write_text("nonsense")
    with pytest.raises(StorageError, match="is not a revocation list"):
        revoked_serial_numbers(path, folder / "authority.crt")
    with pytest.raises(StorageError, match="not a revocation list in PEM form"):
        service_context(*certificate_files_of(folder, "one"), path)
    path.unlink()
    with pytest.raises(StorageError):
        revoked_serial_numbers(path, folder / "authority.crt")
    with pytest.raises(StorageError, match="cannot read the revocation list"):
        service_context(*certificate_files_of(folder, "one"), path)


def certificate_files_of(folder: Path, name: str) -> tuple[Path, Path, Path]:
    return folder / f"{name}.crt", folder / f"{name}.key", folder / "authority.crt"


def test_files_that_do_not_fit_together_are_named(certificates: Path, folder: Path) -> None:
    certificate, key, authority = certificate_files(certificates, ALICE_KME)
    with pytest.raises(StorageError, match="are not a certificate, its key and an authority"):
        service_context(certificate, certificates / f"{ALICE_SAE}.key", authority)
    with pytest.raises(StorageError, match="cannot read"):
        service_context(folder / "none.crt", key, authority)


def test_clients_that_hang_up_or_say_nothing_are_logged(
    certificates: Path, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_listener, "HANDSHAKE_S", 0.05)
    monkeypatch.setattr(tls_listener, "LINGER_S", 0.05)

    async def scenario() -> None:
        async with listening(configuration_of("alice", certificates, folder), KnownPool()) as port:
            silent, _ = await asyncio.open_connection("127.0.0.1", port)
            assert await silent.read() == b""
            _, gone = await asyncio.open_connection("127.0.0.1", port)
            gone.write_eof()
            while len(caplog.records) < 2:
                await asyncio.sleep(0.01)
            gone.close()

    asyncio.run(scenario())
    reasons = [record.getMessage().rpartition(": ")[2] for record in caplog.records]
    assert reasons == ["the handshake took too long", "the client hung up during the handshake"]


def test_a_damaged_record_ends_the_connection(certificates: Path, folder: Path) -> None:
    def visit(port: int) -> bytes:
        context = client_context(*certificate_files(certificates, ALICE_SAE))
        with (
            socket.create_connection(("127.0.0.1", port), timeout=60) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as secured,
        ):
            os.write(secured.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
            with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac|decrypt"):
                secured.recv(1)
        return b"ended"

    async def scenario() -> None:
        pool = KnownPool()
        async with listening(configuration_of("alice", certificates, folder), pool) as port:
            assert await asyncio.to_thread(visit, port) == b"ended"
            client = await RawClient.connect(port, certificates, ALICE_SAE)
            assert (await client.call("GET", "/health"))[0] == 200
            await client.close()

    asyncio.run(scenario())


def test_a_client_that_does_not_read_is_waited_for_and_served(certificates: Path, folder: Path) -> None:
    """Answers of more than the sockets hold: the service stops writing, and goes on when it can."""

    async def scenario() -> None:
        async with listening(configuration_of("alice", certificates, folder), KnownPool()) as port:
            client = await RawClient.connect(port, certificates, ALICE_SAE)
            client.writer.transport.pause_reading()
            request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
            number = 6000  # of some 1 kB each
            sending = asyncio.create_task(client.send(request * number))
            await asyncio.sleep(0.2)
            client.writer.transport.resume_reading()
            assert {(await client.answer())[0] for _ in range(number)} == {200}
            await sending
            await client.close()

    asyncio.run(scenario())
