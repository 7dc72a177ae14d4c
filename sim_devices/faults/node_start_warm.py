"""Imported by the fork server of `node_start` before it forks; see `warm` there."""

from sim_devices.faults.node_start import warm

warm()
