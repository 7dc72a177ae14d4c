"""Experiments that a lab day submits to its own master: key run, hold, calibrations.

ARTIQ's scheduler gives the order. The three share a pipeline and differ in priority, so the hold pauses the
key run, a calibration pauses the hold, and the paused experiment continues afterwards. A lab day that is
started again finds its experiments in the schedule by their file and arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from diqkd_node.unattended.calibration_graph import Calibration

KEY_RUN_PRIORITY, HOLD_PRIORITY, CALIBRATION_PRIORITY = 0, 5, 10
STARTED = ("running", "paused")


class ScheduledWork:
    """Submits to `scheduler` (ARTIQ's, or that of a simulated master).

    :param pipeline: in which the node's core device is used
    """

    def __init__(self, scheduler: Any, pipeline: str = "main") -> None:
        self._scheduler = scheduler
        self._pipeline = pipeline
        self._status: dict[int, dict[str, Any]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the schedule; the other methods answer from this state."""
        self._status = dict(self._scheduler.get_status())

    def submit(self, file: str, class_name: str, arguments: Mapping[str, Any], priority: int) -> int:
        """Submit an experiment; `file` is relative to the folder of this one. Returns its RID."""
        own = self._scheduler.expid
        beside = PurePath(own["file"]).parent / file
        expid = dict(own) | {
            "file": str(beside),
            "class_name": class_name or None,
            "arguments": dict(arguments),
        }
        return int(self._scheduler.submit(self._pipeline, expid, priority, None, False))

    def calibrate(self, calibration: Calibration, arguments: Mapping[str, Any]) -> int:
        """Submit a calibration."""
        return self.submit(
            calibration.file,
            calibration.class_name,
            dict(arguments) | dict(calibration.arguments),
            CALIBRATION_PRIORITY,
        )

    def exists(self, number: int | None) -> bool:
        """Whether an experiment is in the schedule."""
        return number is not None and number in self._status

    def started(self, number: int | None) -> bool:
        """Whether it has begun to run."""
        return number is not None and self._status.get(number, {}).get("status") in STARTED

    def find(self, file: str, arguments: Mapping[str, Any]) -> int | None:
        """Number of an experiment that an earlier start has submitted, if it is still there."""
        parts = PurePath(file).parts
        for number, entry in self._status.items():
            expid = entry["expid"]
            given = expid.get("arguments", {})
            if PurePath(expid["file"]).parts[-len(parts) :] == parts and all(
                given.get(name) == value for name, value in arguments.items()
            ):
                return int(number)
        return None

    def end(self, number: int | None) -> None:
        """Ask an experiment to terminate; one that has not begun is taken out of the schedule."""
        self.refresh()
        if self.exists(number):
            self._scheduler.request_termination(number)
