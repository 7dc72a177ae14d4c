from pathlib import Path

import pytest

from tests.support.delivery_trial import make_certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    directory.chmod(0o700)
    return make_certificates(directory)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "kme"
    path.mkdir(mode=0o700)
    return path
