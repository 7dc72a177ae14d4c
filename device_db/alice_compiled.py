"""Device database of Alice's simulated node on the compiled engine: the devices and drivers of `alice.py`.

Needs real ARTIQ and unicorn."""

from pathlib import Path

from sim_devices.databases.compiled import compiled_database

device_db = compiled_database(Path(__file__).with_name("alice.py"), "alice")
