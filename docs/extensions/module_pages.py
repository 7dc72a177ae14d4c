"""Writes the pages below `modules/`: one for each package, with its modules as sections.

autosummary would write one for each module, which takes longer to build, and cuts first sentences out of
docstrings as reStructuredText.
"""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

PACKAGES = (
    "diqkd_postproc",
    "diqkd_node",
    "diqkd",
    "sim_devices.apparatus",
    "sim_devices.engines.host",
    "sim_devices.drivers",
    "sim_devices.physics",
    "sim_devices.laboratory",
    "sim_devices.adversaries",
)
FOLDER = "modules"


def summary(file: Path) -> str:
    """The first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def directive(name: str) -> str:
    """What documents a module."""
    return f"```{{eval-rst}}\n.. automodule:: {name}\n```\n"


def pages(name: str, folder: Path) -> dict[str, str]:
    """Name and text of the page of a package, and of all packages below it."""
    modules = {path.stem: path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("__")}
    packages = {path.parent.name: path for path in sorted(folder.glob("*/__init__.py"))}
    rows = [f"| [{child}]({name}.{child}.md) | {summary(path)} |" for child, path in packages.items()]
    rows += [f"| [{child}](#{child}) | {summary(path)} |" for child, path in modules.items()]
    parts = [f"# {name}\n", directive(name), "\n".join(["| module | |", "| --- | --- |", *rows, ""])]
    if packages:
        entries = (f"{child} <{name}.{child}>" for child in packages)
        parts.append("\n".join(["```{toctree}", ":hidden:", "", *entries, "```\n"]))
    parts += [f"## {child}\n\n{directive(f'{name}.{child}')}" for child in modules]
    below = {name: "\n".join(parts)}
    for child, path in packages.items():
        below |= pages(f"{name}.{child}", path.parent)
    return below


def write_pages(app: Sphinx) -> None:
    """Bring the folder up to date; what has not changed is not touched, nor read again."""
    folder = Path(app.srcdir) / FOLDER
    folder.mkdir(exist_ok=True)
    wanted: dict[str, str] = {}
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None
        wanted |= pages(package, Path(spec.origin).parent)
    for stale in set(folder.glob("*.md")) - {folder / f"{name}.md" for name in wanted}:
        stale.unlink()
    for name, text in wanted.items():
        page = folder / f"{name}.md"
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
