"""Device database of Bob's simulated node on the compiled engine: the devices and drivers of `bob.py`.

Needs real ARTIQ and unicorn."""

from pathlib import Path

from sim_devices.databases.compiled import compiled_database

device_db = compiled_database(Path(__file__).with_name("bob.py"), "bob")
