"""The hardware databases: complete, consistent between the nodes, no RTIO channel used twice."""

import runpy
from collections import Counter

import pytest

from tests.support.paths import ROOT

DIRECTORY = ROOT / "device_db"
KEYS = (
    "core core_cache core_dma ttl_422_cool ttl_1092 ttl_1033 ttl_674 pmt pmt_counter ttl_laser_lock "
    "ttl_ready ttl_trigger ttl_token ttl_token_strobe ttl_round_type ttl_round_type_strobe ttl_setting "
    "ttl_setting_strobe urukul0_cpld dds_674 urukul1_cpld dds_422 "
    "dds_1092 dds_1033 fastino entangler qrng"
)
DIRECTIONS = {
    "ttl_ready": ("TTLOut", "TTLInOut"),
    "ttl_trigger": ("TTLInOut", "TTLOut"),
    "ttl_token": ("TTLOut", "TTLInOut"),
    "ttl_token_strobe": ("TTLOut", "TTLInOut"),
    "ttl_round_type": ("TTLInOut", "TTLOut"),
    "ttl_round_type_strobe": ("TTLInOut", "TTLOut"),
    "ttl_setting": ("TTLOut", "TTLInOut"),
    "ttl_setting_strobe": ("TTLOut", "TTLInOut"),
}


def load(role: str) -> dict:
    return runpy.run_path(str(DIRECTORY / f"{role}.py"))["device_db"]


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_all_devices(role: str) -> None:
    assert set(KEYS.split()) <= set(load(role))


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_references_resolve(role: str) -> None:
    database = load(role)
    for entry in database.values():
        for name, value in entry.get("arguments", {}).items():
            if name.endswith("_device"):
                assert value in database


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_channels_are_unique(role: str) -> None:
    channels = Counter(
        entry["arguments"]["channel"]
        for entry in load(role).values()
        if "channel" in entry.get("arguments", {})
    )
    assert max(channels.values()) == 1


def test_directions_between_the_nodes() -> None:
    alice, bob = load("alice"), load("bob")
    for key, (at_alice, at_bob) in DIRECTIONS.items():
        assert (alice[key]["class"], bob[key]["class"]) == (at_alice, at_bob)
    assert bob["entangler"]["arguments"]["is_master"] is True
    assert alice["entangler"]["arguments"]["is_master"] is False
    assert alice["core"]["arguments"]["host"] != bob["core"]["arguments"]["host"]
