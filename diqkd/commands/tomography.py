"""`diqkd tomography`: from a table of counts, from here or anywhere, to states, fidelities and a picture."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from diqkd.console import ProgressDisplay, print_json
from diqkd.options.parsers import add_json, add_progress
from diqkd_postproc.link.tomography import Bootstrapped, TomographyResult, analyse
from diqkd_postproc.link.tomography_counts import TomographyCounts
from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.report.tomography_figure import draw_tomography

RESULT_NAME, PICTURE_NAME, COUNTS_NAME = "tomography.json", "tomography.png", "tomography_counts.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `diqkd tomography`."""
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
    """`diqkd tomography`."""
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


def as_dict(result: TomographyResult) -> dict[str, Any]:
    """Plain values, for JSON: complex matrices as real and imaginary parts."""
    patterns = {}
    for name, pattern in result.by_pattern.items():
        patterns[name] = {
            "num_heralds": pattern.state.num_counts,
            "fidelity": _bootstrapped(pattern.fidelity),
            "phase_rad": _bootstrapped(pattern.phase),
            "rho_real": pattern.state.rho.real.tolist(),
            "rho_imag": pattern.state.rho.imag.tolist(),
            "log_likelihood": pattern.state.log_likelihood,
            "log_likelihood_gap": pattern.state.log_likelihood_gap,
            "num_iterations": pattern.state.num_iterations,
        }
    return {
        "mean_fidelity": _bootstrapped(result.mean_fidelity),
        "num_resamples": result.num_resamples,
        "patterns": patterns,
    }


def _bootstrapped(quantity: Bootstrapped) -> dict[str, float]:
    return {
        "value": quantity.value,
        "standard_error": quantity.standard_error,
        "low": quantity.interval.low,
        "high": quantity.interval.high,
        "bias": quantity.bias,
    }


def write_results(result: TomographyResult, folder: Path, provenance: dict[str, Any]) -> dict[str, str]:
    """Write JSON and picture into a folder; returns their names. Raises StorageError."""
    import json

    document = {"name": "tomography", "provenance": provenance} | as_dict(result)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULT_NAME).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write results into {folder}: {error.strerror}") from None
    draw_tomography(result, folder / PICTURE_NAME, provenance)
    return {"result": str(folder / RESULT_NAME), "picture": str(folder / PICTURE_NAME)}


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
