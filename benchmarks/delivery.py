"""Requests a second of the key delivery service, and what each costs: python -m benchmarks.delivery

Two services run as processes on this machine and serve requests over loopback, by mutual TLS:
Get status, Get key (one key of 256 bits) and Get key with key IDs, the same keys from the other side. Every
kind is requested `--requests` times over `--connections` connections that stay open.

The figure to compare is the processor time that a request costs each service, which other work on the
machine disturbs least. The inverse of the greater one is what a core at each node could serve, that of their
sum what one core could serve as both. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import ssl
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from diqkd.console import print_json
from diqkd_postproc.delivery import trial
from diqkd_postproc.delivery.client import SaeProfile
from diqkd_postproc.delivery.configuration import load_configuration
from diqkd_postproc.delivery.key_ids import PAD_BITS
from diqkd_postproc.delivery.service import running_service
from diqkd_postproc.delivery.tls import client_context
from diqkd_postproc.key_store import PAD_NAMES, KeyStore
from diqkd_postproc.machine import describe_machine
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import ROLES

KEY_BITS = 256
OVERHEAD_BITS = 1 << 16


def make_stores(folder: Path, num_bits: int) -> None:
    """Stores with one generated key, of fixed pseudo-random bits: worth nothing, as it should be here."""
    random = np.random.default_rng(1)
    parameters = ProtocolParameters(
        num_rounds=1000,
        test_numerator=13,
        test_bits=8,
        omega_threshold=0.8,
        syndrome_bits=500,
        key_bits=0,
        soundness_error=1e-10,
        one_bit_error=1e-12,
        design_chsh_score=2.64,
        design_qber=0.018,
    )
    paths = [folder / f"{role}.sqlite" for role in ROLES]
    key = random.integers(0, 2, num_bits, dtype=np.uint8)
    for store in KeyStore.create_pair(*paths, parameters, random.bytes, seed_bits=80):
        for name in PAD_NAMES:
            store.consume(name, "benchmark", b"message")
        store.activate("benchmark", key)
        store.close()


def serve(configuration: Path, orders: Connection) -> None:
    """A service process: sends its port, then its processor seconds when asked, until told to end."""

    async def run() -> None:
        async with running_service(load_configuration(configuration)) as service:
            orders.send(service.api_address[1])
            while await asyncio.to_thread(orders.recv) == "time":
                orders.send(time.process_time())

    asyncio.run(run())


class Client:
    """One connection that stays open; the smallest client there can be, so that it costs little."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, port: int, context: ssl.SSLContext) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=context))

    async def get(self, path: str) -> tuple[int, bytes]:
        self._writer.write(f"GET /api/v1/keys/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()


async def ask_all(clients: Sequence[Client], paths: Sequence[str]) -> list[bytes]:
    """Every path once, each client one after the other; the answers, all of which have to be 200."""
    answers: list[bytes] = []
    todo = iter(paths)

    async def work(client: Client) -> None:
        for path in todo:
            code, body = await client.get(path)
            if code != 200:
                raise RuntimeError(f"{path} was answered {code}: {body.decode()}")
            answers.append(body)

    await asyncio.gather(*(work(client) for client in clients))
    return answers


async def measure(
    folder: Path, requests: int, connections: int, ports: Sequence[int], cpu: Callable[[], list[float]]
) -> dict[str, Any]:
    """Figures of each kind of request."""
    clients = []
    for role, port in zip(ROLES, ports, strict=True):
        profile = SaeProfile.load(folder / f"sae-{role}.toml")
        context = client_context(profile.certificate, profile.private_key, profile.authority)
        clients.append([await Client.connect(port, context) for _ in range(connections)])
    alice, bob = clients
    report: dict[str, Any] = {}

    async def timed(name: str, asked: Sequence[Client], paths: Sequence[str]) -> list[bytes]:
        await ask_all(asked, [path for path in paths[:connections] if "status" in path])
        wall, before = time.perf_counter(), cpu()
        answers = await ask_all(asked, paths)
        seconds = time.perf_counter() - wall
        used = [after - earlier for after, earlier in zip(cpu(), before, strict=True)]
        report[name] = {
            "requests": len(paths),
            "requests_per_second": len(paths) / seconds,
            "cpu_ms_per_request": {
                role: 1e3 * one / len(paths) for role, one in zip(ROLES, used, strict=True)
            },
            "requests_per_core_second": len(paths) / max(used),
            "requests_per_core_second_of_both": len(paths) / sum(used),
        }
        return answers

    await timed("status", alice, ["sae-bob/status"] * requests)
    given = await timed("enc_keys", alice, [f"sae-bob/enc_keys?size={KEY_BITS}"] * requests)
    keys = {item["key_ID"]: item["key"] for answer in given for item in json.loads(answer)["keys"]}
    fetched = await timed("dec_keys", bob, [f"sae-alice/dec_keys?key_ID={key_id}" for key_id in keys])
    assert {i["key_ID"]: i["key"] for a in fetched for i in json.loads(a)["keys"]} == keys
    assert len(set(keys.values())) == len(keys) == requests
    for client in (*alice, *bob):
        client.close()
    return report


def run(requests: int, connections: int) -> dict[str, Any]:
    """The whole benchmark."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        make_stores(folder, requests * 2 * (KEY_BITS + PAD_BITS) + OVERHEAD_BITS)
        files = trial.write_trial(folder, [folder / f"{role}.sqlite" for role in ROLES], (0, 0))
        services, orders, ports = [], [], []
        try:
            for role in ROLES:
                here, there = context.Pipe()
                service = context.Process(target=serve, args=(files / f"{role}.toml", there), daemon=True)
                service.start()
                services.append(service)
                orders.append(here)
                ports.append(here.recv())

            def processor_seconds() -> list[float]:
                for order in orders:
                    order.send("time")
                return [order.recv() for order in orders]

            report = asyncio.run(measure(files, requests, connections, ports, processor_seconds))
        finally:
            for order in orders:
                order.send("end")
            for service in services:
                service.join(20)
                service.kill()
    return {"machine": describe_machine(), "connections": connections, **report}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=2000, help="requests of each kind (default: 2000)")
    parser.add_argument("--connections", type=int, default=32, help="open connections (default: 32)")
    arguments = parser.parse_args()
    print_json(run(arguments.requests, arguments.connections))
