"""The connection between the two KMEs: mutual TLS, one listens, the other connects and keeps trying.

Each side says hello when connected and every few seconds after that, which also shows that it is alive. The
exchanges themselves are in `authenticated_exchange`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Coroutine, Sequence

from diqkd_postproc.delivery.authenticated_exchange import AuthenticatedExchange, NoAnswer
from diqkd_postproc.delivery.certificates import owner_of
from diqkd_postproc.delivery.configuration import DeliveryConfiguration, host_and_port
from diqkd_postproc.delivery.exchange_messages import (
    ANSWER,
    FAILURE,
    HELLO,
    LENGTH_BYTES,
    MAX_BLOCKS,
    MAX_FRAME_BYTES,
    MAX_KEYS,
    NO_TAG,
    REQUEST,
    TAG_BYTES,
    VERSION,
    Group,
    Hello,
    Outcome,
    decoded,
    encoded,
    frame,
)
from diqkd_postproc.delivery.refusals import Unavailable
from diqkd_postproc.delivery.store_thread import StoreThread
from diqkd_postproc.delivery.tag_pads import SharedKey, TagPads
from diqkd_postproc.delivery.tls import client_context, service_context
from diqkd_postproc.delivery.tls_listener import HANDSHAKE_S, TlsListener
from diqkd_postproc.protocol.errors import DiqkdError, RemoteProtocolError
from diqkd_postproc.protocol.roles import other

MAX_CONNECTIONS = 8
RETRY_S = 0.5
FAULT_S = 2.0
"""Pause after a connection that came to nothing, so that a wrong configuration does not fill the log."""
ANNOUNCE_S = 5.0
SILENCE_S = 4 * ANNOUNCE_S
_log = logging.getLogger(__name__)


class KmeConnection:
    """Connection of one KME to its peer: the exchanges, and what each side says of its keys and pads.

    Tasks keep it up: one side listens, the other connects again RETRY_S after an end. A connection without a
    message for SILENCE_S is cut.
    """

    def __init__(
        self,
        configuration: DeliveryConfiguration,
        pads: TagPads,
        settle: Callable[[Sequence[Group]], list[Outcome]],
        store_thread: StoreThread,
    ) -> None:
        """settle: carries out the groups of a peer's request, in the store's thread, durably."""
        kme, self._options = configuration.kme, configuration.peer_kme
        self._me, self._peer, self._role = kme.id, configuration.peer_kme.peer, kme.role
        self._pads = pads
        self._store_thread = store_thread
        make_context = client_context if self._options.listen is None else service_context
        self._context = make_context(kme.certificate, kme.private_key, kme.authority)
        self._context.check_hostname = False
        self._exchange = AuthenticatedExchange(self._me, self._peer, self._role, pads, settle, store_thread)
        self._writer: asyncio.StreamWriter | None = None
        self._peer_hello: Hello | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._unfit: set[str] = set()
        self._heard = False
        self._listener = TlsListener(self._context, self._talk, MAX_CONNECTIONS)
        self.keys: tuple[SharedKey, ...] = ()
        """The keys of this node that can be delivered from."""
        self.on_connect: Callable[[], Coroutine[None, None, None]] | None = None
        """Called when the peer has said hello on a new connection."""

    @property
    def is_up(self) -> bool:
        """Whether the peer is connected and has said hello."""
        return self._writer is not None and self._peer_hello is not None

    @property
    def sessions(self) -> tuple[str, ...]:
        """The sessions whose keys both nodes can deliver from, as the peer last said."""
        theirs = set(self._peer_hello.keys) if self._peer_hello else set()
        return tuple(key.session_id for key in self.keys if (key.session_id, key.num_bits) in theirs)

    @property
    def peer_needs_pads(self) -> bool:
        """Whether the peer has run out of pads to start an exchange with, so that this node has to."""
        return self._peer_hello is not None and self._peer_hello.own_blocks == 0

    async def start(self) -> tuple[str, int] | None:
        """Listen or begin to connect; returns the address where it listens."""
        await self._prepare()
        self._run(self._announce())
        if self._options.connect is not None:
            self._run(self._keep_connecting(*host_and_port(self._options.connect)))
            return None
        return await self._listener.start(self._options.listen or "")

    async def close(self) -> None:
        """Hang up and stay away."""
        await self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._hang_up()

    async def exchange(self, groups: Sequence[Group]) -> list[Outcome]:
        """Request the peer to settle groups; the outcome of each. Unavailable where no answer came."""
        if not self.is_up:
            raise Unavailable("the other KME cannot be reached")
        writer = self._writer
        try:
            return await self._exchange.request(
                groups,
                self.sessions,
                self._send,
                self._options.timeout_s,
                peer_needs_pads=self.peer_needs_pads,
            )
        except NoAnswer:
            if self._writer is writer:
                self._hang_up()  # start afresh, with what the peer then says of itself
            raise

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _prepare(self) -> None:
        """See which keys there are; a session may have made a new one since."""
        self.keys, unfit = await self._store_thread.run(self._pads.prepare)
        for session in set(unfit) - self._unfit:
            _log.warning("the key of session %s is too short, or used, to deliver from", session)
        self._unfit = set(unfit)

    async def _announce(self) -> None:
        while True:
            await asyncio.sleep(ANNOUNCE_S)
            try:
                await self._prepare()
                await self._say_hello()
            except DiqkdError as error:
                _log.error("cannot read the keys: %s", error)

    async def _say_hello(self) -> None:
        mine, theirs = self._role, other(self._role)
        pads = await self._store_thread.run(lambda: (self._pads.usable(theirs), self._pads.usable(mine)))
        hello = Hello(
            version=VERSION,
            kme=self._me,
            role=mine,
            keys=[(key.session_id, key.num_bits) for key in self.keys[-MAX_KEYS:]],
            pads=list(pads[0][:MAX_BLOCKS]),
            own_blocks=len(pads[1]),
        )
        self._send(frame(HELLO, NO_TAG, encoded(hello)))

    async def _keep_connecting(self, host: str, port: int) -> None:
        said = ""
        while True:
            self._heard = False
            try:
                reader, writer = await asyncio.open_connection(
                    host,
                    port,
                    ssl=self._context,
                    ssl_handshake_timeout=HANDSHAKE_S,
                    server_hostname="",  # the peer is known by its KME ID, at whatever address
                )
                await self._talk(reader, writer)
                reason = ""
            except OSError as error:
                reason = getattr(error, "verify_message", "") or error.strerror or type(error).__name__
            except Exception as error:
                reason = f"a fault of this program: {type(error).__name__}"
            if reason and reason != said:
                _log.warning("cannot reach %s at %s:%d: %s; trying on", self._peer, host, port, reason)
            said = reason
            await asyncio.sleep(RETRY_S if reason or self._heard else FAULT_S)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
        name = owner_of(connection.getpeercert(binary_form=True) or b"", "common_name")
        if name != self._peer:
            _log.warning(
                "refused a connection from %r: its certificate is not that of %s",
                (name or "")[:64],
                self._peer,
            )
            writer.transport.abort()
            return
        self._hang_up()
        self._writer = writer
        try:
            await self._say_hello()
            while True:
                async with asyncio.timeout(SILENCE_S):
                    kind, tag, body = await _read_frame(reader)
                if self._writer is not writer:
                    return  # a newer connection has taken over
                await self._receive(kind, tag, body)
                async with asyncio.timeout(SILENCE_S):  # a peer that does not read is not there either
                    await writer.drain()
        except (OSError, TimeoutError, EOFError):
            pass
        except DiqkdError as error:
            _log.error("the connection to %s is cut: %s", self._peer, error)
        finally:
            if self._writer is writer:
                self._hang_up()
            writer.transport.abort()

    async def _receive(self, kind: bytes, tag: bytes, body: bytes) -> None:
        if kind == HELLO:
            await self._hear_hello(decoded(Hello, body))
        elif self._peer_hello is None:
            raise RemoteProtocolError("the other KME has to say hello first")
        elif kind == REQUEST:
            self._send(await self._exchange.answer(tag, body))
        elif kind == ANSWER:
            self._exchange.receive_answer(tag, body)
        elif kind == FAILURE:
            self._exchange.receive_failure(tag, body)
        else:
            raise RemoteProtocolError("the other KME sent an unknown kind of message")

    async def _hear_hello(self, hello: Hello) -> None:
        if (hello.version, hello.kme) != (VERSION, self._peer) or hello.role == self._role:
            raise RemoteProtocolError(
                f"the other KME says it is {hello.kme[:64]!r}, {hello.role}, version {hello.version}; "
                f"expected {self._peer}, not {self._role}, version {VERSION}: check kme.id, kme.role and "
                "link.peer"
            )
        is_first, self._peer_hello, self._heard = self._peer_hello is None, hello, True
        self._exchange.usable_by_peer = set(hello.pads)
        if not is_first:
            return
        _log.info("connected to %s; generated keys that both hold: %d", self._peer, len(self.sessions))
        if data := self._exchange.unanswered():
            self._send(data)
        if self.on_connect is not None:
            self._run(self.on_connect())

    def _send(self, data: bytes) -> None:
        if self._writer is not None:
            self._writer.write(data)

    def _hang_up(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
            _log.info("the connection to %s is down", self._peer)
        self._writer = None
        self._peer_hello = None


async def _read_frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes, bytes]:
    size = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
    if not 1 + TAG_BYTES <= size <= MAX_FRAME_BYTES:
        raise RemoteProtocolError(f"the other KME announced a message of {size} bytes")
    data = await reader.readexactly(size)
    return data[:1], data[1 : 1 + TAG_BYTES], data[1 + TAG_BYTES :]
