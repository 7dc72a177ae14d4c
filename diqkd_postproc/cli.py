"""The command `diqkd`: everything a physicist does outside `artiq_dashboard`.

Results go to stdout (`--json` for programs), progress and messages to stderr. Exit codes: 0 done,
2 usage or parameters, 3 protocol abort, 4 tampering detected, 5 not enough initial key, 6 storage or
random number generator, 7 a file has to be carried to the peer first, 1 any other failure (an absent
peer, a device), 130 interrupted. Heavy modules are imported by the command that needs them.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from diqkd_postproc import (
    __version__,
    argument_types,
    benchmark_command,
    calibration_command,
    characterise_command,
    code_commands,
    credential_arguments,
    delivery_command,
    demo_command,
    keys_command,
    lab_day_command,
    plan_command,
    tomography_command,
)
from diqkd_postproc.errors import DiqkdError

EXIT_INTERRUPTED = 130


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help with defaults, none shown where there is none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def build_parser() -> argparse.ArgumentParser:
    """The argument parser; a function so that the documentation can render it."""
    parser = argparse.ArgumentParser(
        prog="diqkd",
        description="Device-independent quantum key distribution with ARTIQ-controlled ion-trap nodes.",
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action="version", version=f"diqkd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help_text: str, reports: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_text, description=help_text, formatter_class=_Formatter)
        if reports:
            _add_json(sub)
        return sub

    def _add_json(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--json", action="store_true", help="print the result as JSON on stdout")

    def add_progress(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--progress",
            choices=["auto", "lines", "none"],
            default="auto",
            help="on stderr: bars on a terminal, JSON lines, or nothing",
        )

    demo = command("demo", demo_command.HELP)
    demo_command.add_arguments(demo)
    add_progress(demo)

    plan_command.add_parser(commands, _Formatter)

    node = command("node", "Run an experiment file on a device_db, as artiq_run would.")
    node.add_argument(
        "experiment", type=Path, help="experiment file, for example repository/key_generation.py"
    )
    node.add_argument("arguments", nargs="*", metavar="NAME=VALUE", help="arguments of the experiment")
    node.add_argument("--device-db", type=Path, required=True, help="device database file of this node")
    node.add_argument("--class-name", help="experiment class (default: the only one in the file)")
    add_progress(node)

    post = command("postprocess", "Turn this node's record into a key, together with the peer.")
    post.add_argument("role", choices=["alice", "bob"])
    post.add_argument("--parameters", type=Path, required=True, help="parameter file of the run (TOML)")
    post.add_argument("--record", type=Path, required=True, help="sealed record of this node (HDF5)")
    post.add_argument("--keys", type=Path, required=True, help="key store of this node")
    credential_arguments.add_credential_arguments(post)
    where = post.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--listen", type=argument_types.address, metavar="HOST:PORT", help="wait for the peer here"
    )
    where.add_argument(
        "--connect", type=argument_types.address, metavar="HOST:PORT", help="connect to the listening peer"
    )
    where.add_argument(
        "--exchange",
        type=Path,
        metavar="FOLDER",
        help="no network: write this side's messages to a file in FOLDER and read the peer's there; carry "
        "them, and run the command again until it has the key",
    )
    post.add_argument("--timeout", type=float, default=600.0, help="seconds to wait for the peer")
    add_progress(post)

    report = command("report", "Write the report of a run: one HTML page that needs nothing else.")
    report.add_argument("run", type=Path, help="run directory of a node, or of a demo")
    report.add_argument("--public", action="store_true", help="leave out what must stay in the laboratory")
    report.add_argument("--pdf", action="store_true", help="print a PDF too (needs Chromium or Chrome)")
    report.add_argument(
        "-o", "--output", type=Path, help="HTML file to write (default: report.html in the run directory)"
    )
    report.add_argument("--keys", type=Path, help="key store of the run, where it is not keys.sqlite there")

    keys_command.add_parser(commands, _Formatter)

    record = commands.add_parser("record", help="Sealed records.")
    actions = record.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="public facts of a record; never settings or outcomes")
    show.add_argument("record", type=Path)
    _add_json(show)

    calibration_command.add_parser(commands, _Formatter)
    characterise_command.add_parser(commands, _Formatter)
    tomography_command.add_parser(commands, _Formatter)
    code_commands.add_parsers(commands, _Formatter)
    delivery_command.add_parsers(commands, _Formatter)
    benchmark_command.add_parser(commands, _Formatter)
    lab_day_command.add_parser(commands, _Formatter)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    if arguments.command == "node":  # NAME=VALUE may also follow options, as with artiq_run
        arguments.arguments += [text for text in rest if not text.startswith("-")]
        rest = [text for text in rest if text.startswith("-")]
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    name = arguments.command + (f"_{arguments.action}" if hasattr(arguments, "action") else "")
    try:
        if hasattr(arguments, "handler"):
            arguments.handler(arguments)
        else:
            # Imported after parsing: help and usage errors need none of it, and it takes a while.
            from diqkd_postproc import commands

            getattr(commands, name)(arguments)
    except KeyboardInterrupt:
        print(
            "diqkd: interrupted; nothing that was stored is lost, run the same command to go on",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    except DiqkdError as error:
        print(f"diqkd: {error}", file=sys.stderr)
        return error.exit_code
    if argv is None:  # all is done; a signal while the interpreter ends must not tell otherwise
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
