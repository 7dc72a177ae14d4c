"""What `artiq_dashboard` makes of our experiments, with its own widgets."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.artiq_programs import Master

pytestmark = pytest.mark.artiq

# Builds the entry of every argument as the dashboard does; prints, by name, what is shown and its value.
SHOW_ARGUMENTS = """
import json, sys
from artiq.gui import entries
procdesc_to_entry = entries.procdesc_to_entry
application = entries.QtWidgets.QApplication([])
shown = {}
for name, (description, group, tooltip) in json.load(sys.stdin).items():
    entry_class = procdesc_to_entry(description)
    state = entry_class.default_state(description)
    entry = entry_class({"desc": description, "group": group, "tooltip": tooltip, "state": state})
    value = entry_class.state_to_value(state)
    shown[name] = [entry.text() if hasattr(entry, "text") else value, value]
print(json.dumps(shown))
"""


def in_qt(code: str, given: str = "") -> str:
    """Output of a Python program that uses Qt without a screen."""
    finished = subprocess.run(
        [sys.executable, "-c", code],
        input=given,
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if "No module named" in finished.stderr or "libEGL" in finished.stderr:
        pytest.skip(f"the dashboard's libraries are missing: {finished.stderr.splitlines()[-1]}")
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture
def experiments(programs):
    """All experiments of the repository, as the master describes them to a dashboard: name -> arguments."""
    master = Master(programs, "alice", "127.0.0.1:1")
    return {name: entry["arginfo"] for name, entry in master.experiments().items()}


def test_the_dashboard_can_open_every_experiment(experiments):
    assert "DIQKD key generation" in experiments
    for name, arguments in experiments.items():
        shown = json.loads(in_qt(SHOW_ARGUMENTS, json.dumps(arguments)))
        assert shown.keys() == arguments.keys(), name
        for key, (_description, group, tooltip) in arguments.items():
            assert group and tooltip and tooltip[0].isupper() and tooltip.endswith("."), f"{name}: {key}"
    shown = json.loads(in_qt(SHOW_ARGUMENTS, json.dumps(experiments["DIQKD key generation"])))
    assert shown["stall_timeout"] == ["120 s", 120.0]
    assert shown["pool_surplus"] == ["10 %", 0.1]
    assert shown["batch_rounds"] == ["2000", 2000]
    assert shown["role"][0] == "alice"
