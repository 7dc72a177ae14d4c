"""Puts every page into the table of contents: those that no toctree names go where `OTHER` stands."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

OTHER = "(the other pages)"


def add_other_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace `OTHER` by the names of the pages in this folder that the text does not name itself."""
    if OTHER not in source[0]:
        return
    named = set(re.findall(r"^[\w/]+$", source[0], flags=re.M)) | {docname}
    others = sorted(name for name in app.env.found_docs if "/" not in name and name not in named)
    source[0] = source[0].replace(OTHER, "\n".join(others))


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.connect("source-read", add_other_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
