"""What the controllers' programs do where sipyco is missing."""

import subprocess
import sys

import pytest

RUN_WITHOUT_SIPYCO = """
import sys
sys.modules["sipyco"] = None
from diqkd_node.controllers.{name} import main
sys.exit(main(["--simulation"]))
"""


@pytest.mark.parametrize("name", ["quantis", "laser_lock"])
def test_missing_sipyco_is_named(name):
    finished = subprocess.run(
        [sys.executable, "-c", RUN_WITHOUT_SIPYCO.format(name=name)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 2
    assert finished.stderr.startswith("sipyco is not installed; it comes with ARTIQ")
    assert "Traceback" not in finished.stderr
