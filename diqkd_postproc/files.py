"""Files that are private, replaced as a whole, or changed by one process at a time.

Private, on POSIX: directories 0700, files 0600, owned by the effective user; symbolic links, hard links and
looser modes are refused, because another account could then read a key or swap the file under us. Windows has
no such mode bits: there the checks are documented no-ops, and the folder's access control list has to do it.

`replace_atomically` writes to a temporary name in the same directory, syncs the file, renames it, and syncs
the directory: a power cut leaves the old file, the new file, or a stray temporary one, never a torn one.
`locked` excludes other processes from a file; a process that is killed loses its lock with its descriptors.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from diqkd_postproc.protocol.errors import StorageError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_TIMEOUT_S = 30.0
"""Time that `locked` waits for another process; what is done under a lock takes milliseconds."""

POSIX = os.name == "posix"
_NO_ROOM = tuple(getattr(errno, name) for name in ("ENOSPC", "EFBIG", "EDQUOT") if hasattr(errno, name))
_NO_RIGHTS = (errno.EROFS, errno.EACCES, errno.EPERM)
_READ_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
_CREATE_FLAGS = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def storage_error(action: str, path: Path, error: OSError) -> StorageError:
    """The StorageError that names what failed, where, and the operating system's reason."""
    reason = error.strerror or type(error).__name__
    if error.errno in _NO_ROOM:
        reason += "; free space, check the quota and `ulimit -f`, and go on"
    elif error.errno in _NO_RIGHTS:
        reason += "; check the rights of the folder and whether the disk is mounted read-only, and go on"
    elif error.errno == errno.EIO:
        reason += "; the disk is failing: check it, or go on with the folder on another one"
    return StorageError(f"cannot {action} {path}: {reason}")


def _check_status(path: Path, status: os.stat_result, directory: bool) -> None:
    kind, wanted = ("directory", 0o700) if directory else ("file", 0o600)
    if stat.S_ISLNK(status.st_mode):
        raise StorageError(f"{path} is a symbolic link; private data is only kept in a real {kind}")
    if directory != stat.S_ISDIR(status.st_mode) or not (directory or stat.S_ISREG(status.st_mode)):
        raise StorageError(f"{path} is not a {'directory' if directory else 'regular file'}")
    if not POSIX:
        return
    mode = stat.S_IMODE(status.st_mode)
    if mode & ~wanted & 0o777:
        raise StorageError(
            f"{kind} {path} has mode {mode:04o}, private data needs {wanted:04o}; "
            f"run `chmod {wanted:o} {path}` once you know that nobody has read it"
        )
    if status.st_uid != os.geteuid():
        raise StorageError(
            f"{kind} {path} belongs to user id {status.st_uid}, not to this user ({os.geteuid()})"
        )
    if not directory and status.st_nlink > 1:
        raise StorageError(
            f"{path} has {status.st_nlink} names (hard links): somebody may read or keep it under another; "
            "remove the other names"
        )


def check_private_directory(path: Path | str) -> Path:
    """Raise StorageError unless `path` is a real directory of this user, mode 0700 or stricter.

    A symbolic link is refused. On Windows only the kind is checked, as rights are the account's there.
    """
    path = Path(path)
    try:
        _check_status(path, os.lstat(path), directory=True)
    except OSError as error:
        raise storage_error("use the directory", path, error) from None
    return path


def make_private_directory(path: Path | str) -> Path:
    """Create `path` (and missing parents) with mode 0700; an existing one has to be private already.

    Their names are on disk when this returns: what is synced inside does not survive a power cut without.
    """
    path = Path(path)
    missing = [p for p in (path, *path.parents) if not os.path.lexists(p)]
    for directory in reversed(missing):
        try:
            directory.mkdir(mode=0o700)
            if POSIX:
                directory.chmod(0o700)
            with suppress(PermissionError):  # a parent that may be entered but not listed
                sync_directory(directory.parent)
        except FileExistsError:
            pass
        except OSError as error:
            raise storage_error("create the directory", directory, error) from None
    return check_private_directory(path)


