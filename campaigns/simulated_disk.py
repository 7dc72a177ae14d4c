"""A disk that keeps a diary: what programs write to a folder, and what a power cut would leave of it.

`Disk` records every effect on the files of one folder in order: SQLite's through a virtual file system of
`apsw`, which runs the pager of SQLite itself, and Python's own through the functions of `os`. A power cut is
then replayed without pulling a plug: what was synced is there; of what was not, any part may be.

The model of the disk: a sector of 512 bytes is written whole or not at all; unsynced sectors reach the disk
in any order or never; a name (creation, rename, removal) is durable when its directory was synced, and names
become durable in their order. SQLite's POSIX layer syncs the directory with the first sync of a new journal.
`fail_at` makes one effect fail instead, or all from that one on (`lasting`), with an error of the operating
system.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import apsw

from diqkd_postproc.records import private_database

SECTOR_BYTES = 512
CREATE, WRITE, TRUNCATE, SYNC, RENAME, REMOVE, SYNC_DIRECTORY = (
    "create",
    "write",
    "truncate",
    "sync",
    "rename",
    "remove",
    "sync directory",
)
FAULTS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EROFS": errno.EROFS}
# What SQLite's POSIX layer makes of an error: `disk is full` for ENOSPC while writing, these for all others.
_SQLITE_ERRORS = {
    WRITE: apsw.SQLITE_IOERR_WRITE,
    TRUNCATE: apsw.SQLITE_IOERR_TRUNCATE,
    SYNC: apsw.SQLITE_IOERR_FSYNC,
    SYNC_DIRECTORY: apsw.SQLITE_IOERR_DIR_FSYNC,
    REMOVE: apsw.SQLITE_IOERR_DELETE,
}


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect on a file, by the name that it had then."""

    kind: str
    name: str
    offset: int = 0  # of a write; the new size of a truncation
    data: bytes = field(default=b"", repr=False)
    new_name: str = ""


