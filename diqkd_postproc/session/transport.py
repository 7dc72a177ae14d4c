"""Transport of bytes: the interface that the driver needs, and TCP.

One side listens, the other connects; either role may do either.

The network belongs to the adversary: this module moves bytes and bounds waiting, nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Protocol

from diqkd_postproc.session.engine import PeerUnavailable
from diqkd_postproc.session.framing import MAGIC

READ_BYTES = 1 << 16
RETRY_DELAY_S = 0.2
CLOSE_TIMEOUT_S = 3.0
FIRST_BYTES_S = 10.0
SILENCE_S = 3600.0
"""Longest silence of a connected peer: a slow machine's decoding at the greatest block length."""


class Transport(Protocol):
    """What carries one session's bytes; `Connection` and `exchange.FileExchange` are two."""

    async def receive(self) -> bytes:
        """Bytes of the peer; b"" when no more will come."""

    async def send(self, data: bytes) -> None:
        """Take bytes for the peer."""

    def pending(self) -> PeerUnavailable | None:
        """Where the peer cannot say more before somebody acts: the error that says how."""

    def end(self) -> None:
        """Say that nothing more will be sent."""

    async def close(self) -> None:
        """Release what was in use."""


class Connection:
    """A connected stream."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, already_read: bytes = b""
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._already_read = already_read
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def receive(self) -> bytes:
        """Bytes of the peer; b"" when the stream has ended, by whatever cause."""
        if self._already_read:
            data, self._already_read = self._already_read, b""
            return data
        try:
            return await self._reader.read(READ_BYTES)
        except OSError:
            return b""

    async def send(self, data: bytes) -> None:
        """Write; a connection that has broken, or a peer that does not read, shows in `receive`.

        Waits until the peer has read enough, at most SILENCE_S; b"" is not sent.
        """
        if not data:
            return
        with contextlib.suppress(OSError):
            self._writer.write(data)
            await asyncio.wait_for(self._writer.drain(), SILENCE_S)

    def pending(self) -> None:
        """A connected peer may always say more."""

    def end(self) -> None:
        """Say that nothing more will be sent; what was sent still arrives."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write_eof()

    async def close(self) -> None:
        """Release the socket; what a peer does not read is dropped after CLOSE_TIMEOUT_S."""
        self._writer.close()
        with contextlib.suppress(OSError):  # includes TimeoutError
            await asyncio.wait_for(self._writer.wait_closed(), CLOSE_TIMEOUT_S)
        self._writer.transport.abort()


async def connect(host: str, port: int, timeout: float) -> Connection:
    """Connect, trying again until `timeout` seconds have passed: the peer may start later.

    Raises PeerUnavailable with the last reason when the time has passed.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    reason = "no answer"
    while (left := deadline - asyncio.get_running_loop().time()) > 0:
        try:
            return Connection(*await asyncio.wait_for(asyncio.open_connection(host, port), left))
        except OSError as error:  # includes TimeoutError, ours and the operating system's
            reason = error.strerror or str(error) or reason
            await asyncio.sleep(min(RETRY_DELAY_S, max(left, 0.0)))
    raise PeerUnavailable(
        f"no peer at {host}:{port} within {timeout:g} s ({reason}); start the other side with "
        f"`--listen` on that address, or check the address and the firewall"
    )


async def listen(
    host: str, port: int, timeout: float, listening: Callable[[str, int], None] | None = None
) -> Connection:
    """Accept the first connection that begins as a session does; port scanners and the like are hung up on.

    `listening` is called with the bound address, which matters for port 0.
    """
    arrived: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start = b""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            start = await asyncio.wait_for(reader.readexactly(len(MAGIC)), FIRST_BYTES_S)
        if start != MAGIC or arrived.done():
            writer.close()
        else:
            arrived.set_result(Connection(reader, writer, start))

    try:
        server = await asyncio.start_server(accept, host, port)
    except OSError as error:
        raise PeerUnavailable(
            f"cannot listen on {host}:{port} ({error.strerror or error}); choose another address or port"
        ) from None
    bound = server.sockets[0].getsockname()
    try:
        if listening is not None:
            listening(bound[0], bound[1])
        return await asyncio.wait_for(arrived, timeout)
    except TimeoutError:
        raise PeerUnavailable(
            f"no peer connected to {bound[0]}:{bound[1]} within {timeout:g} s; start the other side with "
            "`--connect` to this address"
        ) from None
    finally:
        server.close()
