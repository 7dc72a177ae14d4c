"""Reloading of an ion that was lost or got company: when the host calls the loader.

A loader may return when the ion is trapped, or start the oven and return at once. Both are given the same
time from then on until the ion has to be seen; no second ion is loaded while the first may still come.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

RELOAD_S = 60.0


def loader_of(experiment) -> Callable[[], Any] | None:
    """`load` of the device `ion_loader`, fetched when it is needed; None in labs without one."""
    if "ion_loader" not in experiment.get_device_db():
        return None
    return lambda: experiment.get_device("ion_loader").load()


class IonReload:
    """Loads ions until one is there.

    :param load: brings an ion, or begins to; None where it is loaded by hand
    :param patience_s: how long to wait for an ion before another one is loaded
    """

    def __init__(self, load: Callable[[], Any] | None, patience_s: float = RELOAD_S) -> None:
        self.load = load
        self.patience_s = patience_s
        self.num_loads = 0  # since the ion was lost
        self._since: float | None = None  # the last load, or the loss

    @property
    def away(self) -> bool:
        """Whether the ion was lost and has not been seen since."""
        return self._since is not None

    @property
    def due(self) -> bool:
        """Whether it is time to load an ion, and not to wait for one."""
        return self._since is None or time.monotonic() - self._since >= self.patience_s

    def ion_is_back(self) -> None:
        """An ion was seen."""
        self._since, self.num_loads = None, 0

    def no_ion(self, purpose: str) -> None:
        """The trap does not hold one ion. Loads one when that is due; where it is loaded by hand, logs that
        once.

        :param purpose: what waits for the ion, for the log
        """
        if self.away and (self.load is None or not self.due):
            return
        if self.load is None:
            logger.warning("not one ion in the trap: load one; %s goes on by itself", purpose)
        else:
            logger.warning("not one ion in the trap: loading")
            self.load()
            self.num_loads += 1
        self._since = time.monotonic()
