"""Writes the pages below `modules/`: one for each module, with a list of what a package holds.

autosummary would do the same, but it cuts a docstring's first sentence out as reStructuredText.
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
    "sim_devices.engine",
    "sim_devices.drivers",
    "sim_devices.physics",
    "sim_devices.laboratory",
)
FOLDER = "modules"


def summary(file: Path) -> str:
    """The first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def submodules(folder: Path) -> dict[str, Path]:
    """Modules and packages in a package's folder, by name."""
    found = {path.stem: path for path in folder.glob("*.py") if not path.stem.startswith("__")}
    return dict(sorted((found | {path.parent.name: path for path in folder.glob("*/__init__.py")}).items()))


def pages(name: str, file: Path) -> dict[str, str]:
    """Name and text of the page of a module, and of all below it."""
    parts = [f"# {name}\n", f"```{{eval-rst}}\n.. automodule:: {name}\n```\n"]
    below: dict[str, str] = {}
    if file.name == "__init__.py" and (children := submodules(file.parent)):
        rows = [f"| [{child}]({name}.{child}.md) | {summary(path)} |" for child, path in children.items()]
        parts.append("\n".join(["| module | |", "| --- | --- |", *rows, ""]))
        parts.append(
            "\n".join(
                [
                    "```{toctree}",
                    ":hidden:",
                    "",
                    *(f"{child} <{name}.{child}>" for child in children),
                    "```\n",
                ]
            )
        )
        for child, path in children.items():
            below |= pages(f"{name}.{child}", path)
    return {name: "\n".join(parts)} | below


def write_pages(app: Sphinx) -> None:
    """Bring the folder up to date; what has not changed is not touched, nor read again."""
    folder = Path(app.srcdir) / FOLDER
    folder.mkdir(exist_ok=True)
    wanted: dict[str, str] = {}
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None
        wanted |= pages(package, Path(spec.origin))
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
