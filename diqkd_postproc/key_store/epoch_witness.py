"""Note of a key store's epoch outside its file: evidence that an old copy of the file was restored.

A ledger cannot detect that it was replaced by an older copy of itself, in which spent pads look unused. So
the highest epoch of every store is also noted outside it, in one small file a store below the account's
state directory: `$DIQKD_STATE_DIR`, else `%LOCALAPPDATA%\\\\diqkd`, `$XDG_STATE_HOME/diqkd` or
`~/.local/state/diqkd`. A store whose own epoch is lower is refused. The same catches two copies of one
store that are both used on this machine.

It is evidence, not proof: it is written after each commit, without waiting for the disk, so that a crash
can make it too low, never too high; another machine or account knows nothing; and whoever restores the
state directory too is only found out by the peer, which compares epochs and messages at the start of a
session.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from diqkd_postproc.files import (
    check_private_file,
    create_private_file,
)
from diqkd_postproc.protocol.errors import StorageError

_DIGITS = 20
_WRITE_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def state_directory() -> Path:
    """Where this account keeps what has to outlive its data; see the module's description.

    Not created here. Raises StorageError where the account has no home directory and no variable names
    another.
    """
    if chosen := os.environ.get("DIQKD_STATE_DIR"):
        return Path(chosen)
    if os.name == "nt" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "diqkd"
    state = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(state) if state else Path.home() / ".local" / "state") / "diqkd"
    except RuntimeError:
        raise StorageError(
            "this account has no home directory to keep the epochs of key stores; set DIQKD_STATE_DIR"
        ) from None


class EpochWitness:
    """The highest epoch that was seen of one store, by the store's own random name."""

    def __init__(self, store_id: str, folder: Path | None = None) -> None:
        """Find or create the note in `folder`, None for `state_directory()`.

        Raises StorageError if this account cannot keep one there.
        """
        self.path = (state_directory() if folder is None else folder) / f"{store_id}.epoch"
        try:
            if not os.path.lexists(self.path):
                with contextlib.suppress(FileExistsError):
                    os.close(create_private_file(self.path))
            check_private_file(self.path)
        except StorageError as error:
            raise StorageError(
                f"cannot keep the epoch of the key store outside it: {error}. Put that right, or name "
                "another private folder on this machine in DIQKD_STATE_DIR"
            ) from None

    def seen(self) -> int:
        """The noted epoch, 0 where there is none or a power cut garbled it."""
        try:
            text = self.path.read_bytes()
        except OSError:
            return 0
        return int(text) if len(text) == _DIGITS and text.isdigit() else 0

    def note(self, epoch: int) -> None:
        """Raise the note to `epoch`. A failure is no error: the change that it records has been made.

        Overwritten in place, 20 digits: a power cut can garble it, which counts as 0. It never goes down.
        """
        if epoch <= self.seen():
            return
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path, _WRITE_FLAGS)
            try:
                os.write(descriptor, f"{epoch:0{_DIGITS}d}".encode())
            finally:
                os.close(descriptor)
