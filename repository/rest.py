"""Bring a node to rest: after a crash of its PC, or before work on the optics."""

from pathlib import Path

from artiq.experiment import *

from diqkd_node.configuration import NodeConfiguration
from diqkd_node.node import Node


class NodeAtRest(EnvExperiment):
    """Node at rest

    Initialises all devices of the node, moves the ion out of the focus and cools it. Takes milliseconds."""

    def build(self):
        self.setattr_device("core")
        self.setattr_argument(
            "role",
            EnumerationValue(["alice", "bob"], default="alice"),
            "Node",
            "Which party this node is.",
        )
        self.setattr_argument(
            "configuration_file",
            StringValue(""),
            "Node",
            "Calibrated values of this node, JSON, with its full path. Empty: published values.",
        )

    def prepare(self):
        path = Path(self.configuration_file).expanduser() if self.configuration_file else ""
        self.node = Node(self, NodeConfiguration.load(path, self.role), None)
        self.node.prepare()

    @kernel
    def run(self):
        """Consumes all slack and resets the core device."""
        self.node.setup()
