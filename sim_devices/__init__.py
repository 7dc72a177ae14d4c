"""Simulated devices: two nodes and the laboratory between them.

`databases` turns a node's hardware device database into one of simulated drivers, with which every
experiment runs unchanged (`artiq_run`, `artiq_master`) as long as a laboratory serves both nodes
(`python -m sim_devices.laboratory`). Everything below also works by itself. The link as it is, in
expectation:

    >>> from sim_devices.physics.expected_statistics import chain_probabilities, chsh_and_qber
    >>> score, error_rate = chsh_and_qber(chain_probabilities())
    >>> print(f"S = {score:.3f}, Q = {100 * error_rate:.2f} %")
    S = 2.677, Q = 1.44 %

The same seed gives the same heralds: here the attempts up to each, and its pattern of detectors.

    >>> from sim_devices.laboratory import LaboratoryConfiguration
    >>> from sim_devices.laboratory.tape import Tape
    >>> for entry in Tape(LaboratoryConfiguration(seed=5)).entries(role=0, index=0, count=3):
    ...     print(entry["attempts"], format(entry["pattern"], "04b"))
    12416 0101
    4689 1100
    8133 1100

The hardware of one node without the other: 250 us of cooling light on a bright ion, and the counts of the
photomultiplier in the meantime. Times are machine units (1 ns), as a kernel programs them.

    >>> from sim_devices.apparatus.node_apparatus import NodeApparatus
    >>> node = NodeApparatus(role="alice", laboratory="127.0.0.1:1", seed=7)
    >>> for beam in (node.level_sink("ttl_422_cool"), node.level_sink("ttl_1092")):
    ...     beam(10_000, 1)
    ...     beam(260_000, 0)
    >>> node.edge_source("pmt_counter")(10_000, 260_000)
    63

Importing any module of this package makes `import artiq` work: with a real ARTIQ where there is one, else
with the stand-in of `artiq_stub`. It has to happen here, before any module of the package imports `artiq`.
"""

from sim_devices.artiq_stub import install

install()
