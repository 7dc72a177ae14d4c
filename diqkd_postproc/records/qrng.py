"""Sources of the private random bytes that fill the pool before a run.

`QuantisByteSource` reads an ID Quantique Quantis (4M USB in the paper), whose Linux driver offers the raw
bits as a character device. Wrap a source in `health_tests.HealthTested` before using its bytes.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import Protocol

from diqkd_postproc.protocol.errors import QrngFailure

DEVICE = "/dev/qrandom0"
# 4 Mbit/s: a read of 64 KiB takes 0.13 s.
READ_BYTES = 1 << 16
TIMEOUT_S = 10.0


class ByteSource(Protocol):
    """Anything that gives private random bytes; ARTIQ's controller habits (`ping`, `close`)."""

    def read(self, num_bytes: int) -> bytes:
        """Exactly `num_bytes` fresh bytes, or QrngFailure.

        QrngFailure means that no byte of this call may be used.
        """
        ...

    def ping(self) -> bool:
        """Whether the source answers."""
        ...

    def close(self) -> None:
        """Release the device."""
        ...


class QuantisByteSource:
    """Bytes of a Quantis device file; a silent device is an error after `timeout_s` without a byte.

    Where the system cannot wait for a device with a timeout (Windows), reads block.
    """

    def __init__(self, path: Path | str = DEVICE, timeout_s: float = TIMEOUT_S) -> None:
        """Open the device; QrngFailure if it is missing or not readable."""
        self.path = Path(path)
        self.timeout_s = timeout_s
        flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            self._descriptor = os.open(self.path, flags | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise QrngFailure(
                f"cannot open the random number generator {self.path}: {error.strerror}; check that it is "
                "plugged in, that its driver is loaded and that this user may read it"
            ) from None

    def read(self, num_bytes: int) -> bytes:
        """Exactly `num_bytes` bytes; QrngFailure if the device ends, fails or stays silent."""
        data = bytearray()
        deadline = time.monotonic() + self.timeout_s
        while len(data) < num_bytes:
            chunk = self._read_some(min(num_bytes - len(data), READ_BYTES), deadline)
            if chunk:
                data += chunk
                deadline = time.monotonic() + self.timeout_s
        return bytes(data)

    def _read_some(self, num_bytes: int, deadline: float) -> bytes:
        if self._descriptor < 0:
            raise QrngFailure(f"the random number generator {self.path} has been closed")
        try:
            if os.name == "posix":
                wait_s = max(0.0, deadline - time.monotonic())
                ready, _, _ = select.select([self._descriptor], [], [], wait_s)
                if not ready:
                    raise QrngFailure(
                        f"{self.path} gave no byte for {self.timeout_s} s; reconnect the generator"
                    )
            chunk = os.read(self._descriptor, num_bytes)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise QrngFailure(f"cannot read {self.path}: {error.strerror}; reconnect the generator") from None
        if not chunk:
            raise QrngFailure(
                f"{self.path} ended, a random number generator never does; check that the device has this "
                "path and reconnect it"
            )
        return chunk

    def ping(self) -> bool:
        """Whether the device gives a byte, which is discarded."""
        try:
            return len(self.read(1)) == 1
        except QrngFailure:
            return False

    def close(self) -> None:
        """Close the device; harmless when repeated."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __repr__(self) -> str:
        return f"QuantisByteSource({str(self.path)!r})"
