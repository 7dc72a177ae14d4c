"""The HTTP layer without sockets, fed whatever bytes a client may think of."""

from __future__ import annotations

import asyncio
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from diqkd_postproc.delivery.http_connection import HttpConnection, HttpLimits, HttpRequest, HttpResponse

LIMITS = HttpLimits(head_bytes=512, body_bytes=64, request_s=5.0, idle_s=5.0, response_s=5.0)
_ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")


class Sink:
    """What HttpConnection writes to, kept."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.data += data

    async def drain(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    async def wait_closed(self) -> None: ...


def answers(data: bytes) -> list[tuple[int, bytes]]:
    """Status code and body of every answer; they have to follow each other without a gap."""
    found = []
    while data:
        head = _ANSWER.match(data)
        assert head is not None, data[:80]
        length = re.search(rb"(?i)content-length: (\d+)", head[2])
        end = head.end() + (int(length[1]) if length else 0)
        found.append((int(head[1]), data[head.end() : end]))
        data = data[end:]
    return found


def converse(data: bytes) -> tuple[list[HttpRequest], list[tuple[int, bytes]]]:
    """The requests that a client's bytes amount to, and the answers."""
    requests: list[HttpRequest] = []

    async def handler(request: HttpRequest) -> HttpResponse:
        requests.append(request)
        return HttpResponse(status=200, body=b"{}")

    async def scenario() -> bytes:
        reader, sink = asyncio.StreamReader(), Sink()
        reader.feed_data(data)
        reader.feed_eof()
        await HttpConnection(reader, sink, handler, LIMITS).serve()  # type: ignore[arg-type]
        assert sink.closed
        return bytes(sink.data)

    return requests, answers(asyncio.run(scenario()))


_LINES = st.sampled_from(
    [
        b"GET /a HTTP/1.1",
        b"POST /a?b HTTP/1.1",
        b"GET /a HTTP/1.0",
        b"HEAD / HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"X",
    ]
)
_HEADERS = st.sampled_from(
    [
        b"Host: a",
        b"Content-Length: 5",
        b"Content-Length: 4",
        b"Content-Length: 65",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: identity",
        b"Connection: close",
        b"Connection: Upgrade",
        b"Upgrade: h2c",
        b"Expect: 100-continue",
        b"Content-Type: application/json",
        b" folded",
        b"X: " + b"y" * 600,
    ]
)
_BODIES = st.sampled_from(
    [b"", b"abcde", b"5\r\nabcde\r\n0\r\n\r\n", b"41\r\n" + b"x" * 65 + b"\r\n0\r\n\r\n", b"z\r\n"]
)
_MESSAGES = st.builds(
    lambda line, headers, body: line + b"\r\n" + b"".join(h + b"\r\n" for h in headers) + b"\r\n" + body,
    _LINES,
    st.lists(_HEADERS, max_size=4),
    _BODIES,
)


@settings(max_examples=150)
@given(st.lists(_MESSAGES | st.binary(max_size=20), max_size=4))
def test_any_bytes_are_answered_or_end_the_connection(messages: list[bytes]) -> None:
    requests, found = converse(b"".join(messages))
    codes = [code for code, _ in found if code != 100]
    assert codes[: len(requests)] == [200] * len(requests)
    assert len(codes) - len(requests) in (0, 1), "at most one refusal, and it is the last word"
    assert all(code in (400, 408, 413, 431, 501, 505) for code in codes[len(requests) :])
    assert all(len(request.body) <= LIMITS.body_bytes for request in requests)


def test_nothing_hides_behind_a_refusal() -> None:
    hidden = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
    for first in (
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 65\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n",
        b"GET /a HTTP/1.1\nHost: a\nContent-Length: 0x1\n\n",
    ):
        requests, found = converse(first + hidden)
        assert requests == [] and len(found) == 1
    requests, _ = converse(b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(hidden) + hidden)
    assert [request.path for request in requests] == ["/a"] and requests[0].body == hidden
