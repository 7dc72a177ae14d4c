"""The examples of docs/library.md, run as one notebook, and the public names that they are to show."""

import doctest
import re
import subprocess
import sys

import pytest

import diqkd_postproc
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")


def test_the_examples_give_what_the_page_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```pycon\n(.*?)^```", PAGE, flags=re.S | re.M)
    assert len(blocks) > 8
    notebook = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "docs/library.md", None, 0)
    failed: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(notebook, out=failed.append)
    assert not failed, "".join(failed)


@pytest.mark.parametrize("name", diqkd_postproc.__all__)
def test_every_public_name_can_be_imported(name):
    assert getattr(diqkd_postproc, name) is not None


def test_importing_the_package_compiles_nothing():
    """numba and matplotlib would cost every command seconds."""
    code = "import diqkd_postproc, sys; print({'numba', 'matplotlib', 'h5py'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "set()"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        diqkd_postproc.nothing  # noqa: B018
