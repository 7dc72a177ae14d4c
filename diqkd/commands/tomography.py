"""`diqkd tomography`: states, fidelities and a picture from a table of counts, made by `diqkd` or not.

The state of each herald pattern is the maximum-likelihood estimate of its (25, 4) counts, errors are from a
parametric bootstrap; fidelities in percent, phases in radians.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from diqkd.console import ProgressDisplay, print_json
from diqkd.options.parsers import add_json, add_progress
from diqkd_postproc.link.tomography import TomographyResult, analyse
from diqkd_postproc.link.tomography_counts import TomographyCounts
from diqkd_postproc.report.tomography_files import as_dict, write_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Maximum-likelihood state after each herald pattern, its fidelity to the closest "
        "maximally entangled state and its phase, with errors by parametric bootstrap."
    )
    parser.add_argument(
        "counts",
        type=Path,
        help="CSV with columns pattern,OA,OB,+A+B,+A-B,-A+B,-A-B, as the experiment writes it",
    )
    parser.add_argument("-o", "--output", type=Path, help="folder for result and picture (default: none)")
    parser.add_argument("--resamples", type=int, default=200, help="number of bootstrap samples")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap samples")
    add_progress(parser)
    add_json(parser)
    parser.set_defaults(handler=run)


def run(arguments: Namespace) -> None:
    counts = TomographyCounts.read(arguments.counts)
    with ProgressDisplay(arguments.progress) as progress:
        result = analyse(counts, arguments.resamples, arguments.seed, progress)
    answer = as_dict(result)
    if arguments.output is not None:
        provenance = {"source": arguments.counts.name, "start_unix": arguments.counts.stat().st_mtime}
        answer |= write_results(result, arguments.output, provenance)
    if arguments.json:
        print_json(answer)
    else:
        _print(result, answer)


def _print(result: TomographyResult, answer: dict[str, Any]) -> None:
    table = Table(title="State after each herald pattern")
    for heading in ("pattern", "heralds", "fidelity, %", "95 %", "phase, rad"):
        table.add_column(heading, justify="left" if heading == "pattern" else "right")
    for name, pattern in result.by_pattern.items():
        fidelity, phase = pattern.fidelity, pattern.phase
        table.add_row(
            name,
            f"{pattern.state.num_counts:,}",
            f"{100 * fidelity.value:.2f} ± {100 * fidelity.standard_error:.2f}",
            f"{100 * fidelity.interval.low:.2f} to {100 * fidelity.interval.high:.2f}",
            f"{phase.value:+.3f} ± {phase.standard_error:.3f}",
        )
    mean = result.mean_fidelity
    table.caption = f"mean fidelity {100 * mean.value:.2f} ± {100 * mean.standard_error:.2f} %"
    console = Console()
    console.print(table)
    for name in ("result", "picture"):
        if name in answer:
            console.print(f"{name}: {answer[name]}", soft_wrap=True)
