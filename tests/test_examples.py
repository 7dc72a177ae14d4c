"""Usage examples in the `__init__` docstrings of the packages, run as they stand."""

import doctest
import importlib
import tempfile

import pytest

from tests.support.paths import ROOT

PACKAGES = ("diqkd_postproc", "diqkd_node", "sim_devices", "diqkd")
EXAMPLES = [
    ".".join(path.parent.relative_to(ROOT).parts)
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("__init__.py"))
    # Each package of diqkd_postproc has an example; elsewhere only some have.
    if path.parent.parent.name == "diqkd_postproc" or ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    package = importlib.import_module(name)
    # Names that are imported on first use are not among the package's globals.
    names = {public: getattr(package, public) for public in getattr(package, "__all__", ())}
    results = doctest.testmod(package, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert results.attempted > 0
    assert results.failed == 0
