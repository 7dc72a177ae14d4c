"""Note of a key store's epoch and encryption outside its file: evidence of an old copy or an exchanged file.

A ledger cannot detect that it was replaced by an older copy of itself, in which spent pads look unused. So
the highest epoch of every store is also noted outside it, in one small file a store below the account's
state directory: `$DIQKD_STATE_DIR`, else `%LOCALAPPDATA%\\\\diqkd`, `$XDG_STATE_HOME/diqkd` or
`~/.local/state/diqkd`. A store whose own epoch is lower is refused. The same catches two copies of one
store that are both used on this machine. A store that was encrypted and is not any more, without the owner
having decrypted it, is refused too.

It is evidence, not proof: it is written after each commit, without waiting for the disk, so that a crash
can make it too low, never too high; another machine or account knows nothing; and whoever restores the
state directory too is only found out by the peer, which compares epochs and messages at the start of a
session.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from diqkd_postproc.files import check_private_file, create_private_file, locked
from diqkd_postproc.protocol.errors import StorageError

_DIGITS = 20
_ENCRYPTED = b" encrypted"
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
        digits = self._read()[:_DIGITS]
        return int(digits) if len(digits) == _DIGITS and digits.isdigit() else 0

    def seen_encrypted(self) -> bool:
        """Whether the store was encrypted when it was seen last; False where there is no note."""
        return self._read().endswith(_ENCRYPTED)

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError:
            return b""

    def note(self, epoch: int, encrypted: bool) -> None:
        """Raise the note to `epoch`. A failure is no error: the change that it records has been made.

        Compared and written under a lock, in place: a power cut can garble it, which counts as 0. It never
        goes down, and of an epoch that is passed already nothing is noted.
        """
        text = f"{epoch:0{_DIGITS}d}".encode() + _ENCRYPTED * encrypted
        with contextlib.suppress(OSError, StorageError), locked(self.path):
            if epoch < self.seen() or text == self._read():
                return
            descriptor = os.open(self.path, _WRITE_FLAGS)
            try:
                os.write(descriptor, text)
                os.truncate(descriptor, len(text))
            finally:
                os.close(descriptor)
