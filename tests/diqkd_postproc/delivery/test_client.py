"""Our client against a KME that answers whatever it likes."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from pathlib import Path

import pytest

from diqkd_postproc.delivery.bounded_log import BoundedLog
from diqkd_postproc.delivery.client import SaeClient, SaeProfile, write_keys
from diqkd_postproc.delivery.data_formats import Key
from diqkd_postproc.delivery.refusals import BadRequest, Refusal, Unauthorized, Unavailable
from diqkd_postproc.delivery.tls import service_context
from diqkd_postproc.delivery.tls_connection import TlsConnection
from diqkd_postproc.delivery.tls_listener import TlsListener
from diqkd_postproc.protocol.errors import DiqkdError, ParameterError, RemoteProtocolError, StorageError
from tests.support.delivery_trial import ALICE_KME, ALICE_SAE, certificate_files


def http(status: int, body: bytes) -> bytes:
    return f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def container(key_id: object, key: str = base64.b64encode(b"12345678").decode()) -> bytes:
    return http(200, json.dumps({"keys": [{"key_ID": key_id, "key": key}]}).encode())


def ask(certificates: Path, answer: bytes) -> tuple[Key, ...]:
    """One request for a key, to a service that has one answer."""

    async def say(connection: TlsConnection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        connection.write(answer)
        await connection.drain()
        connection.close()
        await connection.wait_closed()

    async def scenario() -> tuple[Key, ...]:
        files = certificate_files(certificates, ALICE_KME)
        listener = TlsListener(service_context(*files), say, 8, BoundedLog(logging.getLogger()))
        _, port = await listener.start("127.0.0.1:0")
        certificate, private_key, authority = certificate_files(certificates, ALICE_SAE)
        profile = SaeProfile(
            service=f"https://localhost:{port}",
            certificate=certificate,
            private_key=private_key,
            authority=authority,
        )
        try:
            return await asyncio.to_thread(SaeClient(profile).new_keys, "peer", 1)
        finally:
            await listener.close()

    return asyncio.run(scenario())


def test_a_key_container_is_read(certificates: Path) -> None:
    assert ask(certificates, container("an-id-7")) == (Key(key_id="an-id-7", key=b"12345678"),)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (b"", Unavailable, "does not serve us"),
        (b"SSH-2.0-x\r\n\r\n", RemoteProtocolError, "does not speak HTTP"),
        (http(200, b"{"), RemoteProtocolError, "not a JSON object"),
        (http(200, b"[" * 50_000), RemoteProtocolError, "not a JSON object"),
        (http(200, b"[]"), RemoteProtocolError, "not a JSON object"),
        (http(200, b"{}"), RemoteProtocolError, "not a key container"),
        (container("../../etc/passwd"), RemoteProtocolError, "not a UUID"),
        (container(""), RemoteProtocolError, "not a UUID"),
        (container(7), RemoteProtocolError, "not a key container"),
        (container("id", "not base64!"), RemoteProtocolError, "not a key container"),
        (http(400, b'{"message": "no"}'), BadRequest, "answers 400: no"),
        (http(401, b""), Unauthorized, "401"),
        (http(418, b'{"message": "tea"}'), Refusal, "answers 418: tea"),
        (http(503, b'{"message": "' + b"x" * 9999 + b'"}'), Unavailable, "answers 503: xxx"),
    ],
)
def test_any_other_answer_is_an_error(
    certificates: Path, answer: bytes, error: type[DiqkdError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        ask(certificates, answer)
    assert len(str(caught.value)) < 700


def test_profiles_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "sae.toml"
    for text, message in (
        (None, "cannot read"),
        ("service = ", "is not TOML"),
        ("service = 7", "sae.toml: "),
    ):
        if text is not None:
            path.write_text(text)
        with pytest.raises(ParameterError, match=message):
            SaeProfile.load(path)


def test_keys_are_never_written_over(folder: Path) -> None:
    (folder / "1.key").write_bytes(b"another key")
    with pytest.raises(StorageError, match="0 of 1 keys are in"):
        write_keys(folder, [Key(key_id="1", key=b"x")])
    assert (folder / "1.key").read_bytes() == b"another key"
