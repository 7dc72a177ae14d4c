"""The stand-in for `artiq`, installed once, and a state folder of the tests' own.

The tests note the epochs of their key stores in that folder, not in the account's.
"""

import os

import pytest

import sim_devices  # noqa: F401  its import installs the stand-in for `artiq`


@pytest.fixture(scope="session", autouse=True)
def state_directory(tmp_path_factory: pytest.TempPathFactory):
    before = os.environ.get("DIQKD_STATE_DIR")
    os.environ["DIQKD_STATE_DIR"] = str(tmp_path_factory.mktemp("state"))
    yield
    if before is None:
        del os.environ["DIQKD_STATE_DIR"]
    else:
        os.environ["DIQKD_STATE_DIR"] = before
