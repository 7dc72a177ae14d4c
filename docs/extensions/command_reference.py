"""The directive `command-reference`: every command and option of `diqkd`, from the parser that reads them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from diqkd.cli import build_parser


def leaves(
    parser: argparse.ArgumentParser, help_text: str = ""
) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """The parsers that take a command's arguments, each with what its parent says of it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            said = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, child in action.choices.items():
                yield from leaves(child, said.get(name, ""))
            return
    yield parser, help_text


class CommandReference(SphinxDirective):
    """A section for each command: usage, then its arguments with their help and defaults."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        return [self.command(parser, text) for parser, text in leaves(build_parser())]

    def command(self, parser: argparse.ArgumentParser, help_text: str) -> nodes.Node:
        """One command."""
        section = nodes.section(ids=[nodes.make_id(parser.prog)], names=[parser.prog])
        section += nodes.title("", "", nodes.literal("", parser.prog))
        said = parser.description or help_text
        section += nodes.paragraph("", said[:1].upper() + said[1:].rstrip(".") + ".")
        usage = parser.format_usage().rstrip().replace("\n" + " " * len("usage: "), "\n")
        usage = usage.removeprefix("usage: ")
        section += nodes.literal_block(usage, usage, language="none")
        formatter = parser._get_formatter()
        arguments = nodes.definition_list(classes=["arguments"])
        for action in parser._actions:
            if isinstance(action, argparse._HelpAction):
                continue
            term = nodes.term("", "", nodes.literal("", formatter._format_action_invocation(action)))
            text = formatter._expand_help(action) if action.help else ""
            if action.required and action.option_strings:
                text = f"{text} (required)"
            arguments += nodes.definition_list_item(
                "", term, nodes.definition("", nodes.paragraph("", text.strip()))
            )
        section += arguments
        return section


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.add_directive("command-reference", CommandReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
