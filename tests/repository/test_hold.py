"""The hold's remote calls, driven as a kernel drives them."""

from types import SimpleNamespace
from typing import Any

import pytest

from diqkd_node.run import ion_reload
from diqkd_node.run.ion_reload import IonReload
from sim_devices.artiq_run import load_experiment
from tests.support.paths import ROOT

FILE = ROOT / "repository" / "hold.py"


@pytest.mark.parametrize(("waited_s", "loads"), [(59.0, 1), (61.0, 2)])
def test_an_ion_that_does_not_come_is_loaded_again(
    monkeypatch: pytest.MonkeyPatch, waited_s: float, loads: int
) -> None:
    hold: Any = load_experiment(FILE)
    now_s = [100.0]
    monkeypatch.setattr(ion_reload, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    loaded: list[int] = []
    node = SimpleNamespace(
        reload=IonReload(lambda: loaded.append(1)), publish=lambda *state: None, may_continue=lambda: True
    )
    assert hold.wait_for_recovery(node, True, False)
    now_s[0] += waited_s
    assert hold.wait_for_recovery(node, True, False)
    assert len(loaded) == loads
