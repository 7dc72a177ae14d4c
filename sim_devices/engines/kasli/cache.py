"""Cache of the core device (artiq/firmware/runtime/cache.rs): integer lists that outlive a kernel."""

from __future__ import annotations

from sim_devices.engines.kasli import support
from sim_devices.engines.kasli.exceptions import SLOTS_SIZE
from sim_devices.engines.kasli.machine import Machine

_START = support.HEAP + SLOTS_SIZE
_END = support.HEAP + support.HEAP_SIZE - support.PAGE


class Cache:
    """Rows by key in the heap. A kernel gets the row itself, which keeps it from being replaced."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._rows: dict[str, tuple[int, int]] = {}
        self._borrowed: set[str] = set()
        self._next = _START

    def get(self) -> None:
        """cache_get(key) -> list, empty if there is none."""
        key, _ = self._machine.string_argument(0)
        if key in self._rows:
            self._borrowed.add(key)
        else:
            self._rows[key] = self._allocate(0)
            self._machine.write_word(self._rows[key][0] + 4, 0)
        self._machine.set_result(self._rows[key][0])

    def put(self) -> bool:
        """cache_put(key, list); False if a kernel uses the row."""
        machine = self._machine
        key, following = machine.string_argument(0)
        if key in self._borrowed:
            return False
        data = machine.read_slice(machine.argument(following), 4)
        row = self._rows.get(key)
        if row is None or row[1] < len(data):
            row = self._rows[key] = self._allocate(len(data))
        machine.write(row[0] + 8, data)
        machine.write_word(row[0], row[0] + 8)
        machine.write_word(row[0] + 4, len(data) // 4)
        return True

    def _allocate(self, size: int) -> tuple[int, int]:
        """Room for a list of `size` bytes: its address, which stays, and its capacity."""
        address = self._next
        capacity = max(64, 1 << (size - 1).bit_length()) if size else 64
        self._next += 8 + capacity
        if self._next > _END:
            raise MemoryError("the cache of the emulated core device is full")
        return address, capacity

    def release(self) -> None:
        """The kernel ended."""
        self._borrowed.clear()
