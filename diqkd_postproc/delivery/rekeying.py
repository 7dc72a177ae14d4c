"""Agents at both ends of a tunnel, which renew its preshared key from the delivery services of their nodes.

    leader:   enc_keys at its KME -> offers the key_ID to the follower ... installs the key when it has
    follower: dec_keys at its KME -> installs the key -> answers

What passes between the agents is no secret, and nobody vouches for it: whoever changes, repeats or withholds
a line can only make the two ends hold different keys, or the follower fetch nothing. Tunnels whose ends hold
different preshared keys (WireGuard, RFC 8784) do not come up: both ends use the same key or none. A key is
installed at most once at each end, as it leaves the KME once. An agent keeps none: after a kill it goes on
with a new key.
"""

from __future__ import annotations

import base64
import json
import logging
import shlex
import socket
import subprocess
from collections.abc import Callable, Iterator

from diqkd_postproc.delivery.client import SaeClient
from diqkd_postproc.delivery.refusals import Refusal
from diqkd_postproc.protocol.errors import DiqkdError, ParameterError, RemoteProtocolError

KEY_BITS = 256
LINE_BYTES = 256
LINE_S = 10.0
INSTALL_S = 10.0
Install = Callable[[bytes], None]
_log = logging.getLogger(__name__)


class NotInstalledError(DiqkdError):
    """The tunnel did not take the key; the next one is tried."""


def installer(command: str) -> Install:
    """What gives a key to the tunnel: runs a command with the key in base64 and a line end on its stdin.

    command: split as a shell does, without a shell. Raises ParameterError where it is empty or malformed.
    The installer raises NotInstalledError where the command cannot run, fails or does not end in INSTALL_S.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ParameterError(f"--command {command!r} is malformed: {error}") from None
    if not words:
        raise ParameterError("--command is empty; it takes the key on its standard input")

    def install(key: bytes) -> None:
        try:
            done = subprocess.run(
                words, input=base64.b64encode(key) + b"\n", stdout=subprocess.DEVNULL, timeout=INSTALL_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotInstalledError(f"{words[0]} did not run: {type(error).__name__}") from None
        if done.returncode:
            raise NotInstalledError(f"{words[0]} ended with exit code {done.returncode}")

    return install


def rekey(client: SaeClient, peer: str, follower: tuple[str, int], install: Install) -> str:
    """One new key at both ends, led from this one; returns its key_ID.

    peer: SAE ID of the follower. Raises what `SaeClient` does, NotInstalledError, and RemoteProtocolError
    where the follower does not install the key or cannot be reached: then this end keeps its earlier one.
    """
    (key,) = client.new_keys(peer, 1, KEY_BITS)
    try:
        with socket.create_connection(follower, LINE_S) as connection:
            connection.sendall(json.dumps({"key_ID": key.key_id}).encode() + b"\n")
            answer = _line(connection)
    except OSError as error:
        raise RemoteProtocolError(
            f"the follower cannot be reached: {error.strerror or 'no answer'}"
        ) from None
    if answer.get("installed") != key.key_id:
        raise RemoteProtocolError(f"the follower has not installed key {key.key_id}")
    install(key.key)
    return key.key_id


def followed(client: SaeClient, peer: str, listener: socket.socket, install: Install) -> Iterator[str]:
    """Follow a leader for as long as this is iterated over; yields the key_ID of each key installed here.

    peer: SAE ID of the leader. What goes wrong is logged, and the next offer is waited for.
    """
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(LINE_S)
            try:
                key_id = str(_line(connection).get("key_ID"))
                (key,) = client.keys_with_ids(peer, [key_id])
                install(key.key)
            except (OSError, Refusal, RemoteProtocolError, NotInstalledError) as error:
                _log.warning("no new key: %s", error)
                continue
            try:
                connection.sendall(json.dumps({"installed": key.key_id}).encode() + b"\n")
            except OSError as error:
                _log.warning("the leader has gone: %s", error.strerror)
        yield key.key_id


def _line(connection: socket.socket) -> dict[str, object]:
    """One line with a JSON object, at most LINE_BYTES."""
    data = b""
    while not data.endswith(b"\n"):
        part = connection.recv(LINE_BYTES - len(data))
        if not part:
            raise RemoteProtocolError("the other agent sent no whole line")
        data += part
        if len(data) >= LINE_BYTES:
            raise RemoteProtocolError(f"the other agent sent a line of more than {LINE_BYTES} bytes")
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise RemoteProtocolError("the other agent sent a line that is no JSON object")
    return document


def listening_socket(address: tuple[str, int]) -> socket.socket:
    """A socket for `followed`; ParameterError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        return socket.create_server(address, family=family)
    except OSError as error:
        raise ParameterError(f"cannot listen at {address[0]}:{address[1]}: {error.strerror}") from None
