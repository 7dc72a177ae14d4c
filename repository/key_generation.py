"""Key generation: heralded rounds with private settings, into this node's private record."""

from artiq.experiment import *

from diqkd_node.run.environment import path_argument
from diqkd_node.run.link_key import ask_for_key_store, link_key_of
from diqkd_node.run.recorded_run import RecordedRun
from diqkd_postproc.protocol.parameters import ProtocolParameters


class KeyGeneration(RecordedRun, EnvExperiment):
    """DIQKD key generation

    Runs until both nodes have all rounds of the parameter file. Started again with the same run directory
    it goes on where it stopped. Outcomes and settings stay in the run directory."""

    def build_round_arguments(self):
        self.setattr_argument(
            "parameters_file",
            StringValue("~/diqkd/parameters.toml"),
            "Run",
            "Protocol parameters, TOML; must be the same file at both nodes.",
        )
        ask_for_key_store(self)

    def prepare(self):
        super().prepare()
        self.parameters = ProtocolParameters.load(path_argument(self, "parameters_file"))
        self.num_rounds = self.parameters.num_rounds
        self.link_key = link_key_of(self, self.parameters, self.directory)
