"""`diqkd characterise`: Fig. 3, its table and its numbers, from both records of a characterisation run.

Records are HDF5 files of the same run, in either order. With `-o` it writes the JSON, two CSV tables and the
picture of `report.characterisation_files`; without, it only prints.
"""

from __future__ import annotations

import argparse
import math
from argparse import Namespace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from diqkd.console import print_json
from diqkd.options.parsers import add_json
from diqkd_postproc.link.characterisation import Characterisation, characterise, read_records
from diqkd_postproc.report.characterisation_files import as_dict, write_characterisation


def add_arguments(parser: argparse.ArgumentParser) -> None:
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
    alice, bob = read_records(arguments.alice, arguments.bob)
    files: dict[str, str] = {}
    if arguments.output is not None:
        result, files = write_characterisation(alice, bob, arguments.output, arguments.window)
    else:
        result = characterise(alice, bob, arguments.window)
    if arguments.json:
        print_json(as_dict(result) | files)
    else:
        _print(result, files)


def _print(result: Characterisation, files: dict[str, str]) -> None:
    table = Table(title=f"Link characterisation, {result.num_rounds:,} rounds")
    for heading in ("settings", "A = 0, B = 0", "A = 0, B = 1", "A = 1, B = 0", "A = 1, B = 1"):
        table.add_column(heading)
    rows: dict[str, list[str]] = {}
    for x, y, _, _, value, spread in result.probabilities.entries():
        cell = "–" if math.isnan(value) else f"{value:.4f}({10_000 * spread:.0f})"
        rows.setdefault(f"X = {x}, Y = {y}", []).append(cell)
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console = Console()
    console.print(table)
    score = result.chsh_score
    console.print(f"S = {score.value:.4f} ± {score.standard_error:.4f} ({score.num_rounds:,} test rounds)")
    console.print(f"Q = {result.qber_text}")
    console.print(
        f"p = {result.p_value:.3g} that answers fixed in advance win as often "
        f"({round(result.winning_probability.value * score.num_rounds):,} of {score.num_rounds:,})"
    )
    if len(result.chsh_by_pattern) > 1:
        by_pattern = (
            f"{name}: {found.value:.3f} ± {found.standard_error:.3f}"
            for name, found in result.chsh_by_pattern.items()
        )
        console.print(f"S by herald pattern: {', '.join(by_pattern)}")
    checks = [check for check in result.no_signalling if check.standard_error > 0]
    if checks:
        worst = max(abs(check.difference) / check.standard_error for check in checks)
        console.print(f"no-signalling: marginals differ by at most {worst:.1f} standard errors")
    timeline = result.timeline
    if timeline.duration_s > 0:
        console.print(
            f"{timeline.herald_rate:,.3g} heralds/s while running; {timeline.duration_s:,.0f} s, of which "
            f"{timeline.paused_s:,.0f} s in {len(timeline.gaps)} pauses"
        )
    console.print(f"{result.num_lost} rounds lost")
    for path in files.values():
        console.print(f"written: {path}", soft_wrap=True)
