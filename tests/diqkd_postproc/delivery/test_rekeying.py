"""Agents of a tunnel: the same key at both ends or none in common, whatever is said between them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from diqkd_postproc.delivery.data_formats import Key
from diqkd_postproc.delivery.refusals import BadRequest
from diqkd_postproc.delivery.rekeying import (
    LINE_BYTES,
    NotInstalledError,
    followed,
    installer,
    listening_socket,
    rekey,
)
from diqkd_postproc.protocol.errors import ParameterError, RemoteProtocolError


class Kmes:
    """Both KMEs: new keys for the leader, each once more for the follower."""

    def __init__(self) -> None:
        self.waiting: dict[str, Key] = {}
        self.count = 0

    def new_keys(self, slave: str, number: int, size: int) -> tuple[Key, ...]:
        assert (slave, number, size) == ("follower", 1, 256)
        self.count += 1
        key = Key(key_id=f"id-{self.count}", key=bytes([self.count]) * 32)
        self.waiting[key.key_id] = key
        return (key,)

    def keys_with_ids(self, master: str, key_ids: Sequence[str]) -> tuple[Key, ...]:
        assert master == "leader"
        if key_ids[0] not in self.waiting:
            raise BadRequest("one or more keys specified are not found on KME")
        return (self.waiting.pop(key_ids[0]),)


class Tunnel:
    """The keys of one end, and whether it takes another."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.fails = False

    def install(self, key: bytes) -> None:
        if self.fails:
            raise NotInstalledError("tee ended with exit code 1")
        self.keys.append(key)


class Pair:
    def __init__(self) -> None:
        self.kmes, self.leader, self.follower = Kmes(), Tunnel(), Tunnel()
        self.listener = listening_socket(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def _follow(self) -> None:
        try:
            for _ in followed(self.kmes, "leader", self.listener, self.follower.install):  # type: ignore[arg-type]
                pass
        except OSError:
            pass  # the test has ended

    def rekey(self) -> str:
        return rekey(self.kmes, "follower", self.address, self.leader.install)  # type: ignore[arg-type]

    def say(self, data: bytes) -> bytes:
        with socket.create_connection(self.address, 60) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(LINE_BYTES)


@pytest.fixture
def pair() -> Iterator[Pair]:
    both = Pair()
    yield both
    both.listener.shutdown(socket.SHUT_RDWR)
    both.listener.close()
    both.thread.join(60)


def test_both_ends_get_each_key_once(pair: Pair) -> None:
    assert [pair.rekey() for _ in range(3)] == ["id-1", "id-2", "id-3"]
    assert pair.leader.keys == pair.follower.keys == [bytes([n]) * 32 for n in (1, 2, 3)]
    assert pair.say(b'{"key_ID": "id-2"}\n') == b"", "a repeated offer installs nothing"
    assert len(pair.follower.keys) == 3


@pytest.mark.parametrize(
    "data",
    [b"", b"{}\n", b"[]\n", b"nonsense\n", b'{"key_ID": "id-9"}\n', b"x" * LINE_BYTES, b"x" * 300 + b"\n"],
)
def test_nonsense_installs_nothing_and_the_follower_goes_on(pair: Pair, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # hung up on while it was speaking
        assert pair.say(data) == b""
    pair.rekey()
    assert pair.leader.keys == pair.follower.keys != []


def test_a_key_that_the_follower_does_not_install_is_not_the_leaders(pair: Pair) -> None:
    pair.follower.fails = True
    with pytest.raises(RemoteProtocolError):
        pair.rekey()
    assert pair.leader.keys == pair.follower.keys == []
    pair.follower.fails = False
    assert pair.rekey() == "id-2"
    pair.leader.fails = True
    with pytest.raises(NotInstalledError):
        pair.rekey()
    assert len(pair.leader.keys) == 1 and len(pair.follower.keys) == 2, (
        "different ones, so the tunnel is down"
    )


def test_a_follower_that_is_away_costs_one_key() -> None:
    with listening_socket(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    kmes, tunnel = Kmes(), Tunnel()
    with pytest.raises(RemoteProtocolError, match="cannot be reached"):
        rekey(kmes, "follower", address, tunnel.install)  # type: ignore[arg-type]
    assert tunnel.keys == [] and list(kmes.waiting) == ["id-1"]


@pytest.mark.skipif(os.name != "posix", reason="needs the program tee")
def test_the_command_gets_the_key_on_its_input_only(tmp_path: Path) -> None:
    installer(f"tee '{tmp_path / 'a key'}'")(b"\x07" * 32)
    assert (tmp_path / "a key").read_bytes() == base64.b64encode(b"\x07" * 32) + b"\n"
    for command in ("false", "there-is-no-such-program"):
        with pytest.raises(NotInstalledError) as caught:
            installer(command)(b"\x07" * 32)
        assert command in str(caught.value) and "BwcH" not in str(caught.value)
    for command in ("", "tee 'unfinished"):
        with pytest.raises(ParameterError):
            installer(command)


def test_the_offer_is_one_line_with_the_id() -> None:
    """What goes over the network holds no key."""
    kmes, tunnel = Kmes(), Tunnel()
    heard = []
    with listening_socket(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                heard.append(connection.recv(4096))
                connection.sendall(b'{"installed": "another"}\n')

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(RemoteProtocolError, match="has not installed"):
            rekey(kmes, "follower", listener.getsockname(), tunnel.install)  # type: ignore[arg-type]
        thread.join(60)
    assert [json.loads(line) for line in heard] == [{"key_ID": "id-1"}] and tunnel.keys == []
