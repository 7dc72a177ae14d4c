"""Controllers of slow devices: programs `aqctl_NAME` that `artiq_ctlmgr` starts at a node."""
