"""Simulated quantum random number generator: the byte stream of a Quantis without the hardware.

Without a seed it reads the operating system's generator; with one it is reproducible and good for nothing but
simulations. The interface is that of `diqkd_postproc.records.qrng.ByteSource`.
"""

import hashlib
import os
from typing import Any


class SimulatedQuantis:
    """Byte source of a node; as a device it is constructed from the device database (`device_mgr` first)."""

    def __init__(
        self, device_mgr: Any = None, seed: int | str | None = None, stream: str = "", **_: Any
    ) -> None:
        self._state = None if seed is None else hashlib.sha256(f"{seed}/{stream}".encode()).digest()
        self._counter = 0
        self._rest = b""

    def read(self, num_bytes: int) -> bytes:
        """Exactly `num_bytes` bytes."""
        if num_bytes < 0:
            raise ValueError(f"num_bytes is {num_bytes}, must not be negative")
        if self._state is None:
            return os.urandom(num_bytes)
        chunks, available = [self._rest], len(self._rest)
        while available < num_bytes:
            block = hashlib.shake_256(self._state + self._counter.to_bytes(8, "big")).digest(1 << 16)
            self._counter += 1
            chunks.append(block)
            available += len(block)
        stream = b"".join(chunks)
        self._rest = stream[num_bytes:]
        return stream[:num_bytes]

    def ping(self) -> bool:
        return True

    def close(self) -> None:
        self._rest = b""
