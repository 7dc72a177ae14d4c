"""Reserved ports: a program can listen on its own, and nobody else is given it."""

import asyncio
import socket
import sys

import pytest

from diqkd.demo.ports import LOOPBACK, reserved_ports


def test_a_program_can_listen_on_a_reserved_port() -> None:
    with reserved_ports(2) as first:
        for port in (first, first + 1):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((LOOPBACK, port), 5.0)
            with socket.create_server((LOOPBACK, port)), socket.create_connection((LOOPBACK, port), 5.0):
                pass

        async def serve() -> None:
            (await asyncio.start_server(lambda reader, writer: None, LOOPBACK, first)).close()

        asyncio.run(serve())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a bound port cannot be bound by its program")
def test_nobody_else_gets_a_reserved_port() -> None:
    with reserved_ports(1) as port, socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((LOOPBACK, port))


def test_more_ports_than_there_are() -> None:
    with pytest.raises(OSError, match="70000 consecutive"), reserved_ports(70_000):
        pass
