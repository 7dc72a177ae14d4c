"""Stand-in for `artiq`, Hypothesis profile, and a state folder of the tests' own.

The tests note the epochs of their key stores in that folder, not in the account's.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

import sim_devices  # noqa: F401  its import installs the stand-in for `artiq`

# A machine may have much else to do, so no test depends on the clock. In CI the examples do not change.
settings.register_profile(
    "diqkd", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("diqkd")


@pytest.fixture(scope="session", autouse=True)
def state_directory(tmp_path_factory: pytest.TempPathFactory):
    before = os.environ.get("DIQKD_STATE_DIR")
    os.environ["DIQKD_STATE_DIR"] = str(tmp_path_factory.mktemp("state"))
    yield
    if before is None:
        del os.environ["DIQKD_STATE_DIR"]
    else:
        os.environ["DIQKD_STATE_DIR"] = before
