"""Log of the core device: lines as the firmware writes them (artiq/firmware/liblogger_artiq), bounded."""

from __future__ import annotations

import logging
import threading
import time

SIZE = 1 << 20
_LEVELS = {"WARNING": "WARN", "CRITICAL": "ERROR"}
LOGGERS = ("kernel", "sim_devices.engines.kasli")


class DeviceLog(logging.Handler):
    """Keeps what the engine and its kernels log; a reader may wait for more."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._start = time.monotonic()
        self._text = ""
        self._written = 0
        """Characters since power-up, those that were dropped included."""
        self._more = threading.Condition()

    def attach(self) -> None:
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self)
            logging.getLogger(name).setLevel(logging.INFO)

    def detach(self) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        level = _LEVELS.get(record.levelname, record.levelname)
        since = time.monotonic() - self._start
        target = "kernel" if record.name == "kernel" else record.name.replace(".", "::")
        lines = "".join(
            f"[{since:12.6f}s] {level:>5}({target}): {line}\n" for line in record.getMessage().splitlines()
        )
        with self._more:
            self._text = (self._text + lines)[-SIZE:]
            self._written += len(lines)
            self._more.notify_all()

    def text(self) -> str:
        with self._more:
            return self._text

    def clear(self) -> None:
        with self._more:
            self._text = ""

    def wait(self, position: int, timeout: float) -> tuple[str, int]:
        """What was written after `position`, and the position behind it; empty after `timeout` seconds."""
        with self._more:
            if self._written <= position:
                self._more.wait(timeout)
            missing = min(self._written - position, len(self._text))
            return self._text[len(self._text) - missing :], self._written
