"""The device databases have the channel numbers that ARTIQ gives the crate of `*_kasli.json`."""

import runpy
import subprocess

import pytest

from tests.support.artiq_programs import ROOT, program

pytestmark = pytest.mark.artiq

# Our name: the name in ARTIQ's template.
STANDARD = {
    "ttl_422_cool": "ttl0",
    "ttl_1092": "ttl1",
    "ttl_1033": "ttl2",
    "ttl_674": "ttl3",
    "pmt": "ttl8",
    "pmt_counter": "ttl8_counter",
    "ttl_laser_lock": "ttl9",
    "spi_urukul0": "spi_urukul0",
    "ttl_urukul0_sync": "ttl_urukul0_sync",
    "ttl_urukul0_io_update": "ttl_urukul0_io_update",
    "urukul0_cpld": "urukul0_cpld",
    "dds_674": "urukul0_ch0",
    "spi_urukul1": "spi_urukul1",
    "ttl_urukul1_io_update": "ttl_urukul1_io_update",
    "urukul1_cpld": "urukul1_cpld",
    "dds_422": "urukul1_ch0",
    "dds_1092": "urukul1_ch1",
    "dds_1033": "urukul1_ch2",
    "fastino": "fastino0",
}
BETWEEN_THE_NODES = {
    "alice": {
        "ttl_ready": "ttl4",
        "ttl_token": "ttl5",
        "ttl_token_strobe": "ttl6",
        "ttl_setting": "ttl16",
        "ttl_setting_strobe": "ttl17",
        "ttl_trigger": "ttl12",
        "ttl_round_type": "ttl13",
        "ttl_round_type_strobe": "ttl14",
    },
    "bob": {
        "ttl_trigger": "ttl4",
        "ttl_round_type": "ttl5",
        "ttl_round_type_strobe": "ttl6",
        "ttl_ready": "ttl12",
        "ttl_token": "ttl13",
        "ttl_token_strobe": "ttl14",
        "ttl_setting": "ttl10",
        "ttl_setting_strobe": "ttl11",
    },
}
ENTANGLER = {"ttl_422_sigma", "ttl_422_ps", "apd0", "apd1", "apd2", "apd3", "entangler"}
COMPARED = (
    "channel",
    "acc_width",
    "refclk",
    "clk_sel",
    "pll_n",
    "chip_select",
    "log2_width",
    "spi_device",
)


@pytest.mark.parametrize("role", ["alice", "bob"])
def test_channels_are_those_of_the_gateware(role, tmp_path):
    output = tmp_path / "template.py"
    command = [program("artiq_ddb_template"), "-o", str(output)]
    command.append(str(ROOT / "device_db" / f"{role}_kasli.json"))
    subprocess.run(command, check=True, timeout=300)
    template = runpy.run_path(str(output))["device_db"]
    database = runpy.run_path(str(ROOT / "device_db" / f"{role}.py"))["device_db"]
    names = STANDARD | BETWEEN_THE_NODES[role]
    for key, template_key in names.items():
        ours, theirs = database[key], template[template_key]
        assert (ours["module"], ours["class"]) == (theirs["module"], theirs["class"]), key
        for name in COMPARED:
            if name in ours["arguments"]:
                assert ours["arguments"][name] == theirs["arguments"][name], f"{key}: {name}"
    assert database["core"]["arguments"]["host"] == template["core"]["arguments"]["host"]
    # Everything else with a channel belongs to the entangler core, whose channels follow.
    rest = {key for key, entry in database.items() if "channel" in entry.get("arguments", {})} - set(names)
    assert rest == ENTANGLER
    last = max(
        entry["arguments"]["channel"]
        for entry in template.values()
        if isinstance(entry, dict) and "channel" in entry.get("arguments", {})
    )
    assert all(database[key]["arguments"]["channel"] > last for key in ENTANGLER)
