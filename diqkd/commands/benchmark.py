"""`diqkd benchmark`: the numerics on the user's own machine.

Subjects: decoder, extractor, Toeplitz hash and the authentication's hash, each timed cold once and then warm
`--repeat` times; times in seconds.
"""

from __future__ import annotations

import argparse
from argparse import Namespace

from diqkd.benchmarking import run_benchmarks
from diqkd.console import print_json
from diqkd.options import types as argument_types
from diqkd.options.parsers import add_json

SUBJECTS = ("decoder", "extractor", "toeplitz", "hash")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Median seconds of warm repeats at the size of a run; the machine is named."
    parser.add_argument("subject", nargs="?", choices=[*SUBJECTS, "all"], default="all")
    parser.add_argument("--rounds", type=argument_types.count, default=1_500_000, help="number of rounds n")
    parser.add_argument("--repeat", type=argument_types.count, default=5, help="warm repeats")
    parser.add_argument(
        "--syndrome-bits", type=argument_types.count, help="decoder: length (default: 1.047 n H)"
    )
    parser.add_argument("--design", default="near-limit", metavar="NAME", help="decoder: shipped ensemble")
    parser.add_argument(
        "--threads", type=argument_types.count, help="extractor: threads (default: all processors)"
    )
    parser.add_argument(
        "--every-instruction-set",
        action="store_true",
        help="extractor and hash: all that this machine has, not only the fastest",
    )
    add_json(parser)
    parser.set_defaults(handler=run)


def run(arguments: Namespace) -> None:
    subjects = SUBJECTS if arguments.subject == "all" else (arguments.subject,)
    report = run_benchmarks(
        subjects,  # type: ignore[arg-type]
        arguments.rounds,
        arguments.repeat,
        {
            "syndrome_bits": arguments.syndrome_bits,
            "ensemble_name": arguments.design,
            "num_threads": arguments.threads,
            "every_instruction_set": arguments.every_instruction_set,
        },
    )
    if arguments.json:
        print_json(report)
        return
    for name, value in report.items():
        _print(name, value, 0)


def _print(name: str, value: object, depth: int) -> None:
    label = "  " * depth + name.replace("_", " ")
    if isinstance(value, dict):
        print(label)
        for key, entry in value.items():
            _print(key, entry, depth + 1)
    elif isinstance(value, float):
        print(f"{label:34} {value:.4g}")
    elif isinstance(value, int):
        print(f"{label:34} {value:,}")
    else:
        print(f"{label:34} {', '.join(value) if isinstance(value, list) else value}")
