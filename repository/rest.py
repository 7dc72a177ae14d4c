"""Node at rest: after a crash of its PC, or before work on the optics."""

from artiq.experiment import *

from diqkd_node.node_arguments import ask_for_node, configuration_of
from diqkd_node.sequence.node import Node


class NodeAtRest(EnvExperiment):
    """Node at rest

    Initialises all devices of the node, moves the ion out of the focus and cools it. Takes milliseconds."""

    def build(self):
        self.setattr_device("core")
        ask_for_node(self)

    def prepare(self):
        self.node = Node(self, configuration_of(self), None)
        self.node.prepare()

    @kernel
    def run(self):
        """Consumes all slack and resets the core device."""
        self.node.setup()
        self.node.come_to_rest()
