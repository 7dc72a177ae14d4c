"""`diqkd calibration`: results of calibrations, shown or written into a node's configuration.

Results are the JSON files that a calibration experiment writes; configurations are the JSON files of
`NodeConfiguration`. An implausible result is refused with a DiqkdError and changes nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
from argparse import Namespace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from diqkd.console import print_json
from diqkd.options.parsers import Actions
from diqkd_node.calibration import figures
from diqkd_node.calibration.application import apply_result, history
from diqkd_node.calibration.result import CalibrationResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)

    show = actions.add("show", "what a result says", _show_result)
    show.add_argument("result", type=Path, help="result file of a calibration (JSON)")
    show.add_argument("--plot", type=Path, help="draw its figure again (PNG, PDF, SVG)")

    apply = actions.add(
        "apply",
        "write a result into a node's configuration, unless it is implausible",
        _apply_to_configuration,
    )
    apply.add_argument("result", type=Path, help="result file of a calibration (JSON)")
    apply.add_argument(
        "configuration", type=Path, help="configuration file of the node; made if it does not exist"
    )
    apply.add_argument("--dry-run", action="store_true", help="only say what would change")

    history_parser = actions.add(
        "history", "what calibrations have changed in a configuration", _show_history
    )
    history_parser.add_argument("configuration", type=Path, help="configuration file of the node")


def print_calibration(path: Path) -> None:
    """Print a result file: quantities with errors, goodness of fit, proposed settings, notes.

    Raises ParameterError for a file that cannot be read or holds no result.
    """
    result = CalibrationResult.load(path)
    table = Table(title=f"{result.title}, {result.role}", show_header=False)
    for name, quantity in result.finding.quantities.items():
        table.add_row(name.replace("_", " "), str(quantity))
    goodness = result.finding.goodness_of_fit
    table.add_row(
        "fit",
        f"deviance {goodness.deviance:.1f} for {goodness.degrees_of_freedom} degrees of freedom, "
        f"p = {goodness.p_value:.2g}",
    )
    for setting, value in result.finding.settings.items():
        table.add_row(f"proposes {setting}", str(value))
    table.add_row("time", result.time)
    console = Console()
    console.print(table)
    for note in result.finding.notes:
        console.print(f"Note: {note}.")
    console.print(f"result: {path}", soft_wrap=True)


def _show_result(arguments: Namespace) -> None:
    result = CalibrationResult.load(arguments.result)
    if arguments.plot is not None:
        figures.save(result, arguments.plot)
    if arguments.json:
        print(result.to_json(), end="")
    else:
        print_calibration(arguments.result)


def _apply_to_configuration(arguments: Namespace) -> None:
    changes = apply_result(arguments.result, arguments.configuration, arguments.dry_run)
    if arguments.json:
        print_json(
            {
                "configuration": str(arguments.configuration),
                "written": not arguments.dry_run,
                "changes": [dataclasses.asdict(change) for change in changes],
            }
        )
        return
    for change in changes:
        print(change)
    print(f"{'nothing written to' if arguments.dry_run else 'written:'} {arguments.configuration}")


def _short(value: object) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _show_history(arguments: Namespace) -> None:
    entries = history(arguments.configuration)
    if arguments.json:
        print_json({"configuration": str(arguments.configuration), "changes": entries})
        return
    if not entries:
        print(f"no calibration has changed {arguments.configuration}")
        return
    table = Table("time", "setting", "before", "after", "result")
    for entry in entries:
        table.add_row(*(_short(entry[name]) for name in ("time", "setting", "before", "after", "result")))
    Console().print(table)
