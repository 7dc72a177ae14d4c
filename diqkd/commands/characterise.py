"""`diqkd characterise`: from both records of a characterisation run to Fig. 3, its table and its numbers."""

from __future__ import annotations

import argparse
import csv
import io
import json
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from diqkd.console import print_json
from diqkd.options.parsers import add_json
from diqkd_postproc.link.characterised_link import LinkCharacterisation, characterise_link
from diqkd_postproc.protocol.errors import ParameterError, StorageError
from diqkd_postproc.records.sealed_record import RoundRecord
from diqkd_postproc.report.characterisation_figure import draw_characterisation

RESULT_NAME = "characterisation.json"
PICTURE_NAME = "characterisation.png"
PROBABILITIES_NAME = "probabilities.csv"
WINDOWS_NAME = "moving_averages.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `diqkd characterise`."""
    parser.description = (
        "Put both nodes' records of a characterisation run together: CHSH score, bit error rate, "
        "probabilities with errors, moving averages with 95 % bands, herald rate and pauses."
    )
    parser.add_argument(
        "alice", type=Path, help="Alice's record, or the other node's as one node received it"
    )
    parser.add_argument("bob", type=Path, help="Bob's record; the order does not matter")
    parser.add_argument(
        "-o", "--output", type=Path, help="folder for figure, tables and JSON (default: none)"
    )
    parser.add_argument(
        "--window", type=int, help="rounds of the moving averages (default: 100000, or a tenth of the run)"
    )
    add_json(parser)
    parser.set_defaults(handler=run)


def run(arguments: Namespace) -> None:
    """`diqkd characterise`."""
    records = [RoundRecord.read(path) for path in (arguments.alice, arguments.bob)]
    by_role = {record.role: record for record in records}
    if len(by_role) != 2:
        raise ParameterError(
            f"{arguments.alice} and {arguments.bob} are both {records[0].role}'s; "
            "give Alice's and Bob's record"
        )
    alice, bob = by_role["alice"], by_role["bob"]
    files: dict[str, str] = {}
    if arguments.output is not None:
        result, files = write_characterisation(alice, bob, arguments.output, arguments.window)
    else:
        result = characterise_link(alice, bob, arguments.window)
    if arguments.json:
        print_json(as_dict(result) | files)
    else:
        _print(result, files)


def write_characterisation(
    alice: RoundRecord,
    bob: RoundRecord,
    folder: Path,
    window: int | None = None,
    timed: RoundRecord | None = None,
) -> tuple[LinkCharacterisation, dict[str, str]]:
    """Characterise and write JSON, both tables and the picture into a folder; returns their names, too.

    Errors as `characterise_link`, and StorageError where nothing can be written.
    """
    result = characterise_link(alice, bob, window, timed)
    texts = {
        RESULT_NAME: json.dumps({"name": "link_characterisation"} | as_dict(result), indent=2) + "\n",
        PROBABILITIES_NAME: probabilities_csv(result),
        WINDOWS_NAME: windows_csv(result),
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


def as_dict(result: LinkCharacterisation) -> dict[str, Any]:
    """Plain values, for JSON."""
    timeline = result.timeline
    return {
        "run_id": result.run_id,
        "num_rounds": result.num_rounds,
        "num_lost": result.num_lost,
        "chsh_score": asdict(result.chsh_score),
        "qber": asdict(result.qber),
        "winning_probability": asdict(result.winning_probability),
        "probabilities": [
            {"x": x, "y": y, "a": a, "b": b, "probability": value, "standard_error": error}
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


def probabilities_csv(result: LinkCharacterisation) -> str:
    """P(A, B | X, Y) as CSV, twenty rows (Table S4)."""
    rows = []
    counts = result.probabilities.counts.reshape(-1)
    for count, (x, y, a, b, value, error) in zip(counts, result.probabilities.entries(), strict=True):
        rows.append((x, y, a, b, int(count), f"{value:.8g}", f"{error:.3g}"))
    return _csv(("x", "y", "a", "b", "count", "probability", "standard_error"), rows)


def windows_csv(result: LinkCharacterisation) -> str:
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


def _print(result: LinkCharacterisation, files: dict[str, str]) -> None:
    table = Table(title=f"Link characterisation, {result.num_rounds:,} rounds")
    for heading in ("settings", "A = 0, B = 0", "A = 0, B = 1", "A = 1, B = 0", "A = 1, B = 1"):
        table.add_column(heading)
    rows: dict[str, list[str]] = {}
    for x, y, _, _, value, spread in result.probabilities.entries():
        rows.setdefault(f"X = {x}, Y = {y}", []).append(f"{value:.4f}({10_000 * spread:.0f})")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console = Console()
    console.print(table)
    score, error = result.chsh_score, result.qber
    console.print(f"S = {score.value:.4f} ± {score.standard_error:.4f} ({score.num_rounds:,} test rounds)")
    console.print(
        f"Q = {100 * error.value:.3f} ± {100 * error.standard_error:.3f} % ({error.num_rounds:,} key rounds)"
    )
    timeline = result.timeline
    console.print(
        f"{timeline.herald_rate:,.1f} heralds/s while running; {timeline.duration_s:,.0f} s, of which "
        f"{timeline.paused_s:,.0f} s in {len(timeline.gaps)} pauses; {result.num_lost} rounds lost"
    )
    for path in files.values():
        console.print(f"written: {path}", soft_wrap=True)
