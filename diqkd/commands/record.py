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
from diqkd_postproc.records.sealed_record import RoundRecord, setting_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)
    shown = actions.add("show", "public facts of a record; never settings or outcomes", show)
    shown.add_argument("record", type=Path)


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
