"""The connection between the KMEs: who may talk on it, what ends it, what survives a cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from diqkd_postproc.delivery.exchange_messages import HELLO, MAX_BLOCKS, NO_TAG, REQUEST, frame
from diqkd_postproc.delivery.service import running_service
from diqkd_postproc.delivery.tls import client_context
from diqkd_postproc.protocol.errors import StorageError
from tests.support.delivery_trial import (
    ALICE_KME,
    ALICE_SAE,
    BOB_KME,
    BOB_SAE,
    RawClient,
    Trial,
    certificate_files,
    configuration_of,
    key_bytes,
    make_stores,
)

ENC_KEYS = f"/api/v1/keys/{BOB_SAE}/enc_keys"


def hello(**changes: Any) -> bytes:
    document = {"version": 1, "kme": BOB_KME, "role": "bob", "keys": [], "pads": [], "own_blocks": 1}
    return frame(HELLO, NO_TAG, json.dumps(document | changes).encode())


async def read_hello(client: RawClient) -> Any:
    size = int.from_bytes(await client.reader.readexactly(4), "big")
    data = await client.reader.readexactly(size)
    assert data[:9] == HELLO + NO_TAG
    return json.loads(data[9:])


def test_strangers_and_nonsense_are_hung_up_on(certificates: Path, folder: Path) -> None:
    make_stores(folder, 10_000)
    nonsense = [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x00",
        frame(b"X", NO_TAG, b"{}"),
        frame(REQUEST, NO_TAG, b"{}"),
        frame(HELLO, NO_TAG, b"{"),
        frame(HELLO, NO_TAG, b"[" * 100_000),
        hello(version=2),
        hello(kme="kme-eve"),
        hello(role="alice"),
        hello(extra=1),
        hello(keys=[["session-1", -1]]),
        hello() + frame(REQUEST, NO_TAG, b"{}"),
        hello() + frame(b"A", NO_TAG, b"{}"),
        hello() + frame(b"F", b"12345678", b"{}"),
    ]

    async def scenario() -> None:
        async with running_service(configuration_of("alice", certificates, folder)) as service:
            assert service.kme_address is not None
            port = service.kme_address[1]
            for name in (ALICE_SAE, BOB_SAE, ALICE_KME):
                client = await RawClient.connect(port, certificates, name)
                assert await client.is_closed(), name
                await client.close()
            for data in nonsense:
                context = client_context(*certificate_files(certificates, BOB_KME))
                client = await RawClient.connect(port, certificates, "", context)
                mine = await read_hello(client)
                assert mine["keys"] == [["session-1", 10_000]] and mine["kme"] == ALICE_KME
                await client.send(data)
                async with asyncio.timeout(30):
                    await client.reader.read()  # ends when Alice hangs up
                await client.close()
            assert not service.kme_connection.is_up

    asyncio.run(scenario())


def test_more_blocks_of_pads_than_fit_into_a_hello_do_not_end_the_link(
    certificates: Path, folder: Path
) -> None:
    """Every key brings two for each side: thousands of sessions make more than a Hello may hold."""
    make_stores(folder, 10_000)

    async def scenario() -> None:
        async with running_service(configuration_of("alice", certificates, folder)) as service:
            assert service.kme_address is not None
            many = tuple(f"tag pads bob 0 of {number}" for number in range(MAX_BLOCKS + 1))
            service.kme_connection._pads.usable = lambda role: many  # type: ignore[method-assign]
            context = client_context(*certificate_files(certificates, BOB_KME))
            client = await RawClient.connect(service.kme_address[1], certificates, "", context)
            assert (await read_hello(client))["pads"] == list(many[:MAX_BLOCKS])
            await client.close()

    asyncio.run(scenario())


class Cutter:
    """A TCP relay that can cut a connection after a request has passed and before its answer has."""

    def __init__(self) -> None:
        self.port = 0
        self.target = 0
        self.cut_at_answer = False
        self.cuts = 0

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_answer: bool) -> None:
            while data := await source.read(1 << 16):
                if is_answer and self.cut_at_answer and len(data) > 60:
                    self.cut_at_answer, self.cuts = False, self.cuts + 1
                    break
                sink.write(data)
            for end in (writer, far_writer):
                end.transport.abort()

        # Bob connects: what he sends is the answer to Alice.
        with suppress(OSError):
            await asyncio.gather(pump(reader, far_writer, True), pump(far_reader, writer, False))


@asynccontextmanager
async def cutter() -> AsyncIterator[Cutter]:
    one = Cutter()
    server = await asyncio.start_server(one.relay, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    yield one
    server.close()


def test_a_cut_between_request_and_answer_costs_no_key(certificates: Path, folder: Path) -> None:
    make_stores(folder, 20_000)

    async def scenario() -> None:
        async with cutter() as cut:
            trial = Trial(certificates, folder)
            await trial.start("alice")
            cut.target, trial.kme_port = trial.kme_port, cut.port
            await trial.start("bob")
            await trial.connected("alice")
            await trial.connected("bob")
            master, slave = await trial.client(ALICE_SAE), await trial.client(BOB_SAE)
            for number in range(1, 4):
                cut.cut_at_answer = True
                code, answer = await master.call("GET", ENC_KEYS)
                assert code == 200 and cut.cuts == number
                keys = key_bytes(answer)
                (key_id,) = keys
                await trial.connected("bob")
                code, answer = await slave.call("GET", f"/api/v1/keys/{ALICE_SAE}/dec_keys?key_ID={key_id}")
                assert code == 200 and key_bytes(answer) == keys
            for client in (master, slave):
                await client.close()
            for role in ("alice", "bob"):
                await trial.stop(role)

    asyncio.run(scenario())


def test_an_address_in_use_is_a_clear_error(certificates: Path, folder: Path) -> None:
    make_stores(folder, 10_000)

    async def scenario() -> None:
        async with running_service(configuration_of("alice", certificates, folder)) as service:
            api = {"listen": f"127.0.0.1:{service.api_address[1]}"}
            with pytest.raises(StorageError, match=r"cannot listen: .*; choose another address"):
                async with running_service(configuration_of("alice", certificates, folder, api=api)):
                    pass

    asyncio.run(scenario())
