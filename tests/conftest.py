"""Make `example_parameters` importable by all tests, in any import mode of pytest.

The tests note the epochs of their key stores in a folder of their own, not in the account's.
"""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def state_directory(tmp_path_factory: pytest.TempPathFactory):
    before = os.environ.get("DIQKD_STATE_DIR")
    os.environ["DIQKD_STATE_DIR"] = str(tmp_path_factory.mktemp("state"))
    yield
    if before is None:
        del os.environ["DIQKD_STATE_DIR"]
    else:
        os.environ["DIQKD_STATE_DIR"] = before
