"""Log of what strangers can cause: so many lines in a time, and the number of those that were left out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

NUM_LINES = 20
WINDOW_S = 60.0


class BoundedLog:
    """Writes at most NUM_LINES warnings to `log` in WINDOW_S; counts all of them."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._window_end = 0.0
        self._in_window = 0
        self._left_out = 0
        self.num_warnings = 0

    def warning(self, message: str, *values: object) -> None:
        """One line, or one more that is left out; the next line of a later window has their number."""
        self.num_warnings += 1
        now = self._clock()
        if now >= self._window_end:
            self._window_end, self._in_window = now + WINDOW_S, 0
            if self._left_out:
                self._log.warning("%d more refusals were not logged", self._left_out)
                self._left_out = 0
        if self._in_window >= NUM_LINES:
            self._left_out += 1
            return
        self._in_window += 1
        self._log.warning(message, *values)
