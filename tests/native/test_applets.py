"""The applets with the Qt of a real ARTIQ: what they draw, and that they follow a master."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.artiq_programs import LOOPBACK, Master

pytestmark = pytest.mark.artiq

# Feeds a widget facts as an applet does, and prints what it shows; argv: module, class, file for a picture.
DRAW = """
import importlib, json, sys
import numpy as np
from qasync import QtWidgets
module = importlib.import_module(f"diqkd_node.applets.{sys.argv[1]}")
application = QtWidgets.QApplication([])
widget = getattr(module, sys.argv[2])(None, None)
for datasets in json.load(sys.stdin):
    for name in ("diqkd.herald_patterns", "diqkd.correlations"):
        if name in datasets:
            datasets[name] = np.array(datasets[name])
    widget.data_changed(datasets, {}, {}, [])
widget.show()
application.processEvents()
widget.grab().save(sys.argv[3])
print(json.dumps([label.text() for label in widget.findChildren(QtWidgets.QLabel)]))
"""
# Runs an applet against a master until it has drawn facts, then prints what it shows.
FOLLOW = """
import json, os
from diqkd_node.applets import run_status
class Follower(run_status.RunStatus):
    def draw(self):
        super().draw()
        if self.view.facts.get("rounds_done"):
            print(json.dumps(self.progress_text.text()), flush=True)
            os._exit(0)  # ARTIQ 8 and its qasync cannot close an applet without an error
run_status.RunStatus = Follower
run_status.main()
"""
PUBLISH = """
import time
import numpy as np
from artiq.experiment import *
from diqkd_node.run.public_facts import PublicFacts

class Publish(EnvExperiment):
    def build(self):
        pass

    def run(self):
        PublicFacts(self.set_dataset).publish(
            num_rounds=1000, rounds_done=250, herald_rate=100.0, herald_patterns=np.array([1, 2, 3, 4]),
            node_state="running", ion_state="present", ion_losses=0, laser_lock="locked",
            last_update_unix=time.time(),
        )
"""


def run_qt(code, *arguments, given=""):
    """Output of a Python program that uses Qt without a screen; skips where its libraries are missing."""
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments],
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


def run_facts(time_s, rounds, state="running", **changes):
    values = {
        "num_rounds": 1_500_000,
        "rounds_done": rounds,
        "herald_rate": 97.3,
        "herald_patterns": [rounds // 4, rounds // 4 + 40, rounds // 4 - 25, rounds // 4 - 15],
        "node_state": state,
        "ion_state": "present",
        "ion_losses": 2,
        "laser_lock": "locked",
        "last_update_unix": time_s,
    } | changes
    return {f"diqkd.{name}": value for name, value in values.items()}


def test_the_run_view_draws_what_it_is_given(tmp_path):
    picture = tmp_path / "run_status.png"
    updates = [run_facts(10.0 * step, 970 * step) for step in range(1, 90)]
    updates += [
        run_facts(900.0 + 10 * step, 86_330, "674 nm laser not locked", laser_lock="lost")
        for step in range(30)
    ]
    updates += [run_facts(1200.0 + 10 * step, 86_330 + 970 * step) for step in range(60)]
    shown = json.loads(run_qt(DRAW, "run_status", "RunStatus", str(picture), given=json.dumps(updates)))
    assert shown[0].startswith("143,560 of 1,500,000 rounds, 9.6%,")
    assert "locked" in shown[1] and "present, lost 2 times" in shown[1]
    assert shown[2] == "last pause: 674 nm laser not locked, 5 min"
    assert picture.stat().st_size > 5000


def test_the_score_view_draws_what_it_is_given(tmp_path):
    picture = tmp_path / "scores.png"
    rows = [[60.0 * block, 2.677 + 0.01 * (-1) ** block, 0.02, 0.0144, 0.0006] for block in range(40)]
    given = json.dumps([{"diqkd.correlations": rows}])
    shown = json.loads(run_qt(DRAW, "scores", "Scores", str(picture), given=given))
    assert shown[0] == "S = 2.667 ± 0.020    Q = 1.440 ± 0.060 %"
    assert picture.stat().st_size > 5000


def test_an_applet_follows_a_master(programs, tmp_path):
    master = Master(programs, "alice", "127.0.0.1:1")
    experiment = tmp_path / "publish.py"
    experiment.write_text(PUBLISH)
    rid = int(master.client("submit", experiment).split()[-1])
    master.wait_until_done(rid)
    ports = ["--port-notify", str(master.ports["notify"]), "--port-control", str(master.ports["control"])]
    shown = run_qt(FOLLOW, "--server", LOOPBACK, *ports)
    assert json.loads(shown.splitlines()[0]) == "250 of 1,000 rounds, 25.0%"
