"""Device database of Bob's simulated node: the devices of `bob.py` with simulated drivers."""

from pathlib import Path

from sim_devices.databases.simulated import simulated_database

device_db = simulated_database(Path(__file__).with_name("bob.py"), "bob")
