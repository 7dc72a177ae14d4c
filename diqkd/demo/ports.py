"""Reserved TCP ports on loopback, for programs that have to be given a number before they start."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

LOOPBACK = "127.0.0.1"
MAX_ATTEMPTS = 100


@contextmanager
def reserved_ports(number: int) -> Iterator[int]:
    """The first of `number` consecutive ports, which stay reserved within the block.

    A reserved port is bound but does not listen: the kernel gives it to nobody who asks for any port, and a
    connection to it is refused until the program it is for listens there.

    :raises OSError: no such ports
    """
    for _ in range(MAX_ATTEMPTS):
        with ExitStack() as bound:
            try:
                first = _bind(0, bound)
                for port in range(first + 1, first + number):
                    _bind(port, bound)
            except (OSError, OverflowError):  # taken, or above 65535
                continue
            # Elsewhere a program could not bind a port that is bound: there it is only known to be free.
            if sys.platform != "linux":
                bound.close()
            yield first
            return
    raise OSError(f"no {number} consecutive TCP ports are free on {LOOPBACK}")


def _bind(port: int, bound: ExitStack) -> int:
    item = bound.enter_context(closing(socket.socket()))
    # Needed for the program's own bind, which sets it as well (`socket.create_server`, asyncio).
    item.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    item.bind((LOOPBACK, port))
    return int(item.getsockname()[1])
