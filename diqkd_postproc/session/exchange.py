"""Messages as files that are carried by hand: a transport for nodes without a network between them.

Each side keeps one file in its folder, `from_alice.diqkd` or `from_bob.diqkd`, and reads the other's. A file
is the whole byte stream of that side up to now: a Hello of now, and all its messages again. So the newest
file stands for all older ones and may be carried late or twice, and the command is simply run again when the
other side's file is there. What a side knows lives in its journal, not in the folder.

The folder belongs to nobody: its files hold what would travel over the network, and are judged as such. They
are read up to the size of a whole session, and replaced whole, so that a stick drawn too early leaves an
older file or a cut one, which is read as far as it goes.
"""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

from diqkd_postproc.files import replace_atomically, storage_error
from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.protocol.roles import Role, other
from diqkd_postproc.session.engine import PeerUnavailable, SessionEngine

_READ_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class ExchangePending(PeerUnavailable):
    """All that has come from the other side is done: a file has to be carried there, and another back.

    carry: the file to carry. wanted: the file that has to come back.
    """

    exit_code = 7

    def __init__(self, text: str, carry: Path, wanted: Path) -> None:
        super().__init__(text)
        self.carry = carry
        self.wanted = wanted


def exchange_file(folder: Path, role: Role) -> Path:
    """The file that `role` writes."""
    return folder / f"from_{role}.diqkd"


class FileExchange:
    """Transport over two files in a folder: this side's, and the other's as it was carried here.

    Used where the nodes share no network; `Connection` is the transport over one.
    """

    def __init__(self, folder: Path, engine: SessionEngine) -> None:
        """Read what has come; raises StorageError where the folder or the file cannot be used."""
        self._peer = other(engine.role)
        self._engine = engine
        self._own_file = exchange_file(folder, engine.role)
        self._peer_file = exchange_file(folder, self._peer)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error("use the folder", folder, error) from None
        self._data = _read(self._peer_file, engine.max_bytes)
        self._ended = asyncio.Event()

    async def receive(self) -> bytes:
        """What was in the other side's file, once; then nothing until this side ends."""
        data, self._data = self._data, b""
        if not data:
            await self._ended.wait()
        return data

    def pending(self) -> ExchangePending | None:
        """What has to be done before more can come; None while there is something to receive."""
        if self._data:
            return None
        return ExchangePending(
            f"{self._what_came()}; this side is {self._engine.state.value}. Carry {self._own_file} to "
            f"{self._peer.capitalize()}, run `diqkd postprocess {self._peer} … --exchange` there, bring back "
            f"{self._peer_file.name} and run this command again",
            self._own_file,
            self._peer_file,
        )

    def _what_came(self) -> str:
        if not self._peer_file.exists():
            return f"there is no {self._peer_file} yet"
        if self._engine.has_part_of_a_message:
            return f"{self._peer_file} ends within a message (copy it again, should it be cut)"
        return f"{self._peer_file} is read to its end"

    async def send(self, data: bytes) -> None:
        """Nothing: the file is written as a whole when this side ends."""

    def end(self) -> None:
        """Nothing more will be sent."""
        self._ended.set()

    async def close(self) -> None:
        """Replace this side's file by all that it has to say; what is in it was journalled before.

        Replaced atomically, mode 0644, as nothing in it is secret. Raises StorageError.
        """
        replace_atomically(self._own_file, self._engine.whole_stream(), private=False, mode=0o644)


def _read(path: Path, most: int) -> bytes:
    """At most one byte more than `most` of a regular file; b"" if there is none."""
    try:
        descriptor = os.open(path, _READ_FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StorageError(f"{path} is not a regular file")
            return file.read(most + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise storage_error("read", path, error) from None
