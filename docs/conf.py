"""Sphinx: `python -m sphinx -W -b html docs docs/_build/html`, with the extra `docs`; ARTIQ is not needed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# The API pages import every module. Compiled functions would take a minute and have no signature.
os.environ["NUMBA_DISABLE_JIT"] = "1"
os.environ["COLUMNS"] = "88"  # of the usage lines
sys.path.insert(0, str(Path(__file__).parent / "extensions"))

from diqkd_postproc import __version__
from sim_devices import artiq_stub

artiq_stub.install()

project = "diqkd"
author = "the diqkd contributors"
copyright = "the diqkd contributors, LGPL-3.0-or-later"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "command_reference",
    "every_page",
    "markdown_docstrings",
    "mathml",
    "module_pages",
    "state_diagram",
]
exclude_patterns = ["extensions", "_build"]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_fence_as_directive = {"mermaid"}
myst_heading_anchors = 3
highlight_language = "none"  # indented blocks are commands, frames and formulas
default_role = "code"

autodoc_mock_imports = ["artiq.applets", "pyqtgraph", "qasync"]  # of the dashboard, for the applets
autodoc_default_options = {"members": True, "ignore-module-all": True}
add_module_names = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries = False

html_theme = "furo"
html_title = "diqkd"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_favicon = "images/logo.svg"
html_logo = "images/logo.svg"
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#2462c4",
        "color-brand-content": "#2462c4",
        "color-brand-visited": "#5a4fb0",
    },
    "dark_css_variables": {
        "color-brand-primary": "#6fa5f5",
        "color-brand-content": "#6fa5f5",
        "color-brand-visited": "#a99df0",
    },
}
