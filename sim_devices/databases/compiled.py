"""Conversion of a hardware device database into that of a node on the compiled engine.

The drivers stay ARTIQ's own. Only the class of the core is another, the random number generator is simulated,
and `apparatus`, `ion_loader` and `clock` come on top, as in `sim_devices.databases.simulated`.
"""

import runpy
from pathlib import Path
from typing import Any

from sim_devices.databases.simulated import simulated_database

SIMULATED_KEYS = ("apparatus", "clock", "ion_loader", "qrng")


def compiled_database(hardware_path: str | Path, role: str) -> dict[str, Any]:
    """Device database of the node that executes the compiled kernels of the one in `hardware_path`."""
    hardware: dict[str, Any] = runpy.run_path(str(hardware_path))["device_db"]
    simulated = simulated_database(hardware_path, role)
    database = {
        key: entry
        for key, entry in hardware.items()
        if isinstance(entry, str) or entry.get("type") == "local"
    }
    database |= {key: simulated[key] for key in SIMULATED_KEYS if key in simulated}
    database["core"] = database["core"] | {"module": "sim_devices.engines.kasli.core"}
    return database
