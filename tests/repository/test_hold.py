"""The hold's remote calls, driven as a kernel drives them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sim_devices import artiq_stub
from sim_devices.runner import load_experiment

artiq_stub.install()

from diqkd_node import ion_reload  # noqa: E402
from diqkd_node.ion_reload import IonReload  # noqa: E402

FILE = Path(__file__).parents[2] / "repository" / "hold.py"


@pytest.mark.parametrize(("waited_s", "loads"), [(59.0, 1), (61.0, 2)])
def test_an_ion_that_does_not_come_is_loaded_again(
    monkeypatch: pytest.MonkeyPatch, waited_s: float, loads: int
) -> None:
    hold: Any = load_experiment(FILE)
    now_s = [100.0]
    monkeypatch.setattr(ion_reload, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    loaded: list[int] = []
    node = SimpleNamespace(
        reload=IonReload(lambda: loaded.append(1)), tell=lambda *seen: None, goes_on=lambda: True
    )
    assert hold.wait_for_recovery(node, True, False)
    now_s[0] += waited_s
    assert hold.wait_for_recovery(node, True, False)
    assert len(loaded) == loads
