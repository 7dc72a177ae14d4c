"""From a calibration's result to the node's configuration file: checked, atomic, and with its history.

The configuration is a JSON file of what differs from the defaults. It is replaced as a whole or not at all,
by one program at a time: of two calibrations that end at the same moment neither undoes the other.
Next to it, `NAME.history.jsonl` gets one line a change with the old and the new value and the result behind
it; the line is written first, and names the digests of the file before and after, so that it is plain after
a power cut whether the change was made.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from diqkd_node.calibration.result import CalibrationResult
from diqkd_node.configuration import NodeConfiguration
from diqkd_node.configuration.flat_names import field_name
from diqkd_node.configuration.node_configuration import changed, parse
from diqkd_postproc.files import locked, replace_atomically
from diqkd_postproc.protocol.errors import ParameterError, StorageError

SMALLEST_P_VALUE = 1e-4
LARGEST_FREQUENCY_STEP = 1e6  # Hz, from the configured value
LARGEST_FREQUENCY_ERROR = 10e3  # Hz
LARGEST_RELATIVE_ERROR = 0.05
LARGEST_PHASE_ERROR = 0.02  # turns; costs 0.8 % of the contrast
SMALLEST_CONTRAST = 0.2

CALIBRATED = (
    *(f"analysis.{kind}_{name}" for kind in ("pi_time", "frequency") for name in ("map", "qubit", "shelve")),
    "analysis.magnetic_field",
    "analysis.pattern_phase_turns",
    "attempts.photon_window",
    "isolation.settling_time",
    "readout.threshold",
    "scrambling.time",
)
"""Fields of the node configuration that results may change, within the ranges that the configuration has."""


@dataclass(frozen=True)
class Change:
    """One setting before and after; `before` is the default where the file did not name it."""

    setting: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.setting}: {self.before} -> {self.after}"


def implausible(result: CalibrationResult, configured: NodeConfiguration) -> str | None:
    """Why a result may not be applied to the present configuration of the node, or None."""
    goodness = result.finding.goodness_of_fit
    if not goodness.p_value >= SMALLEST_P_VALUE:
        return (
            f"the fit is poor: its p-value is {goodness.p_value:.2g}, below {SMALLEST_P_VALUE:g} (deviance "
            f"{goodness.deviance:.1f} for {goodness.degrees_of_freedom} degrees of freedom); look at the "
            "figure and measure again"
        )
    for field in result.finding.settings:
        if field not in CALIBRATED:
            return f"calibrations do not set {field!r}; edit the configuration by hand"
    try:
        proposed = configured.with_fields(result.finding.settings)
    except ParameterError as error:
        return str(error)
    for field in result.finding.settings:
        if field.startswith("analysis.frequency"):
            step = abs(proposed.value(field) - configured.value(field))
            if step > LARGEST_FREQUENCY_STEP:
                return (
                    f"{field} would move by {step / 1e6:.3g} MHz, more than "
                    f"{LARGEST_FREQUENCY_STEP / 1e6:g} MHz; if that is true, edit the configuration by hand"
                )
    return _uncertain(result)


def _uncertain(result: CalibrationResult) -> str | None:
    for name, quantity in result.finding.quantities.items():
        error = quantity.standard_error
        if not math.isfinite(quantity.value) or not math.isfinite(error):
            return f"{name} has no finite value and error; measure more shots"
        if name == "contrast" and quantity.value < SMALLEST_CONTRAST:
            return (
                f"there is hardly anything to see: the contrast is {quantity.value:.2g}, below "
                f"{SMALLEST_CONTRAST:g}; scan a wider range"
            )
        if quantity.unit == "turns" and error > LARGEST_PHASE_ERROR:
            return (
                f"{name} is uncertain by {error:.2g} turns, more than {LARGEST_PHASE_ERROR:g}; measure more "
                "rounds"
            )
        if name == "frequency" and error > LARGEST_FREQUENCY_ERROR:
            return (
                f"the frequency is uncertain by {error / 1e3:.3g} kHz, more than "
                f"{LARGEST_FREQUENCY_ERROR / 1e3:g} kHz; measure more shots or a narrower span"
            )
        if name.endswith("_time") and error > LARGEST_RELATIVE_ERROR * abs(quantity.value):
            return (
                f"{name} is uncertain by {100 * error / abs(quantity.value):.3g} %, more than "
                f"{100 * LARGEST_RELATIVE_ERROR:g} %; measure more shots"
            )
    return None


def apply_result(result_path: Path, configuration_path: Path, dry_run: bool = False) -> list[Change]:
    """Write a result's settings into a configuration file, which is made if it does not exist.

    Returns the changes; with `dry_run` nothing is written.

    :raises ParameterError: implausible, older than what is applied already, of another role
    :raises StorageError: a file cannot be written, or another program stays at it
    """
    result = CalibrationResult.load(result_path)
    if not result.finding.settings:
        raise ParameterError(f"{result.title} proposes no setting; there is nothing to apply")
    with nullcontext() if dry_run else locked(configuration_path):
        before = _read(configuration_path)
        try:
            document = parse(before) if before.strip() else {}
            configured = NodeConfiguration.of(result.role, document)
        except ParameterError as error:
            raise ParameterError(f"{configuration_path}: {error}") from None
        reason = implausible(result, configured)
        if reason is not None:
            raise ParameterError(f"{result.title} was not applied: {reason}")
        _check_newer(result, configuration_path)
        present = configured.model_dump(mode="json")
        changes = [
            Change(name, present[section][field] or configured.value(name), value)
            for name, value in result.finding.settings.items()
            for section, field in [name.split(".")]
        ]
        document = changed(document, result.finding.settings) | {"role": result.role}
        after = json.dumps(document, indent=2) + "\n"
        if not dry_run:
            _record(result, result_path, configuration_path, changes, before, after)
            replace_atomically(configuration_path, after.encode(), private=False)
    return changes


def history(configuration_path: Path) -> list[dict[str, Any]]:
    """The changes that calibrations made to a configuration, oldest first.

    Lines from before the configuration had sections name its fields otherwise; they come with the present
    names.
    """
    path = _history_path(configuration_path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from None
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            entries.append(entry | {"setting": field_name(entry["setting"])})
        except json.JSONDecodeError:
            if number < len(lines):
                raise StorageError(f"line {number} of {path} is damaged; repair or remove it") from None
    return entries


def _check_newer(result: CalibrationResult, configuration_path: Path) -> None:
    moment = datetime.fromisoformat(result.time)
    for entry in history(configuration_path):
        if entry["setting"] in result.finding.settings and datetime.fromisoformat(entry["time"]) > moment:
            raise ParameterError(
                f"{entry['setting']} was calibrated at {entry['time']}, after this result of {result.time}; "
                "an old result is not applied over a newer one"
            )


def _history_path(configuration_path: Path) -> Path:
    return configuration_path.with_name(configuration_path.stem + ".history.jsonl")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"cannot read the node configuration {path}: {error}") from None


def _record(
    result: CalibrationResult, source: Path, path: Path, changes: list[Change], before: str, after: str
) -> None:
    lines = [
        json.dumps(
            {
                "time": result.time,
                "setting": change.setting,
                "before": change.before,
                "after": change.after,
                "calibration": result.calibration,
                "subject": result.subject,
                "result": source.name,
                "rid": result.provenance.get("rid"),
                "p_value": result.finding.goodness_of_fit.p_value,
                "digest_before": _digest(before),
                "digest_after": _digest(after),
            }
        )
        + "\n"
        for change in changes
    ]
    try:
        with _history_path(path).open("a", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"cannot write {_history_path(path)}: {error.strerror}") from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
