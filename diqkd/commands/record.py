"""`diqkd record`: public facts of sealed records."""

from __future__ import annotations

import argparse
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from diqkd.console import print_json
from diqkd.options.parsers import Actions
from diqkd_postproc.files import make_private_directory
from diqkd_postproc.link.record_import import read_table, records_of_table
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.records.sealed_record import RoundRecord, setting_name
from diqkd_postproc.security.certification import load_certified


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)
    shown = actions.add("show", "public facts of a record; never settings or outcomes", show)
    shown.add_argument("record", type=Path)
    imported = actions.add(
        "import", "records out of other people's data: a table of x, y, a, b, or of one side", import_table
    )
    imported.add_argument("table", type=Path, help="CSV with a header, or npz; see docs/own_data.md")
    imported.add_argument("-o", "--output", type=Path, required=True, help="new folder for the records")
    imported.add_argument(
        "--parameters",
        type=Path,
        help="of the run that is to make a key of the data (default: a characterisation, which makes none)",
    )
    imported.add_argument(
        "--source", default="", help="name of the data for the provenance (default: the file's name)"
    )


def import_table(arguments: Namespace) -> None:
    """`diqkd record import`: write FOLDER/alice.h5 and FOLDER/bob.h5, or one of them; none is replaced.

    Errors as `read_table` and `records_of_table`.
    """
    parameters = None if arguments.parameters is None else load_certified(arguments.parameters)
    records = records_of_table(
        read_table(arguments.table), parameters, arguments.source or arguments.table.name
    )
    paths = {role: arguments.output / f"{role}.h5" for role in records}
    for path in paths.values():
        if path.exists():
            raise ParameterError(f"{path} exists; give a folder without records of another table")
    make_private_directory(arguments.output)
    for role, path in paths.items():
        records[role].write(path)
    facts = {
        "run_id": next(iter(records.values())).run_id,
        "num_rounds": next(iter(records.values())).parameters.num_rounds,
        "records": {role: str(path) for role, path in paths.items()},
    }
    if arguments.json:
        print_json(facts)
        return
    for path in paths.values():
        print(f"written: {path}")
    if len(paths) == 2 and parameters is None:
        print(f"next: diqkd characterise {paths['alice']} {paths['bob']}")


def show(arguments: Namespace) -> None:
    """`diqkd record show`: facts of a record, never settings or measured outcomes.

    Herald patterns and losses are counted; times are machine units of the node. Errors as
    `RoundRecord.read`.
    """
    record = RoundRecord.read(arguments.record)
    patterns, counts = np.unique(record.herald_pattern, return_counts=True)
    heralded = record.timestamp_mu[record.timestamp_mu >= 0]
    facts: dict[str, Any] = {
        "role": record.role,
        "run_id": record.run_id,
        "parameters_digest": record.parameters.digest,
        "num_rounds": record.parameters.num_rounds,
        "num_tests": int(np.count_nonzero(record.round_type)),
        "num_lost": record.num_lost,
        "private_datasets": [setting_name(record.role), "outcome", "lost"],
        "herald_patterns": {
            f"{pattern:04b}": int(count) for pattern, count in zip(patterns, counts, strict=True)
        },
        "first_herald_mu": int(heralded[0]) if heralded.size else None,
        "last_herald_mu": int(heralded[-1]) if heralded.size else None,
        **record.attributes,
    }
    provenance = dict(facts.pop("provenance", {}))
    configuration = provenance.pop("node_configuration", None)
    if arguments.json:
        settings = json.loads(configuration) if configuration else None
        print_json(facts | {"provenance": provenance, "node_configuration": settings})
        return
    table = Table(title=str(Path(arguments.record)), show_header=False)
    for name, value in (facts | provenance).items():
        table.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
    Console().print(table)
