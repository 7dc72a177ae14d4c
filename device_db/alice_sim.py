"""Device database of Alice's simulated node: the devices of `alice.py` with simulated drivers."""

from pathlib import Path

from sim_devices.databases.simulated import simulated_database

device_db = simulated_database(Path(__file__).with_name("alice.py"), "alice")
