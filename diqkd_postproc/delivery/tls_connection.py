"""The service's side of one TLS connection over a plain transport, with the alerts that asyncio swallows.

asyncio closes a connection whose handshake fails without sending the alert, so that the client learns
nothing (python/cpython #98078). Here OpenSSL works on memory buffers: whatever it wants to say is sent first,
then the sending side is closed, and what still arrives is discarded for LINGER_S, so that the alert is not
lost to a reset. Bytes from before the handshake are OpenSSL's to judge: they never pass for bytes after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Protocol

READ_BYTES = 1 << 16
LINGER_S = 2.0


class Owner(Protocol):
    """Who is informed about a connection; see `tls_listener.TlsListener`."""

    def opened(self, connection: TlsConnection) -> None:
        """A client has connected; nothing has been read."""

    def secured(self, connection: TlsConnection) -> None:
        """The handshake is done."""

    def refused(self, connection: TlsConnection, reason: str) -> None:
        """The handshake has failed; the alert has been sent."""

    def lost(self, connection: TlsConnection) -> None:
        """The connection has ended, for whatever reason."""


class TlsConnection(asyncio.Protocol):
    """A client: `reader` gives its bytes in plain, `write` sends some. Its certificate is verified by TLS."""

    def __init__(self, context: ssl.SSLContext, owner: Owner) -> None:
        self.reader = asyncio.StreamReader()
        self.address = ""
        self._owner = owner
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._is_secured = False
        self._is_refused = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended = asyncio.Event()

    @property
    def certificate(self) -> bytes:
        """The client's certificate, DER."""
        return self._tls.getpeercert(binary_form=True) or b""

    @property
    def transport(self) -> asyncio.Transport:
        """The plain transport below."""
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.reader.set_transport(transport)
        peer = transport.get_extra_info("peername")
        self.address = f"{peer[0]}:{peer[1]}" if peer else ""
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._incoming.write(data)
        if self._is_secured or self._handshake():
            self._decrypt()

    def eof_received(self) -> None:
        if not self._is_secured and not self._is_refused:
            self.refuse("the client hung up during the handshake")
        self.reader.feed_eof()

    def connection_lost(self, _error: Exception | None) -> None:
        self.reader.feed_eof()
        self._ended.set()
        self._writable.set()
        self._owner.lost(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def refuse(self, reason: str) -> None:
        """End a connection before its handshake is done; its owner aborts it after LINGER_S."""
        self._is_refused = True
        self._flush()
        with contextlib.suppress(OSError):
            self._transport.write_eof()
        self._owner.refused(self, reason)

    def write(self, data: bytes) -> None:
        """Send some bytes; OSError where TLS cannot."""
        view = memoryview(data)
        while view and not self.is_closing():
            view = view[self._tls.write(view) :]
        self._flush()

    async def drain(self) -> None:
        """Wait until the client has read; OSError where it has gone."""
        await self._writable.wait()
        if self._ended.is_set():
            raise ConnectionResetError("the client has gone")

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Send what is left, with TLS's own end, and close."""
        if not self.is_closing():
            with contextlib.suppress(OSError):
                self._tls.unwrap()
            self._flush()
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    async def wait_closed(self) -> None:
        """Return when the connection has ended."""
        await self._ended.wait()

    def _handshake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            reason = (error.reason or "not TLS").replace("_", " ").lower()
            self.refuse(getattr(error, "verify_message", "") or reason)
            return False
        self._flush()
        self._is_secured = True
        self._owner.secured(self)
        return True

    def _decrypt(self) -> None:
        try:
            while data := self._tls.read(READ_BYTES):
                self.reader.feed_data(data)
            self.reader.feed_eof()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.reader.feed_eof()
            self._flush()
            self._transport.close()
            return
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._transport.is_closing():
            self._transport.write(self._outgoing.read())
