"""A private directory for the tests of files and of what is kept in them."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def private_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "private"
    directory.mkdir(mode=0o700)
    return directory
