"""Keys of one connection between the nodes, and the proof that both hold the key that they come from.

    connecting node                         listening node
    greeting | nonce A               ->
                                     <-     greeting | nonce B | HMAC(K, "listening" | A | B)
    HMAC(K, "connecting" | A | B)    ->

K is the segment `node_link` of the initial key. Both nonces are fresh, so that a proof that was recorded
earlier proves nothing, and each proof names its end, so that it cannot be sent back to the one who made it.
Each direction has a MAC key of its own, derived from K, both nonces and what the connection is for.

A run without a key store has an *open* connection: the same, with a K that everybody knows. It finds
accidents, no adversary.

This MAC (HMAC-SHA256) is computational. It protects availability, since nobody else can stop or spoil a run
by a message, and keeps the types of rounds that nobody has played from whoever asks in a node's name. The
secrecy of a key does not rest on it: the tags G_A and G_B, which are unconditional, cover all that a
session uses.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from diqkd_postproc.protocol.errors import RemoteProtocolError

MAC_BYTES = 32
NONCE_BYTES = 32
OPEN_KEY = bytes(32)
OPEN, AUTHENTICATED = b"open", b"auth"
_GREETING = b"diqkd nodes 1 "
HELLO_BYTES = len(_GREETING) + len(OPEN) + NONCE_BYTES
LISTENING, CONNECTING = b"listening", b"connecting"
_OTHER = {LISTENING: CONNECTING, CONNECTING: LISTENING}


class StrangerError(RemoteProtocolError):
    """Who is at the other end has not proven to be the other node."""


def mac(key: bytes, *parts: bytes) -> bytes:
    """(MAC_BYTES) HMAC-SHA256 of the parts, each with its length before it."""
    state = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.digest()


class Opening:
    """One end's part in the opening of a connection; made anew for each.

    :param key: of 256 bits, None for an open connection
    :param purpose: what the connection is for; a proof for another purpose proves nothing
    :param end: LISTENING or CONNECTING, this end
    """

    def __init__(self, key: bytes | None, purpose: bytes, end: bytes) -> None:
        if key is not None and len(key) != len(OPEN_KEY):
            raise ValueError(f"the key of the nodes' connection has {8 * len(key)} bits, not 256")
        self._key = OPEN_KEY if key is None else key
        self._kind = OPEN if key is None else AUTHENTICATED
        self._purpose = purpose
        self._end = end
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._nonces = (b"", b"")

    @property
    def hello(self) -> bytes:
        """(HELLO_BYTES) what this end begins with; nothing in it is secret."""
        return _GREETING + self._kind + self._nonce

    def take(self, hello: bytes) -> None:
        """Take the other end's hello; StrangerError if it is none."""
        greeting, kind = hello[: len(_GREETING)], hello[len(_GREETING) : -NONCE_BYTES]
        if len(hello) != HELLO_BYTES or greeting != _GREETING:
            raise StrangerError("who is there does not speak the nodes' protocol of this version")
        if kind != self._kind:
            raise StrangerError("one of the nodes has a key store for the run, the other has none")
        nonces = (hello[-NONCE_BYTES:], self._nonce)
        self._nonces = nonces if self._end == LISTENING else nonces[::-1]

    def proof(self) -> bytes:
        """(MAC_BYTES) that this end holds the key."""
        return self._derived(b"proof", self._end)

    def check(self, proof: bytes) -> None:
        """StrangerError unless the other end holds the key."""
        if not hmac.compare_digest(proof, self._derived(b"proof", _OTHER[self._end])):
            raise StrangerError("who is there does not hold the initial key of this node's key store")

    @property
    def keys(self) -> tuple[bytes, bytes]:
        """MAC keys of what this end sends and of what it receives."""
        return self._derived(b"frames", self._end), self._derived(b"frames", _OTHER[self._end])

    def _derived(self, use: bytes, end: bytes) -> bytes:
        return mac(self._key, use, self._purpose, end, *self._nonces)
