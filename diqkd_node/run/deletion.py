"""Orderly end of an experiment that is deleted instead of being asked to terminate.

A master that deletes a running experiment ends the process from within its next call to the master
(SystemExit); two seconds later it sends SIGTERM, after another two it kills. Either would leave the core
device where it happens to be: link connected, ion uncooled. Here the call returns as if a termination had
been requested, and the run takes that way to its end. (Windows has no SIGTERM; a call comes in time there.)
"""

import signal
import threading
from collections.abc import Callable
from typing import Any

from artiq.experiment import TerminationRequested


class DeletedError(TerminationRequested):
    """The master has deleted this experiment."""


class DeletionGuard:
    """Context in which SIGTERM sets `deleted`; calls to the master go through `call`.

    A handler that the program has already (`diqkd node` has one) stays.
    """

    def __init__(self) -> None:
        self.deleted = False
        self._calling = False
        self._installed = False

    def __enter__(self) -> "DeletionGuard":
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._delete)
            self._installed = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _delete(self, *_: object) -> None:
        self.deleted = True
        if self._calling:
            raise DeletedError

    def call(
        self, function: Callable[..., Any], *arguments: Any, if_deleted: Any = None, **options: Any
    ) -> Any:
        """Result of a call to the master; `if_deleted` once it has deleted this experiment."""
        if self.deleted:
            return if_deleted
        self._calling = True
        try:
            return function(*arguments, **options)
        except (DeletedError, SystemExit):
            self.deleted = True
            return if_deleted
        finally:
            self._calling = False

    def raise_if_deleted(self) -> None:
        """DeletedError, a `TerminationRequested`, if the experiment has been deleted."""
        if self.deleted:
            raise DeletedError
