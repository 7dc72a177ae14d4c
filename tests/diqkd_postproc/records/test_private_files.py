"""Private files: modes, ownership, atomic replacement."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diqkd_postproc import files as private_files
from diqkd_postproc.files import (
    check_private_directory,
    check_private_file,
    create_private_file,
    locked,
    make_private_directory,
    open_private_file,
    replace_atomically,
)
from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.records.private_database import create_database, open_database

posix_only = pytest.mark.skipif(os.name != "posix", reason="mode bits are POSIX")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@posix_only
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = tmp_path / "a" / "b" / "secret"
        replace_atomically(path, b"secret")
    finally:
        os.umask(before)
    assert mode(path) == 0o600
    assert mode(path.parent) == mode(path.parent.parent) == 0o700
    with open_private_file(path) as file:
        assert file.read() == b"secret"


def test_the_names_of_new_directories_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(private_files, "sync_directory", synced.append)
    make_private_directory(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]
    make_private_directory(tmp_path / "a" / "b")
    assert len(synced) == 2


@posix_only
@pytest.mark.parametrize("loose", [0o601, 0o604, 0o610, 0o620, 0o640, 0o644, 0o666, 0o700])
def test_looser_files_are_refused(private_directory: Path, loose: int) -> None:
    path = private_directory / "secret"
    replace_atomically(path, b"secret")
    path.chmod(loose)
    for access in (check_private_file, open_private_file, lambda p: replace_atomically(p, b"new")):
        with pytest.raises(StorageError, match=f"{loose:04o}.*chmod 600"):
            access(path)
    assert path.read_bytes() == b"secret"


@posix_only
@pytest.mark.parametrize("loose", [0o701, 0o710, 0o750, 0o755, 0o777])
def test_looser_directories_are_refused(private_directory: Path, loose: int) -> None:
    private_directory.chmod(loose)
    for access in (make_private_directory, check_private_directory):
        with pytest.raises(StorageError, match="chmod 700"):
            access(private_directory)
    with pytest.raises(StorageError, match="chmod 700"):
        create_private_file(private_directory / "secret")
    assert list(private_directory.iterdir()) == []


@posix_only
def test_symbolic_links_are_refused(private_directory: Path) -> None:
    replace_atomically(private_directory / "real", b"secret")
    link = private_directory / "link"
    link.symlink_to(private_directory / "real")
    for access in (check_private_file, open_private_file, lambda p: replace_atomically(p, b"new")):
        with pytest.raises(StorageError, match="symbolic link"):
            access(link)
    linked_directory = private_directory / "linked"
    linked_directory.symlink_to(private_directory)
    with pytest.raises(StorageError, match="symbolic link"):
        open_private_file(linked_directory / "real")
    with pytest.raises(StorageError, match="exists already"):
        create_private_file(link)


@posix_only
def test_hard_links_are_refused(private_directory: Path) -> None:
    path = private_directory / "secret"
    replace_atomically(path, b"secret")
    os.link(path, private_directory / "second name")
    for access in (check_private_file, open_private_file, lambda p: replace_atomically(p, b"new")):
        with pytest.raises(StorageError, match=r"2 names \(hard links\)"):
            access(path)
    (private_directory / "second name").unlink()
    with open_private_file(path) as file:
        assert file.read() == b"secret"


@posix_only
def test_files_of_another_account_are_refused(
    private_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = private_directory / "secret"
    replace_atomically(path, b"secret")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    for access in (check_private_file, open_private_file, make_private_directory):
        with pytest.raises(StorageError, match=r"belongs to user id"):
            access(path if access is not make_private_directory else private_directory)


@posix_only
@pytest.mark.parametrize("name", ["database", "database-journal"])
def test_a_database_and_its_journal_are_held_to_the_same(private_directory: Path, name: str) -> None:
    path = private_directory / "database"
    create_database(path, "CREATE TABLE t (x)", 1)
    connection = open_database(path, 1)
    connection.execute("INSERT INTO t VALUES (1)")
    assert mode(path) == mode(private_directory / "database-journal") == 0o600
    connection.close()
    (private_directory / "database-journal").touch(mode=0o600)
    victim = private_directory / name
    victim.chmod(0o640)
    with pytest.raises(StorageError, match=f"{name} has mode 0640"):
        open_database(path, 1)
    victim.chmod(0o600)
    os.link(victim, private_directory / "link")
    with pytest.raises(StorageError, match="hard links"):
        open_database(path, 1)
    victim.unlink()
    victim.symlink_to(private_directory / "link")
    with pytest.raises(StorageError, match="symbolic link"):
        open_database(path, 1)


def test_missing_and_irregular_files(private_directory: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        open_private_file(private_directory / "nothing")
    with pytest.raises(StorageError, match="does not exist"):  # whatever the mode of its folder
        open_private_file("/nothing")
    make_private_directory(private_directory / "directory")
    with pytest.raises(StorageError, match="not a regular file"):
        open_private_file(private_directory / "directory")


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_failed_write_leaves_the_old_content(
    private_directory: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = private_directory / "secret"
    replace_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(StorageError, match="No space left"):
        replace_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [p.name for p in private_directory.iterdir()] == ["secret"]


def test_a_file_that_is_not_private_goes_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of any mode, on a file system that cannot sync folders."""
    path = tmp_path / "report"
    tmp_path.chmod(0o755)
    path.write_bytes(b"old")

    def fail(_: Path) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(private_files, "sync_directory", fail)
    replace_atomically(path, b"new", private=False, mode=0o600)
    assert path.read_bytes() == b"new"
    assert os.name != "posix" or mode(path) == 0o600
    with pytest.raises(StorageError, match=r"cannot write .*nothing"):
        replace_atomically(tmp_path / "nothing" / "report", b"new", private=False)


def test_a_lock_excludes_others_and_leaves_no_file(tmp_path: Path) -> None:
    """Increments that read, wait and write are all counted, although every holder removes the lock file."""
    counter = tmp_path / "folder" / "counter"
    with locked(counter):
        counter.write_text("0")

    def increment(_: int) -> None:
        with locked(counter):
            value = int(counter.read_text())
            os.sched_yield() if os.name == "posix" else None
            counter.write_text(str(value + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increment, range(200)))
    assert counter.read_text() == "200"
    if os.name == "posix":
        assert [path.name for path in counter.parent.iterdir()] == ["counter"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no core dumps")
def test_a_process_with_an_open_database_leaves_no_core_dump(private_directory: Path) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1]))
    try:
        create_database(private_directory / "database", "CREATE TABLE t (x)", 1)
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, limits[1])
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limits)


def test_two_processes_do_not_create_one_database(private_directory: Path) -> None:
    """The second comes while the first still writes its rows; whichever gives the name first has it."""
    path, schema, insert = private_directory / "a.sqlite", "CREATE TABLE t (x)", "INSERT INTO t VALUES (?)"

    def rows() -> Iterator[tuple[int]]:
        create_database(path, schema, 1, {insert: [(1,)]})
        yield (2,)

    with pytest.raises(StorageError, match="exists already"):
        create_database(path, schema, 1, {insert: rows()})
    connection = open_database(path, 1)
    assert connection.execute("SELECT x FROM t").fetchall() == [(1,)]
    connection.close()
    assert [each.name for each in private_directory.iterdir() if each.name.endswith(".tmp")] == []
