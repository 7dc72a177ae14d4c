"""Parts that the commands' argument parsers share."""

from __future__ import annotations

import argparse
from collections.abc import Callable

Handler = Callable[[argparse.Namespace], None]


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help with defaults, none shown where there is none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


class Actions:
    """The actions of a command that has several, such as `diqkd keys show`."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parsers = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(
        self, name: str, help_text: str, handler: Handler, *, json: bool = True
    ) -> argparse.ArgumentParser:
        """Parser of a new action, with `--json` unless it has nothing to report."""
        parser = self._parsers.add_parser(
            name, help=help_text, description=help_text, formatter_class=HelpFormatter
        )
        parser.set_defaults(handler=handler)
        if json:
            add_json(parser)
        return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Add `--progress`."""
    parser.add_argument(
        "--progress",
        choices=["auto", "lines", "none"],
        default="auto",
        help="on stderr: bars on a terminal, JSON lines, or nothing",
    )
