"""Result of a calibration: a JSON file with the values found, their errors, and how they were found.

It holds the figure's points and curves too, so that the figure can be drawn again from the file alone.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from diqkd_node.calibration.fits.count_fit import CountFit
from diqkd_node.configuration.flat_names import field_name
from diqkd_postproc.protocol.errors import ParameterError

SCHEMA = 1


@dataclass(frozen=True)
class Quantity:
    """A measured value in SI units; `standard_error` is 0 for a choice, such as a threshold.

    `low` and `high` bound the 95 % interval where that is not value +- 1.96 standard errors.
    """

    value: float
    standard_error: float
    unit: str
    low: float | None = None
    high: float | None = None

    @property
    def rounded(self) -> float:
        """The value to a hundredth of its error: what a configuration file should say."""
        if self.standard_error <= 0 or not math.isfinite(self.standard_error):
            return self.value
        return round(self.value, 2 - math.floor(math.log10(self.standard_error)))

    def __str__(self) -> str:
        scale, prefix = _prefix(self.value if self.value else self.standard_error, self.unit)
        value, error = self.value / scale, self.standard_error / scale
        if self.high is not None:
            text = f"{value:.3g}, at most {self.high / scale:.3g} (95 %)"
        elif error > 0:
            power = math.floor(math.log10(abs(value))) if 0 < abs(value) < 0.01 else 0
            digits = max(0, 1 + power - math.floor(math.log10(error)))
            text = f"{value / 10**power:.{digits}f} ± {error / 10**power:.{digits}f}"
            if power:
                text = f"({text})e{power}"
        else:
            text = f"{value:.6g}"
        return f"{text} {prefix}{self.unit}".rstrip()


def _prefix(value: float, unit: str) -> tuple[float, str]:
    if unit not in ("s", "Hz", "1/s") or value == 0 or unit == "1/s":
        return 1.0, ""
    for scale, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ")):
        if abs(value) >= scale:
            return scale, prefix
    return 1e-9, "n"


@dataclass(frozen=True)
class GoodnessOfFit:
    """Deviance of the fit and the probability of one at least as large, were the model true."""

    deviance: float
    degrees_of_freedom: int
    p_value: float

    @classmethod
    def of(cls, fit: CountFit) -> Self:
        return cls(float(fit.deviance), int(fit.degrees_of_freedom), float(fit.p_value))


@dataclass(frozen=True)
class Finding:
    """What a fit hands on: quantities, the settings that they propose, and the figure.

    `settings` are fields of `NodeConfiguration`, SECTION.FIELD. `figure` is a `figure_description`.
    """

    quantities: dict[str, Quantity]
    goodness_of_fit: GoodnessOfFit
    settings: dict[str, Any]
    figure: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CalibrationResult:
    """A finding with its circumstances. `time` is ISO 8601 with a time zone; `subject` is what of several
    was calibrated, such as a transition, or empty."""

    calibration: str
    role: str
    time: str
    finding: Finding
    subject: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Name and subject in words."""
        words = self.calibration.replace("_", " ")
        return f"{words}, {self.subject}" if self.subject else words

    def to_json(self) -> str:
        document = {"schema": SCHEMA} | dataclasses.asdict(self)
        return json.dumps(document, indent=1, default=_plain, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "the calibration result") -> CalibrationResult:
        """Raises ParameterError for a document that is none."""
        try:
            document = json.loads(text)
            if document.pop("schema") != SCHEMA:
                raise ValueError(f"its schema is not {SCHEMA}")
            finding = document.pop("finding")
            quantities = {name: Quantity(**entry) for name, entry in finding["quantities"].items()}
            goodness = GoodnessOfFit(**finding["goodness_of_fit"])
            settings = {field_name(name): value for name, value in finding["settings"].items()}
            result = cls(
                finding=Finding(quantities, goodness, settings, finding["figure"], tuple(finding["notes"])),
                **document,
            )
            moment = datetime.fromisoformat(result.time)
            if moment.tzinfo is None:
                raise ValueError("its time has no time zone")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ParameterError(f"{source} is no calibration result: {error}") from None
        return result

    @classmethod
    def load(cls, path: Path) -> CalibrationResult:
        """Read a result file. Raises ParameterError."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ParameterError(f"cannot read the calibration result {path}: {error}") from None
        return cls.from_json(text, str(path))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} in a calibration result")
