"""Formulas as MathML, which browsers draw themselves: no script, nothing fetched from anywhere."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

THIN_SPACE = '<mspace width="0.17em" />'


def mathml(formula: str, **options: str) -> str:
    """A formula as MathML; browsers draw no space around a function, and no variant of a digit."""
    text = convert(formula, **options).replace(
        '<mn mathvariant="double-struck">1</mn>', "<mn>\N{MATHEMATICAL DOUBLE-STRUCK DIGIT ONE}</mn>"
    )
    text = re.sub(r"(?<!<msup>)(<mi>log</mi>)(?!<mo stretchy)", rf"\1{THIN_SPACE}", text)
    return re.sub(r"(</m(?:n|i|frac|sub|sup)>)((?:<msup>)?<mi>log</mi>)", rf"\1{THIN_SPACE}\2", text)


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """A formula in a line of text."""
    self.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """A formula of its own; one that is too wide scrolls."""
    self.body.append(f'<div class="formula">{mathml(node.astext(), display="block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
