"""Adversaries of the protocol, acting on the simulated laboratory and the channel between the PCs.

`tampering` is what an adversary does to devices, station and electrodes; `acceptance` says how likely that
passes the Bell test, exactly; `trials` plays the test many times over, without nodes; `attacks` are the
named attacks of `diqkd demo --attack`."""
