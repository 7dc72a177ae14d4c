"""Conversion of a hardware device database into that of the simulated node: same keys, simulated classes.

Every driver keeps its arguments and gets `key`, by which it finds its place in the apparatus; our own
controllers are told to simulate. Three devices come on top: `apparatus`, the simulated hardware,
`ion_loader`, and `clock`, the laboratory's time of day. The environment says where the laboratory is
(DIQKD_LABORATORY, host:port), what differs in this node's nature (DIQKD_NATURE, a JSON file) and, for
reproducible runs only, what the random number generator (DIQKD_QRNG_SEED) and the node's own ion
(DIQKD_NODE_SEED) repeat.
"""

import os
import runpy
from pathlib import Path
from typing import Any

from sim_devices.apparatus.client import ADDRESS_VARIABLE

QRNG_SEED_VARIABLE = "DIQKD_QRNG_SEED"
NATURE_VARIABLE = "DIQKD_NATURE"
NODE_SEED_VARIABLE = "DIQKD_NODE_SEED"
DEFAULT_LABORATORY = "127.0.0.1:3270"

# Module of the real driver -> module of the simulated one; the class keeps its name.
MODULES = {
    "artiq.coredevice.core": "sim_devices.engines.host.core",
    "artiq.coredevice.cache": "sim_devices.drivers.cache",
    "artiq.coredevice.dma": "sim_devices.drivers.dma",
    "artiq.coredevice.ttl": "sim_devices.drivers.ttl",
    "artiq.coredevice.edge_counter": "sim_devices.drivers.edge_counter",
    "artiq.coredevice.spi2": "sim_devices.drivers.spi2",
    "artiq.coredevice.urukul": "sim_devices.drivers.urukul",
    "artiq.coredevice.ad9910": "sim_devices.drivers.ad9910",
    "artiq.coredevice.ad9912": "sim_devices.drivers.ad9912",
    "artiq.coredevice.fastino": "sim_devices.drivers.fastino",
    "artiq.coredevice.zotino": "sim_devices.drivers.zotino",
    "entangler.driver": "sim_devices.drivers.entangler",
}

# Our own controllers; those of the core device have nothing to talk to.
CONTROLLERS = ("quantis", "laser_lock")


def _local(module: str, class_name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "local", "module": module, "class": class_name, "arguments": arguments}


def simulated_database(hardware_path: str | Path, role: str) -> dict[str, Any]:
    """Device database of the simulated node that stands for the one described in `hardware_path`."""
    hardware: dict[str, Any] = runpy.run_path(str(hardware_path))["device_db"]
    database: dict[str, Any] = {}
    for key, entry in hardware.items():
        if key in CONTROLLERS:
            database[key] = entry | {"command": f"{entry['command']} --simulation"}
            continue
        if not isinstance(entry, dict) or entry.get("type") != "local":
            if isinstance(entry, str):
                database[key] = entry
            continue
        if key == "qrng":
            seed = os.environ.get(QRNG_SEED_VARIABLE)
            database[key] = _local(
                "diqkd_node.controllers.simulated_quantis", "SimulatedQuantis", seed=seed, stream=role
            )
            continue
        module = MODULES.get(entry["module"])
        if module is None:
            raise ValueError(f"device {key!r}: no simulated driver for {entry['module']}.{entry['class']}")
        database[key] = _local(module, entry["class"], **entry.get("arguments", {}), key=key)
    address = os.environ.get(ADDRESS_VARIABLE, DEFAULT_LABORATORY)
    alone: dict[str, Any] = {}  # what concerns the node alone
    if os.environ.get(NATURE_VARIABLE):
        alone["nature"] = os.environ[NATURE_VARIABLE]
    if os.environ.get(NODE_SEED_VARIABLE):
        alone["seed"] = int(os.environ[NODE_SEED_VARIABLE])
    database["apparatus"] = _local(
        "sim_devices.apparatus.node_apparatus", "NodeApparatus", role=role, laboratory=address, **alone
    )
    database["ion_loader"] = _local("sim_devices.apparatus.ion_loader", "IonLoader", apparatus="apparatus")
    database["clock"] = _local(
        "sim_devices.apparatus.clock", "LaboratoryClock", apparatus="apparatus", laboratory=address
    )
    return database
