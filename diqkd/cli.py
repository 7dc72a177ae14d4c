"""The command `diqkd`: everything a physicist does outside `artiq_dashboard`.

Results go to stdout (`--json` for programs), progress and messages to stderr. Exit codes: 0 done,
2 usage or parameters, 3 protocol abort, 4 tampering detected, 5 not enough initial key, 6 storage or
random number generator, 7 a file has to be carried to the peer first, 1 any other failure (an absent
peer, a device), 130 interrupted.

Each command is a module of `diqkd.commands` with `HELP`, `add_arguments` and a handler. Only the module of
the command that was typed is imported: numba and scipy take a second that `diqkd --help` need not wait.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence

from diqkd.options.parsers import HelpFormatter
from diqkd_postproc import __version__
from diqkd_postproc.protocol.errors import DiqkdError

EXIT_INTERRUPTED = 130

# In the order of a laboratory's first days; the module of `lab-day` is `lab_day`.
COMMANDS = {
    "demo": "Run the whole protocol with two simulated nodes on this machine.",
    "plan": "Choose protocol parameters for a link and say how long the key will be.",
    "node": "Run an experiment file on a device_db, as artiq_run would.",
    "postprocess": "Turn this node's record into a key, together with the peer.",
    "report": "Write the report of a run: one HTML page that needs nothing else.",
    "keys": "Initial keys and what became of them.",
    "record": "Sealed records.",
    "calibration": "Results of calibrations, and what they change.",
    "characterise": "Evaluate a link characterisation run.",
    "tomography": "Estimate the ions' joint state from tomography counts.",
    "codes": "Error correction: evaluate and design its codes.",
    "serve": "Deliver this node's keys to applications until stopped.",
    "delivery": "Prepare key delivery: certificates, a trial.",
    "vpn": "Renew the preshared key of a tunnel from the key delivery services, at both ends.",
    "key": "Request keys from a key delivery service, as an application does.",
    "benchmark": "Measure how fast the numerics are on this machine.",
    "kasli": "Serve a Kasli in software: stock ARTIQ tools connect to it.",
    "lab-day": "Simulate a day without an operator: drifts, calibrations, a laser failure, lost ions.",
}


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The argument parser, complete or with the arguments of one command only.

    The documentation renders the complete one.
    """
    parser = argparse.ArgumentParser(
        prog="diqkd",
        description="Device-independent quantum key distribution with ARTIQ-controlled ion-trap nodes.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"diqkd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in COMMANDS.items():
        command = commands.add_parser(
            name, help=help_text, description=help_text, formatter_class=HelpFormatter
        )
        if only in (None, name):
            module = importlib.import_module(f"diqkd.commands.{name.replace('-', '_')}")
            module.add_arguments(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    typed = next((word for word in words if not word.startswith("-")), "")
    parser = build_parser(only=typed)
    arguments, rest = parser.parse_known_args(words)
    if arguments.command == "node":  # NAME=VALUE may also follow options, as with artiq_run
        arguments.arguments += [text for text in rest if not text.startswith("-")]
        rest = [text for text in rest if text.startswith("-")]
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        arguments.handler(arguments)
    except KeyboardInterrupt:
        print(
            "diqkd: interrupted; nothing that was stored is lost, run the same command to go on",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    except DiqkdError as error:
        print(f"diqkd: {error}", file=sys.stderr)
        return error.exit_code
    if argv is None:  # all is done; a signal while the interpreter ends must not change the exit code
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
