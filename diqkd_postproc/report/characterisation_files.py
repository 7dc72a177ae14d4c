"""Files of a characterisation: its numbers as JSON, both tables as CSV, and the picture."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from diqkd_postproc.link.characterisation import Characterisation, characterise
from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.records.sealed_record import RoundRecord
from diqkd_postproc.report.characterisation_figure import draw_characterisation

RESULT_NAME = "characterisation.json"
PICTURE_NAME = "characterisation.png"
PROBABILITIES_NAME = "probabilities.csv"
WINDOWS_NAME = "moving_averages.csv"


def write_characterisation(
    alice: RoundRecord,
    bob: RoundRecord,
    folder: Path,
    window: int | None = None,
    timed: RoundRecord | None = None,
) -> tuple[Characterisation, dict[str, str]]:
    """Characterise and write JSON, both tables and the picture into a folder; returns their names, too.

    Errors as `characterise`, and StorageError where nothing can be written.
    """
    result = characterise(alice, bob, window, timed)
    texts = {
        RESULT_NAME: json.dumps({"name": "link_characterisation"} | as_dict(result), indent=2) + "\n",
        PROBABILITIES_NAME: probabilities_csv(result),
        WINDOWS_NAME: _windows_csv(result),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write results into {folder}: {error.strerror}") from None
    draw_characterisation(result, folder / PICTURE_NAME, result.provenance)
    keys = ("result", "probabilities", "moving_averages", "picture")
    names = (RESULT_NAME, PROBABILITIES_NAME, WINDOWS_NAME, PICTURE_NAME)
    return result, {key: str(folder / name) for key, name in zip(keys, names, strict=True)}


def as_dict(result: Characterisation) -> dict[str, Any]:
    """Plain values, for JSON.

    Estimates are {value, standard_error, num_rounds}; times in seconds, rates in heralds a second.
    """
    timeline = result.timeline
    return {
        "run_id": result.run_id,
        "num_rounds": result.num_rounds,
        "num_lost": result.num_lost,
        "chsh_score": asdict(result.chsh_score),
        "p_value": result.p_value,
        "qber": asdict(result.qber) if result.qber else None,
        "chsh_by_pattern": {name: asdict(score) for name, score in result.chsh_by_pattern.items()},
        "no_signalling": [asdict(check) for check in result.no_signalling],
        "winning_probability": asdict(result.winning_probability),
        "probabilities": [
            {"x": x, "y": y, "a": a, "b": b, "probability": _known(value), "standard_error": _known(error)}
            for x, y, a, b, value, error in result.probabilities.entries()
        ],
        "herald_patterns": result.herald_patterns,
        "duration_s": timeline.duration_s,
        "paused_s": timeline.paused_s,
        "herald_rate": timeline.herald_rate,
        "gaps": [
            {"first_round": gap.first_round, "reason": gap.reason, "duration_s": gap.duration_s}
            for gap in timeline.gaps
        ],
        "window": result.windows.window,
        "provenance": {
            name: value for name, value in result.provenance.items() if name != "node_configuration"
        },
    }


def _known(value: float) -> float | None:
    """None for NaN, which JSON does not have."""
    return None if math.isnan(value) else value


def probabilities_csv(result: Characterisation) -> str:
    """P(A, B | X, Y) as CSV, twenty rows (Table S4).

    Columns x, y, a, b, count, probability, standard_error: four outcomes for each of five pairs of settings.
    """
    rows = []
    counts = result.probabilities.counts.reshape(-1)
    for count, (x, y, a, b, value, error) in zip(counts, result.probabilities.entries(), strict=True):
        rows.append((x, y, a, b, int(count), f"{value:.8g}", f"{error:.3g}"))
    return _csv(("x", "y", "a", "b", "count", "probability", "standard_error"), rows)


def _windows_csv(result: Characterisation) -> str:
    """Moving averages as CSV, one row a window; time is that of its middle, since the first herald."""
    windows = result.windows
    columns = (
        windows.chsh_score,
        windows.chsh_low,
        windows.chsh_high,
        windows.qber,
        windows.qber_low,
        windows.qber_high,
    )
    rows = []
    for index, first in enumerate(windows.first_round.tolist()):
        middle = min(first + windows.window // 2, result.num_rounds - 1)
        values = (f"{column[index]:.6g}" for column in columns)
        rows.append((first, first + windows.window, f"{result.elapsed_s[middle]:.3f}", *values))
    heading = ("first_round", "end_round", "time_s", "S", "S_low", "S_high", "Q", "Q_low", "Q_high")
    return _csv(heading, rows)


def _csv(heading: tuple[str, ...], rows: list[Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heading)
    writer.writerows(rows)
    return text.getvalue()
