"""`diqkd calibration`: look at calibration results and write them into a node's configuration."""

from __future__ import annotations

import argparse
import dataclasses
from argparse import Namespace
from pathlib import Path


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    formatter: type[argparse.HelpFormatter],
) -> None:
    """Add `calibration` with its actions."""
    calibration = commands.add_parser("calibration", help="Results of calibrations, and what they change.")
    actions = calibration.add_subparsers(dest="action", required=True, metavar="ACTION")

    show = actions.add_parser("show", help="what a result says", formatter_class=formatter)
    show.add_argument("result", type=Path, help="result file of a calibration (JSON)")
    show.add_argument("--plot", type=Path, help="draw its figure again (PNG, PDF, SVG)")
    show.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    show.set_defaults(handler=show_result)

    apply = actions.add_parser(
        "apply",
        help="write a result into a node's configuration, unless it is implausible",
        formatter_class=formatter,
    )
    apply.add_argument("result", type=Path, help="result file of a calibration (JSON)")
    apply.add_argument(
        "configuration", type=Path, help="configuration file of the node; made if it does not exist"
    )
    apply.add_argument("--dry-run", action="store_true", help="only say what would change")
    apply.add_argument("--json", action="store_true", help="print the changes as JSON on stdout")
    apply.set_defaults(handler=apply_to_configuration)

    past = actions.add_parser(
        "history", help="what calibrations have changed in a configuration", formatter_class=formatter
    )
    past.add_argument("configuration", type=Path, help="configuration file of the node")
    past.add_argument("--json", action="store_true", help="print the changes as JSON on stdout")
    past.set_defaults(handler=show_history)


def print_calibration(path: Path) -> None:
    """What a result file says, on stdout."""
    from rich.console import Console
    from rich.table import Table

    from diqkd_postproc.calibration.result import CalibrationResult

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


def show_result(arguments: Namespace) -> None:
    """`diqkd calibration show`."""
    from diqkd_postproc.calibration import figures
    from diqkd_postproc.calibration.result import CalibrationResult

    result = CalibrationResult.load(arguments.result)
    if arguments.plot is not None:
        figures.save(result, arguments.plot)
    if arguments.json:
        print(result.to_json(), end="")
    else:
        print_calibration(arguments.result)


def apply_to_configuration(arguments: Namespace) -> None:
    """`diqkd calibration apply`."""
    from diqkd_postproc.calibration.application import apply_result
    from diqkd_postproc.console import print_json

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


def show_history(arguments: Namespace) -> None:
    """`diqkd calibration history`."""
    from rich.console import Console
    from rich.table import Table

    from diqkd_postproc.calibration.application import history
    from diqkd_postproc.console import print_json

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
