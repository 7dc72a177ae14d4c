"""Key stores of a small protocol run."""

from __future__ import annotations

from pathlib import Path

import pytest

from diqkd_postproc.key_store import KeyStore
from tests.support.example_stores import make_pair


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def pair(directory: Path):
    alice, bob = make_pair(directory)
    yield alice, bob
    alice.close()
    bob.close()


@pytest.fixture
def store(pair: tuple[KeyStore, KeyStore]) -> KeyStore:
    return pair[0]
