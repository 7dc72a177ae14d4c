"""The hold's remote call, driven as a kernel drives it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sim_devices import artiq_stub
from sim_devices.runner import load_experiment

artiq_stub.install()

FILE = Path(__file__).parents[2] / "repository" / "hold.py"


@pytest.mark.parametrize(("waited_s", "loads"), [(59.0, 1), (61.0, 2)])
def test_an_ion_that_does_not_come_is_loaded_again(
    monkeypatch: pytest.MonkeyPatch, waited_s: float, loads: int
) -> None:
    hold: Any = load_experiment(FILE)
    clock = iter([100.0, 100.0 + waited_s, 100.0 + waited_s])
    namespace = hold.wait_for_recovery.__globals__
    monkeypatch.setitem(namespace, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    loaded: list[int] = []
    node = SimpleNamespace(loading_since=None, load_ion=lambda: loaded.append(1))
    for _ in range(2):
        hold.look_after_ion(node)
    assert len(loaded) == loads
