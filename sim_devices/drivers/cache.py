"""Cache of the core device (`artiq.coredevice.cache`): lists of integers that outlive a kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from artiq.coredevice.exceptions import CacheError

from sim_devices.engines.host.timeline import Timeline


class CoreCache:
    """Rows by key. A row that a kernel has read cannot be replaced until all kernels have ended."""

    def __init__(self, dmgr: Any, core_device: str = "core", *, key: str = "core_cache") -> None:
        self.core = dmgr.get(core_device)
        self.key = key
        self._timeline: Timeline = self.core.timeline
        self._rows: dict[str, list[int]] = {}
        self._borrowed: set[str] = set()
        self.core.run_end_hooks.append(self._borrowed.clear)

    def get(self, key: str) -> list[int]:
        """The row, not a copy; empty if there is none."""
        self._timeline.cpu += self._timeline.model.cache_mu
        if key not in self._rows:
            return []
        self._borrowed.add(key)
        return self._rows[key]

    def put(self, key: str, value: Iterable[int]) -> None:
        """Replace a row; an empty one removes it."""
        self._timeline.cpu += self._timeline.model.cache_mu
        if key in self._borrowed:
            raise CacheError(f"cache row {key!r} is in use by a kernel")
        row = [int(item) for item in value]
        if row:
            self._rows[key] = row
        else:
            self._rows.pop(key, None)
