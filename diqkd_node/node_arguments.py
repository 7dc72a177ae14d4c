"""Arguments that every experiment of one node has: its role, and the file of its calibrated values."""

from pathlib import Path

from artiq.experiment import EnumerationValue, HasEnvironment, StringValue

from diqkd_node.configuration import NodeConfiguration
from diqkd_postproc.protocol.roles import ROLES


def ask_for_node(experiment: HasEnvironment) -> None:
    """The arguments `role` and `configuration_file`, for `build`."""
    experiment.setattr_argument(
        "role",
        EnumerationValue(list(ROLES), default="alice"),
        "Node",
        "Which party this node is.",
    )
    experiment.setattr_argument(
        "configuration_file",
        StringValue(""),
        "Node",
        "Calibrated values of this node, JSON, with its full path. Empty: published values.",
    )


def configuration_of(experiment: HasEnvironment) -> NodeConfiguration:
    """What the arguments name, as the file is now. Raises ParameterError."""
    file = experiment.configuration_file
    return NodeConfiguration.load(Path(file).expanduser() if file else "", experiment.role)
