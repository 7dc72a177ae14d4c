"""Faults put into simulated acquisitions on purpose, and the checks of what they leave behind.

`injection` and `apparatus` sit inside a node's process, `link_proxy` between the two, `trial` around a whole
acquisition with its restarts. `campaigns/acquisition_faults.py` runs campaigns of them.
"""
