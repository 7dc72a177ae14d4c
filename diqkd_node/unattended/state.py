"""State of a lab day that a restart needs: when each calibration was done, and how it ended.

A JSON file, replaced as a whole after every change. Nothing in it is private.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from diqkd_postproc.files import replace_atomically
from diqkd_postproc.protocol.errors import ParameterError

VERSION = 1


@dataclass(kw_only=True)
class CalibrationMemory:
    """One calibration: time of the last success (s, None: never), failures since, why it is due early."""

    done_s: float | None = None
    failures: int = 0
    retry_s: float = 0.0  # not before this time after a failure
    stale: str = ""


@dataclass(kw_only=True)
class Memory:
    """State of one node. `pauses`: number of the last pause that the nodes agreed on."""

    pauses: int = 0
    restarts: int = 0  # of the acquisition, in a row, without progress
    rounds: int = 0
    calibrations: dict[str, CalibrationMemory] = field(default_factory=dict)

    def of(self, name: str) -> CalibrationMemory:
        """Memory of a calibration."""
        return self.calibrations.setdefault(name, CalibrationMemory())

    def to_json(self) -> str:
        """Indented JSON."""
        return json.dumps({"version": VERSION} | dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Memory from JSON; raises ParameterError."""
        try:
            values = json.loads(text)
            if values.pop("version") != VERSION:
                raise ValueError("another version wrote it")
            calibrations = {
                name: CalibrationMemory(**item) for name, item in values.pop("calibrations").items()
            }
            return cls(**values, calibrations=calibrations)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ParameterError(f"the memory of calibrations is damaged: {error}") from None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file; one that is missing is an empty memory. ParameterError names a damaged one."""
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        except (ParameterError, OSError, UnicodeDecodeError) as error:
            raise ParameterError(f"{path}: {error}; remove it to calibrate everything anew") from None

    def save(self, path: Path) -> None:
        """Replace the file, so that a crash leaves the old or the new one."""
        replace_atomically(path, self.to_json().encode(), private=False)
