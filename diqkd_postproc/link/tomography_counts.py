"""Counts of two-qubit state tomography: a plain table that any laboratory can write or read.

A row is one setting pair after one herald pattern, with how often each pair of eigenstates was found. The
file is CSV with the columns of SI Table S2, preceded by the pattern::

    pattern,OA,OB,+A+B,+A-B,-A+B,-A-B
    0011,X,X,229,332,375,284

`pattern` names the group in which a state is estimated: the detectors that clicked, or any other word.
O is one of X, -X, Y, -Y, Z; + and - are its eigenvalues, so that + of -X is the state that X calls -.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from diqkd_postproc.protocol.errors import ParameterError, StorageError

OBSERVABLES = ("X", "Y", "-X", "-Y", "Z")
"""What a node measures, in the order of SI Table S2."""

ANALYSIS_PHASE_TURNS = {"X": 0.75, "Y": 0.0, "-X": 0.25, "-Y": 0.5}
"""Phase (turns) of the pulse Rxy(pi/2, phase) after which "bright" is + of the observable: Rxy^+ Z Rxy =
cos(phase) Y - sin(phase) X. Z takes no pulse but shelving."""

SETTING_PAIRS = tuple((first, second) for first in OBSERVABLES for second in OBSERVABLES)
"""(Alice, Bob), 25 of them; a pair's index is 5 * Alice's + Bob's."""

EIGENSTATES = ("+A+B", "+A-B", "-A+B", "-A-B")
COLUMNS = ("pattern", "OA", "OB", *EIGENSTATES)
MAX_COUNT = 2**53
MAX_FILE_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class TomographyCounts:
    """Counts by herald pattern: name -> (25, 4) int64, in the orders of SETTING_PAIRS and EIGENSTATES."""

    by_pattern: Mapping[str, npt.NDArray[np.int64]]

    def __post_init__(self) -> None:
        for name, counts in self.by_pattern.items():
            if counts.shape != (len(SETTING_PAIRS), len(EIGENSTATES)):
                raise ParameterError(f"counts of pattern {name} have shape {counts.shape}, not (25, 4)")
            if (counts < 0).any():
                raise ParameterError(f"counts of pattern {name} have a negative entry")

    @property
    def num_heralds(self) -> int:
        """All counts together."""
        return sum(int(counts.sum()) for counts in self.by_pattern.values())

    @classmethod
    def of_rounds(
        cls,
        herald_pattern: npt.NDArray[np.uint8],
        pair: npt.NDArray[np.int64],
        eigenstate: npt.NDArray[np.int64],
    ) -> TomographyCounts:
        """Count rounds: (n,) each, the pattern, the index of the setting pair, and that of the eigenstate."""
        by_pattern = {}
        for pattern in np.unique(herald_pattern):
            chosen = herald_pattern == pattern
            cell = pair[chosen] * len(EIGENSTATES) + eigenstate[chosen]
            table = np.bincount(cell, minlength=len(SETTING_PAIRS) * len(EIGENSTATES))
            by_pattern[f"{pattern:04b}"] = table.reshape(-1, len(EIGENSTATES)).astype(np.int64)
        return cls(by_pattern)

    def to_csv(self) -> str:
        """The table as CSV text, settings without any count left out."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, counts in self.by_pattern.items():
            for (first, second), row in zip(SETTING_PAIRS, counts, strict=True):
                if row.any():
                    writer.writerow((name, first, second, *row.tolist()))
        return text.getvalue()

    @classmethod
    def from_csv(cls, text: str, source: str = "the table") -> TomographyCounts:
        """Read CSV text; raises ParameterError that names the line.

        Rows may come in any order and settings may be missing; a setting pair that comes twice is an error.
        """
        lines = [line for line in text.removeprefix("\ufeff").splitlines() if line.strip()]
        rows = csv.reader(line for line in lines if not line.lstrip().startswith("#"))
        header = [name.strip() for name in next(rows, [])]
        if header != list(COLUMNS):
            raise ParameterError(f"{source} begins with {','.join(header)!r}, not with {','.join(COLUMNS)!r}")
        by_pattern: dict[str, npt.NDArray[np.int64]] = {}
        seen = set()
        for number, row in enumerate(rows, start=2):
            where = f"{source}, row {number} ({','.join(row)[:80]})"
            if len(row) != len(COLUMNS):
                raise ParameterError(f"{where}: {len(row)} columns, not {len(COLUMNS)}")
            name, first, second = (cell.strip() for cell in row[:3])
            for observable in (first, second):
                if observable not in OBSERVABLES:
                    raise ParameterError(f"{where}: {observable!r} is none of {', '.join(OBSERVABLES)}")
            if not name or (name, first, second) in seen:
                raise ParameterError(f"{where}: this setting pair of this pattern comes a second time")
            seen.add((name, first, second))
            counts = by_pattern.setdefault(name, np.zeros((len(SETTING_PAIRS), len(EIGENSTATES)), np.int64))
            counts[SETTING_PAIRS.index((first, second))] = [_count(cell, where) for cell in row[3:]]
        if not any(counts.any() for counts in by_pattern.values()):
            raise ParameterError(f"{source} has no counts")
        return cls(by_pattern)

    @classmethod
    def read(cls, path: Path) -> TomographyCounts:
        """Read a CSV file; raises ParameterError."""
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ParameterError(f"{path} has more than {MAX_FILE_BYTES} bytes; is it a table of counts?")
            return cls.from_csv(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ParameterError(f"cannot read the table of counts {path}: {error}") from None

    def write(self, path: Path) -> None:
        """Write a CSV file; raises StorageError."""
        try:
            path.write_text(self.to_csv(), encoding="utf-8")
        except OSError as error:
            raise StorageError(f"cannot write the table of counts {path}: {error.strerror}") from None


def _count(cell: str, where: str) -> int:
    text = cell.strip()
    if not text.isdecimal() or int(text) > MAX_COUNT:
        raise ParameterError(f"{where}: {cell!r} is not a count")
    return int(text)
