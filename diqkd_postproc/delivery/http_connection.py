"""HTTP/1.1 connection of a client: bounded in every direction, one request after the other.

h11 does the parsing, which is the part where request smuggling starts; this module moves bytes and sets
bounds. A request has to arrive whole within `request_s`; its head fits into `head_bytes`, its body into
`body_bytes`; a client that does not read its answer is dropped after `response_s`. A request that states its
length twice over (Content-Length and Transfer-Encoding) is refused. Whatever is wrong with the framing ends
the connection, so that nothing can be hidden behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import h11

from diqkd_postproc.delivery.data_formats import error

READ_BYTES = 1 << 14


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds of one connection: bytes and seconds."""

    head_bytes: int = 1 << 14
    body_bytes: int = 1 << 16
    request_s: float = 10.0
    idle_s: float = 60.0
    response_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A whole request. `is_abandoned` returns whether the client has closed the connection since.

    path: percent-encoded, as received. query: as received. body: empty where there was none.
    """

    method: str
    path: str
    query: str
    content_type: str
    body: bytes = field(repr=False)
    is_abandoned: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """An answer: `body` is of `content_type`. It may hold key bits, so it is not shown."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"


Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


class _Unacceptable(Exception):
    """A request that is answered by its framing alone; the connection ends."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Writer(Protocol):
    """Where the answers of a connection go; see `tls_connection.TlsConnection`."""

    def write(self, data: bytes) -> None:
        """Send some bytes."""

    async def drain(self) -> None:
        """Wait until the client has read."""

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""

    def close(self) -> None:
        """Send what is left and close."""

    async def wait_closed(self) -> None:
        """Return when the connection has ended."""


class HttpConnection:
    """Serves the requests of one connected client with `handler` until either side ends.

    One request at a time, HTTP/1.1 by h11; what exceeds `limits` is answered by 4xx and ends the connection.
    Pipelined requests wait.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: Writer,
        handler: Handler,
        limits: HttpLimits,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes)
        self._busy = False
        self._closing = False

    async def serve(self) -> None:
        """Return when the connection is over; nothing is raised for what a client does."""
        try:
            while not self._closing and await self._serve_one():
                pass
        except (OSError, TimeoutError, h11.LocalProtocolError):
            pass
        finally:
            self._writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(self._writer.wait_closed(), self._limits.response_s)

    def finish(self) -> None:
        """End after the request that is being served, at once where there is none."""
        self._closing = True
        if not self._busy:
            self._writer.close()

    async def _serve_one(self) -> bool:
        try:
            request = await self._read_request()
            if request is None:
                return False
        except h11.RemoteProtocolError as problem:
            await self._refuse(problem.error_status_hint, "the request is not valid HTTP/1.1")
            return False
        except _Unacceptable as problem:
            await self._refuse(problem.status, problem.message)
            return False
        except TimeoutError:
            await self._refuse(408, f"the request did not arrive within {self._limits.request_s:g} s")
            return False
        self._busy = True
        try:
            response = await self._handler(request)
            await self._send(replace(response, body=b"") if request.method == "HEAD" else response)
        finally:
            self._busy = False
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def _read_request(self) -> HttpRequest | None:
        if not self._http.trailing_data[0] and not await self._hear_from_client():
            return None
        deadline = asyncio.get_running_loop().time() + self._limits.request_s
        head = await self._next_event(deadline)
        if not isinstance(head, h11.Request):
            return None
        self._check_framing(head)
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            self._writer.write(self._http.send(go_on))
        body = bytearray()
        while isinstance(event := await self._next_event(deadline), h11.Data):
            body += event.data
            if len(body) > self._limits.body_bytes:
                raise _Unacceptable(413, f"the body exceeds {self._limits.body_bytes} bytes")
        if not isinstance(event, h11.EndOfMessage):
            return None
        path, _, query = head.target.decode("ascii").partition("?")
        types = [value for name, value in head.headers if name == b"content-type"]
        return HttpRequest(
            method=head.method.decode("ascii"),
            path=path,
            query=query,
            content_type=types[0].decode("latin-1") if len(types) == 1 else ",".join(map(str, types)),
            body=bytes(body),
            is_abandoned=lambda: self._reader.at_eof() or self._writer.is_closing(),
        )

    def _check_framing(self, head: h11.Request) -> None:
        names = [name for name, _ in head.headers]
        if b"content-length" in names and b"transfer-encoding" in names:
            raise _Unacceptable(400, "a request states its length once")
        for name, value in head.headers:
            if name == b"content-length" and int(value) > self._limits.body_bytes:
                raise _Unacceptable(413, f"the body exceeds {self._limits.body_bytes} bytes")

    async def _next_event(self, deadline: float) -> h11.Event | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            async with asyncio.timeout_at(deadline):
                self._http.receive_data(await self._reader.read(READ_BYTES))
        return event  # type: ignore[return-value]

    async def _hear_from_client(self) -> bool:
        """Wait for the first byte of a request; False where the client ends or stays idle."""
        try:
            async with asyncio.timeout(self._limits.idle_s):
                data = await self._reader.read(READ_BYTES)
        except TimeoutError:
            return False
        self._http.receive_data(data)
        return bool(data)

    async def _refuse(self, status: int, message: str) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            close = (("Connection", "close"),)
            await self._send(HttpResponse(status=status, body=error(message), headers=close))

    async def _send(self, response: HttpResponse) -> None:
        headers = [("Content-Length", str(len(response.body))), ("Cache-Control", "no-store")]
        if response.body:
            headers.append(("Content-Type", response.content_type))
        if self._closing:
            headers.append(("Connection", "close"))
        head = h11.Response(status_code=response.status, headers=headers + list(response.headers))
        parts = [self._http.send(head), self._http.send(h11.Data(data=response.body))]
        parts.append(self._http.send(h11.EndOfMessage()))
        self._writer.write(b"".join(part for part in parts if part))
        async with asyncio.timeout(self._limits.response_s):
            await self._writer.drain()
