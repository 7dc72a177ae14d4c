"""`diqkd report`: one page about a run."""

from __future__ import annotations

import argparse
from argparse import Namespace
from pathlib import Path

from diqkd.console import print_json
from diqkd.options.parsers import add_json
from diqkd_postproc.report import write_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="run directory of a node, or of a demo")
    parser.add_argument("--public", action="store_true", help="leave out what must stay in the laboratory")
    parser.add_argument("--pdf", action="store_true", help="print a PDF too (needs Chromium or Chrome)")
    parser.add_argument(
        "-o", "--output", type=Path, help="HTML file to write (default: report.html in the run directory)"
    )
    parser.add_argument("--keys", type=Path, help="key store of the run, where it is not keys.sqlite there")
    add_json(parser)
    parser.set_defaults(handler=run)


def run(arguments: Namespace) -> None:
    """`diqkd report`: what a run was and gave, as one page.

    Prints the names of the files written. StorageError where the directory holds no sealed record,
    ParameterError where `--pdf` finds no browser.
    """
    answer = write_report(
        arguments.run,
        public=arguments.public,
        pdf=arguments.pdf,
        output=arguments.output,
        keys=arguments.keys,
    )
    if arguments.json:
        print_json(answer)
        return
    for kind in ("report", "pdf"):
        if kind in answer:
            print(answer[kind])
