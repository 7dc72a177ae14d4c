"""Usage examples in the `__init__` docstrings of the packages, run as they stand."""

import doctest
import importlib

import pytest

from tests.support.paths import ROOT

PACKAGES = ("diqkd_postproc", "diqkd_node", "sim_devices", "diqkd")
EXAMPLES = [
    ".".join(path.parent.relative_to(ROOT).parts)
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("__init__.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert results.attempted > 0
    assert results.failed == 0
