"""Controller `aqctl_laser_lock` of the state of the 674 nm laser's lock, for operators and slow decisions.

Rounds use the real-time line `ttl_laser_lock`; this controller reads the same logic output from the PC,
between runs too, and logs when the lock is lost and found. The output is read from a file that holds 1 or
0, as Linux presents an input pin (`/sys/class/gpio/gpioN/value`) and what most lock electronics'
own programs can write.
"""

import logging
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from diqkd_node.controllers.server import argument_parser, serve
from diqkd_postproc.protocol.errors import DiqkdError, ParameterError

logger = logging.getLogger(__name__)

NAME = "laser_lock"
DEFAULT_PORT = 3282
DEFAULT_DEVICE = "/sys/class/gpio/gpio17/value"


class LockReadError(DiqkdError):
    """The lock's logic output could not be read."""


class LockInput(Protocol):
    """Source of the state of the lock."""

    def locked(self) -> bool:
        """The state now; LockReadError if it is unknown."""
        ...


class LockFile:
    """A file with 1 (locked) or 0."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def locked(self) -> bool:
        """The state now; LockReadError if the file is missing or says something else."""
        try:
            text = self.path.read_text(encoding="ascii", errors="replace").strip()
        except OSError as error:
            raise LockReadError(f"cannot read the lock's output {self.path}: {error.strerror}") from None
        if text not in ("0", "1"):
            raise LockReadError(f"the lock's output {self.path} says {text[:20]!r}; 0 or 1 is expected")
        return text == "1"


class SimulatedLock:
    """Simulated lock; its state is an attribute."""

    def __init__(self) -> None:
        self.state = True

    def locked(self) -> bool:
        """The state now."""
        return self.state


class LaserLockController:
    """RPC interface. A thread reads the state every `interval_s` and counts losses."""

    def __init__(self, lock: LockInput, interval_s: float = 0.1) -> None:
        """Read the state once, then start the thread; LockReadError if the state cannot be read."""
        if not interval_s > 0:
            raise ParameterError(f"interval_s={interval_s} must be positive")
        self._lock = lock
        self._interval_s = interval_s
        self._locked = lock.locked()
        self._since = time.time()
        self._num_losses = 0
        self._failure = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="laser lock", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._closing.wait(self._interval_s):
            self.update()

    def update(self) -> None:
        """Read the state once. A state that cannot be read counts as not locked."""
        try:
            locked, failure = self._lock.locked(), ""
        except LockReadError as error:
            locked, failure = False, str(error)
        if failure and not self._failure:
            logger.error("%s", failure)
        self._failure = failure
        if locked != self._locked:
            self._num_losses += not locked
            self._locked, self._since = locked, time.time()
            logger.warning("the laser %s", "is locked again" if locked else "has lost its lock")

    def is_locked(self) -> bool:
        """Whether the laser was locked at the last reading."""
        return self._locked

    def status(self) -> dict[str, bool | str | int | float]:
        """`locked`, `since_unix` in s, `num_losses` since the controller started, `failure` of reading."""
        return {
            "locked": self._locked,
            "since_unix": self._since,
            "num_losses": self._num_losses,
            "failure": self._failure,
        }

    def set_simulated_lock(self, locked: bool) -> None:
        """Lock or unlock the simulated laser; ParameterError with a real one."""
        if not isinstance(self._lock, SimulatedLock):
            raise ParameterError("this lock is real; start the controller with --simulation to change it")
        self._lock.state = bool(locked)
        self.update()

    def ping(self) -> bool:
        """Whether the state can be read."""
        return not self._failure

    def close(self) -> None:
        """Stop reading; harmless when repeated."""
        self._closing.set()
        self._thread.join(timeout=5.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `aqctl_laser_lock`."""
    parser = argument_parser("ARTIQ controller for the state of a laser lock.", DEFAULT_PORT)
    parser.add_argument("--device", default=DEFAULT_DEVICE, help="file that holds 1 if locked, otherwise 0")
    parser.add_argument("--interval", type=float, default=0.1, help="s between two readings")
    options = parser.parse_args(arguments)
    lock = SimulatedLock() if options.simulation else LockFile(options.device)
    return serve(NAME, lambda: LaserLockController(lock, options.interval), options)


if __name__ == "__main__":
    sys.exit(main())
