"""Host code of an acquisition by both nodes: files and sockets, never RTIO.

`peer_connection` carries messages between the nodes' PCs, `greeting` and `agreement` make both count the same
rounds, `coordinator` serves the kernel of one node, and `two_node_run` is the experiment around them, with
`recorded_run` for rounds that are sealed in a record and `two_node_scan` for scans of the link.
"""