def check_private_file(path: Path | str) -> Path:
    """Raise StorageError unless `path` is a regular file of this user, mode 0600, in a 0700 directory.

    The file is not opened: closing a second descriptor would release the locks that SQLite holds on it.
    """
    path = Path(path)
    try:
        status = os.lstat(path)
        check_private_directory(path.parent)
        _check_status(path, status, directory=False)
    except FileNotFoundError:
        raise StorageError(f"{path} does not exist") from None
    except OSError as error:
        raise storage_error("use the file", path, error) from None
    return path


def create_private_file(path: Path | str) -> int:
    """Create a new file with mode 0600 and return its write descriptor; an existing file is an error.

    Missing parents are created with mode 0700. Raises StorageError where the file exists or the folder is
    not private.
    """
    path = Path(path)
    make_private_directory(path.parent)
    try:
        descriptor = os.open(path, _CREATE_FLAGS, 0o600)
        if POSIX:
            os.fchmod(descriptor, 0o600)
    except FileExistsError:
        raise StorageError(f"{path} exists already; it is never overwritten, choose another name") from None
    except OSError as error:
        raise storage_error("create", path, error) from None
    return descriptor


def open_private_file(path: Path | str) -> BinaryIO:
    """Open an existing private file for reading; the checks are made on the opened file itself.

    So a file that is exchanged between check and opening is refused. Raises StorageError.
    """
    path = Path(path)
    check_private_file(path)
    try:
        descriptor = os.open(path, _READ_FLAGS)
    except OSError as error:
        raise storage_error("open", path, error) from None
    try:
        _check_status(path, os.fstat(descriptor), directory=False)
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def forbid_core_dumps() -> None:
    """Keep this process and its children from writing their memory to a file when they crash.

    Sets the soft limit RLIMIT_CORE to zero; an unprivileged process could raise it again. Nothing on
    Windows.
    """
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def sync_directory(path: Path) -> None:
    """Make a creation or a rename in `path` durable; Windows offers no such call and needs none."""
    if not POSIX:
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_atomically(
    path: Path | str, data: bytes | memoryview, *, private: bool = True, mode: int = 0o666
) -> None:
    """Replace `path` by a file with content `data`, durably; a StorageError leaves it as it was.

    private: create and check file and folder as `create_private_file` and `check_private_file` do.
    mode: of a file that is not private, before the umask.
    """
    path = Path(path)
    if private and os.path.lexists(path):
        check_private_file(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        descriptor = create_private_file(temporary) if private else os.open(temporary, _CREATE_FLAGS, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):  # the first error is the one to report
                temporary.unlink(missing_ok=True)
            raise
        # Not every file system (of a USB stick, say) can sync a folder; private data is not kept on those.
        with nullcontext() if private else suppress(OSError):
            sync_directory(path.parent)
    except OSError as error:
        raise storage_error("write", path, error) from None


@contextmanager
def locked(path: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the lock of `path`, by an empty file NAME.lock beside it, which is removed at the end.

    The folder is created if it is missing. Raises StorageError where another process (or thread) holds it
    for `timeout_s` seconds.
    """
    lock = path.with_name(path.name + ".lock")
    deadline = time.monotonic() + timeout_s
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while (descriptor := _try_lock(lock)) is None:
            if time.monotonic() >= deadline:
                raise StorageError(
                    f"{path} was not changed: another program has held {lock.name} for {timeout_s:g} s; "
                    "run this again when it is done"
                )
            time.sleep(0.02)
    except OSError as error:
        raise storage_error("lock", path, error) from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows does not remove an open file: there it stays
            lock.unlink()
        os.close(descriptor)


def _try_lock(lock: Path) -> int | None:
    """The descriptor that holds the lock, or None while another process does."""
    descriptor = os.open(lock, _LOCK_FLAGS, 0o600)
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The last holder may have removed the file between our opening and locking it.
        if os.path.samestat(os.fstat(descriptor), os.stat(lock)):
            return descriptor
    except (BlockingIOError, PermissionError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
