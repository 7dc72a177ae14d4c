"""Imported by the fork server of `node_start` before it forks; see `warm` there."""

from campaigns.faults.node_start import warm

warm()
