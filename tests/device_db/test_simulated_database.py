"""The simulated databases keep the hardware's keys and arguments."""

import importlib
import inspect
import runpy

import pytest

from tests.support.paths import ROOT

DIRECTORY = ROOT / "device_db"
ROLES = ("alice", "bob")
CONTROLLERS = {"quantis", "laser_lock"}


def load(name: str) -> dict:
    return runpy.run_path(str(DIRECTORY / f"{name}.py"))["device_db"]


@pytest.mark.parametrize("role", ROLES)
def test_same_devices_with_their_arguments(role: str) -> None:
    hardware, simulated = load(role), load(f"{role}_sim")
    local = {key: entry for key, entry in hardware.items() if entry["type"] == "local"}
    assert set(simulated) == set(local) | CONTROLLERS | {"apparatus", "clock", "ion_loader"}
    for key, entry in local.items():
        if key == "qrng":
            continue
        assert simulated[key]["class"] == entry["class"]
        assert simulated[key]["arguments"] == {**entry.get("arguments", {}), "key": key}


@pytest.mark.parametrize("role", ROLES)
def test_every_simulated_driver_takes_its_arguments(role: str) -> None:
    for key, entry in load(f"{role}_sim").items():
        if key in CONTROLLERS:
            continue
        driver = getattr(importlib.import_module(entry["module"]), entry["class"])
        inspect.signature(driver).bind(None, **entry["arguments"])
        assert entry["module"].startswith(("sim_devices.", "diqkd_node.controllers.")), key


@pytest.mark.parametrize("role", ROLES)
def test_controllers_are_told_to_simulate(role: str) -> None:
    hardware, simulated = load(role), load(f"{role}_sim")
    for key in CONTROLLERS:
        command = hardware[key]["command"]
        assert command.startswith(f"aqctl_{key} -p {{port}} ")
        assert simulated[key] == hardware[key] | {"command": f"{command} --simulation"}


def test_laboratory_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIQKD_LABORATORY", "127.0.0.1:4711")
    for role in ROLES:
        arguments = load(f"{role}_sim")["apparatus"]["arguments"]
        assert arguments == {"role": role, "laboratory": "127.0.0.1:4711"}


def test_nature_and_seed_of_a_node_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIQKD_NATURE", "nature.json")
    monkeypatch.setenv("DIQKD_NODE_SEED", "7")
    arguments = load("bob_sim")["apparatus"]["arguments"]
    assert (arguments["nature"], arguments["seed"]) == ("nature.json", 7)
