"""Signals as requests: stop at a safe place, or end as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set once; a second SIGINT interrupts as usual."""
    stop = threading.Event()

    def request_stop(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    previous = {name: signal.signal(name, request_stop) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)


@contextmanager
def interrupt_on_termination() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that files are closed in order; see `let_finish`."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def let_finish() -> None:
    """From here to the end of `interrupt_on_termination` SIGTERM is ignored: the work is done and stored."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
