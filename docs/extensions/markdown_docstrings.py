"""Docstrings of this project are Markdown: they go to MyST instead of being read as reStructuredText."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils import new_document
from myst_parser.config.main import MdParserConfig
from myst_parser.mdit_to_docutils.base import DocutilsRenderer
from myst_parser.parsers.mdit import create_md_parser
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

DIRECTIVE = "markdown-docstring"
# `:param name:` is a field list; a dollar sign is a dollar sign.
CONFIG = MdParserConfig(enable_extensions={"fieldlist"})


class MarkdownDocstring(SphinxDirective):
    """Renders its content, Markdown, in place."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The content as docutils nodes."""
        parser = create_md_parser(CONFIG, DocutilsRenderer)
        document = new_document(self.get_source_info()[0], self.state.document.settings)
        parser.options["document"] = document
        parser.render("\n".join(self.content))
        return list(document.children)


def wrap(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Put the lines of a docstring into the directive; autodoc calls this with each."""
    if lines and any(lines):
        lines[:] = [f".. {DIRECTIVE}::", "", *(f"   {line}" if line else "" for line in lines), ""]


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.add_directive(DIRECTIVE, MarkdownDocstring)
    app.connect("autodoc-process-docstring", wrap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
