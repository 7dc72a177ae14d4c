"""The examples in the docstrings of diqkd_postproc's packages."""

import doctest
import importlib
import pkgutil
import tempfile

import pytest

import diqkd_postproc

PACKAGES = ["diqkd_postproc"] + [
    info.name for info in pkgutil.iter_modules(diqkd_postproc.__path__, "diqkd_postproc.") if info.ispkg
]


@pytest.mark.parametrize("name", PACKAGES)
def test_the_example_of_a_package_gives_what_it_shows(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    package = importlib.import_module(name)
    # Names that are imported on first use are not among the package's globals.
    names = {public: getattr(package, public) for public in getattr(package, "__all__", ())}
    failed, attempted = doctest.testmod(package, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert attempted and not failed