class Disk:
    """The folder `root` under observation, and the diary of what happened to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.effects: list[Effect] = []
        self.fail_at: int | None = None
        self.lasting = True
        self.fault = "EIO"
        self.recording = True

    def name_of(self, path: Any) -> str | None:
        """Name of a file of the folder, None for any other path."""
        if isinstance(path, int):
            return None
        path = Path(os.fsdecode(path))
        if not path.is_absolute():
            path = path.absolute()
        return path.name if path.parent == self.root else None

    def note(self, effect: Effect) -> None:
        """Write an effect down before it happens; raises OSError where it has to fail."""
        if not self.recording:
            return
        self.effects.append(effect)
        if self.fail_at is None:
            return
        position = len(self.effects) - 1
        if position == self.fail_at or (self.lasting and position > self.fail_at):
            number = FAULTS[self.fault]
            raise OSError(number, os.strerror(number))

    @contextlib.contextmanager
    def observed(self) -> Iterator[None]:
        """Everything that the block does to the folder goes into the diary."""
        vfs = _RecordingVFS(self)

        def connect(path: Path, timeout: float) -> Any:
            return _connect(vfs, path, timeout)

        with (
            mock.patch.object(
                private_database, "_connect", lambda path, timeout: _connect(vfs, path, timeout)
            ),
            _observed_os(self),
        ):
            yield


class _RecordingVFS(apsw.VFS):
    """SQLite's own file system, noting what changes a file."""

    def __init__(self, disk: Disk) -> None:
        self.disk, self.name = disk, f"recording-{id(disk)}"
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        known = self.disk.name_of(path) if path else None
        if known is None:
            return super().xOpen(name, flags)
        if not os.path.lexists(path):
            _noted(self.disk, Effect(CREATE, known))
        return _RecordingFile(self.disk, known, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        if (known := self.disk.name_of(filename)) is not None:
            _noted(self.disk, Effect(REMOVE, known))
        super().xDelete(filename, syncdir)
        if known is not None and syncdir:
            _noted(self.disk, Effect(SYNC_DIRECTORY, ""))


class _RecordingFile(apsw.VFSFile):
    def __init__(self, disk: Disk, known: str, name: Any, flags: list[int]) -> None:
        self._disk, self._known = disk, known
        self._directory_waits = known.endswith("-journal")
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        _noted(self._disk, Effect(WRITE, self._known, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        _noted(self._disk, Effect(TRUNCATE, self._known, size))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        _noted(self._disk, Effect(SYNC, self._known))
        super().xSync(flags)
        if self._directory_waits:
            _noted(self._disk, Effect(SYNC_DIRECTORY, ""))
            self._directory_waits = False


def _noted(disk: Disk, effect: Effect) -> None:
    """Note an effect of SQLite's; a fault becomes the error that SQLite makes of it."""
    try:
        disk.note(effect)
    except OSError as error:
        if effect.kind == CREATE:
            raise apsw.CantOpenError(error.strerror) from None
        if effect.kind == WRITE and error.errno == errno.ENOSPC:
            raise apsw.FullError(error.strerror) from None
        failure = apsw.IOError(error.strerror)
        failure.extendedresult = _SQLITE_ERRORS[effect.kind]
        raise failure from None


_MESSAGES = (
    (apsw.FullError, "database or disk is full"),
    (apsw.IOError, "disk I/O error"),
    (apsw.CantOpenError, "unable to open database file"),
    (apsw.BusyError, "database is locked"),
)


@contextlib.contextmanager
def _as_sqlite3() -> Iterator[None]:
    """The errors of `sqlite3`, with SQLite's own words, in place of those of `apsw`."""
    try:
        yield
    except apsw.Error as error:
        for kind, message in _MESSAGES:
            if isinstance(error, kind):
                raise sqlite3.OperationalError(message) from None
        raise sqlite3.DatabaseError(str(error)) from None


class _Cursor:
    """The part of `sqlite3.Cursor` that the project uses."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def fetchall(self) -> list[Any]:
        return self._rows

    def fetchone(self) -> Any:
        return self._rows[0] if self._rows else None

    def close(self) -> None:
        pass


class _Connection:
    """The part of `sqlite3.Connection` that the project uses, on a recorded file."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Any = ()) -> _Cursor:
        with _as_sqlite3():
            return _Cursor(list(self._connection.execute(statement, tuple(values))))

    def executemany(self, statement: str, rows: Any) -> None:
        with _as_sqlite3():
            self._connection.executemany(statement, [tuple(row) for row in rows])

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    @property
    def total_changes(self) -> int:
        return int(self._connection.total_changes())

    def close(self) -> None:
        with _as_sqlite3():
            self._connection.close()


def _connect(vfs: _RecordingVFS, path: Path, timeout: float) -> Any:
    with private_database.storage_errors(path), _as_sqlite3():
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
        connection = apsw.Connection(path.absolute().as_uri() + "?mode=rw", flags=flags, vfs=vfs.name)
        connection.set_busy_timeout(int(1000 * timeout))
        for pragma in private_database._PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").fetchall()
    return _Connection(connection)


class _RecordedFile:
    """A file opened for writing, as `os.fdopen` gives it."""

    def __init__(self, disk: Disk, name: str, file: Any) -> None:
        self._disk, self._name, self._file = disk, name, file

    def write(self, data: Any) -> int:
        self._disk.note(Effect(WRITE, self._name, self._file.tell(), bytes(data)))
        return int(self._file.write(data))

    def flush(self) -> None:
        self._file.flush()

    def fileno(self) -> int:
        return int(self._file.fileno())

    def __enter__(self) -> _RecordedFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


@contextlib.contextmanager
def _observed_os(disk: Disk) -> Iterator[None]:
    """The functions of `os` with which the project changes files, noted."""
    names: dict[int, str] = {}
    real = {name: getattr(os, name) for name in ("open", "fdopen", "fsync", "replace", "rename", "unlink")}

    def open_(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        known = disk.name_of(path)
        if known is not None and flags & os.O_CREAT:
            disk.note(Effect(CREATE, known))
        descriptor = int(real["open"](path, flags, *rest, **options))
        names.pop(descriptor, None)
        if known is not None:
            names[descriptor] = known
        elif not isinstance(path, int) and Path(os.fsdecode(path)) == disk.root:
            names[descriptor] = ""
        return descriptor

    def fdopen(descriptor: int, mode: str = "r", *rest: Any, **options: Any) -> Any:
        file = real["fdopen"](descriptor, mode, *rest, **options)
        return _RecordedFile(disk, names[descriptor], file) if descriptor in names and "w" in mode else file

    def fsync(descriptor: int) -> None:
        if descriptor in names:
            name = names[descriptor]
            disk.note(Effect(SYNC, name) if name else Effect(SYNC_DIRECTORY, ""))
        real["fsync"](descriptor)

    def renamed(function: str) -> Any:
        def rename(source: Any, target: Any, **options: Any) -> None:
            if (known := disk.name_of(source)) is not None:
                disk.note(Effect(RENAME, known, new_name=disk.name_of(target) or ""))
            real[function](source, target, **options)

        return rename

    def unlink(path: Any, **options: Any) -> None:
        if (known := disk.name_of(path)) is not None and os.path.lexists(path):
            disk.note(Effect(REMOVE, known))
        real["unlink"](path, **options)

    with mock.patch.multiple(
        os,
        open=open_,
        fdopen=fdopen,
        fsync=fsync,
        replace=renamed("replace"),
        rename=renamed("rename"),
        unlink=unlink,
    ):
        yield


class _File:
    """One file's content on the disk and what waits in the cache."""

    def __init__(self) -> None:
        self.durable = b""
        self.waiting: list[Effect] = []

    def sync(self) -> None:
        self.durable, self.waiting = self.content(self.waiting), []

    def content(self, effects: list[Effect]) -> bytes:
        content = bytearray(self.durable)
        for effect in effects:
            if effect.kind == TRUNCATE:
                del content[effect.offset :]
                content.extend(bytes(effect.offset - len(content)))
            else:
                content.extend(bytes(max(0, effect.offset - len(content))))
                content[effect.offset : effect.offset + len(effect.data)] = effect.data
        return bytes(content)


Image = dict[str, bytes]


def crash_images(effects: list[Effect], end: int, variants: int, seed: int) -> Iterator[Image]:
    """What a power cut can leave after `end` effects, while the next one is under way: name -> content.

    Everything written so far; only what was synced, under every set of names that can be durable; everything
    and a part of the next write, at every sector (up to 8); `variants` random parts of what was not synced.
    """
    stages = _replay(effects[:end])
    names = stages[-1]
    yield {name: file.content(file.waiting) for name, file in names.items()}
    for stage in stages:
        yield {name: file.durable for name, file in stage.items()}
    following = effects[end] if end < len(effects) else None
    if following is not None and following.kind == WRITE and following.name in names:
        sectors = -(-len(following.data) // SECTOR_BYTES)
        for cut in range(1, sectors, max(1, sectors // 8)):
            part = Effect(WRITE, following.name, following.offset, following.data[: cut * SECTOR_BYTES])
            yield {
                name: file.content([*file.waiting, part] if name == following.name else file.waiting)
                for name, file in names.items()
            }
    generator = random.Random(f"{seed} {end}")
    for _ in range(variants):
        stage = generator.choice(stages)
        yield {name: file.content(_some(file.waiting, generator)) for name, file in stage.items()}


def _replay(effects: list[Effect]) -> list[dict[str, _File]]:
    """The names that can be on the disk: first the durable ones, last those that the running system sees."""
    names: dict[str, _File] = {}
    stages = [names]
    for effect in effects:
        if effect.kind in (CREATE, RENAME, REMOVE):
            names = dict(names)
        if effect.kind == CREATE:
            names[effect.name] = _File()
        elif effect.kind in (WRITE, TRUNCATE):
            names[effect.name].waiting.append(effect)
        elif effect.kind == SYNC:
            names[effect.name].sync()
        elif effect.kind == RENAME:
            names[effect.new_name] = names.pop(effect.name)
        elif effect.kind == REMOVE:
            names.pop(effect.name, None)
        if effect.kind in (CREATE, RENAME, REMOVE):
            stages.append(names)
        elif effect.kind == SYNC_DIRECTORY:
            stages = [names]
    return stages


def _some(waiting: list[Effect], generator: random.Random) -> list[Effect]:
    """A random part of the waiting effects, sector by sector, in their order."""
    kept: list[Effect] = []
    for effect in waiting:
        if effect.kind == TRUNCATE:
            kept += [effect] * (generator.random() < 0.5)
            continue
        for at in range(0, len(effect.data), SECTOR_BYTES):
            if generator.random() < 0.5:
                data = effect.data[at : at + SECTOR_BYTES]
                kept.append(Effect(WRITE, effect.name, effect.offset + at, data))
    return kept
