"""Every time, frequency, phase and voltage of a node, one model a step of the sequence.

Defaults are the values of the published run: times are those of the sequence in SI section S2 (Fig. S2b).
Frequencies and pi times are calibration results; they are configuration, so that a recalibration changes no
code. A configuration is public: the experiment writes the one in use next to the record.

>>> NodeConfiguration(role="alice").cooling.time
0.0003
"""

from diqkd_node.configuration.node_configuration import NodeConfiguration

__all__ = ["NodeConfiguration"]
