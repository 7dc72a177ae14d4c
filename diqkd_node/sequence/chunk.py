"""Rounds on their way from the kernel to the host: a few dozen at a time, one remote call for all of them."""

from artiq.experiment import *
from numpy import int64

from diqkd_node.sequence.conditions import MEASURED
from diqkd_node.sequence.rounds import LOST


class Chunk(HasEnvironment):
    """Columns of the rounds that the host does not have yet; the arguments of the coordinator's `store`."""

    kernel_invariants = {"num_rounds"}

    def build(self, configuration, round):
        self.setattr_device("core")
        self.round = round
        self.num_rounds = configuration.batches.chunk_rounds
        self.count = 0
        self.outcomes = [0 for _ in range(self.num_rounds)]
        self.received = [0 for _ in range(self.num_rounds)]
        self.received_settings = [0 for _ in range(self.num_rounds)]
        self.received_ends = [0 for _ in range(self.num_rounds)]
        self.pattern_indices = [0 for _ in range(self.num_rounds)]
        self.heralds = [int64(0) for _ in range(self.num_rounds)]
        self.edges = [int64(0) for _ in range(self.num_rounds)]
        self.losses = [0 for _ in range(self.num_rounds)]

    @kernel
    def clear(self):
        """Forget all rounds."""
        self.count = 0

    @kernel
    def is_full(self) -> TBool:
        """Whether there is no room for another round."""
        return self.count == self.num_rounds

    @kernel
    def append(self, t_herald: TInt64, pattern_index: TInt32, loss: TInt32):
        """Take over what the last round has left; `loss` says why it has no outcome."""
        i = self.count
        self.outcomes[i] = self.round.outcome
        self.received[i] = self.round.received
        self.received_settings[i] = self.round.received_setting
        self.received_ends[i] = self.round.received_end
        self.pattern_indices[i] = pattern_index
        self.heralds[i] = t_herald
        self.edges[i] = self.round.t_edge
        if self.round.outcome == LOST:
            self.losses[i] = loss
        else:
            self.losses[i] = MEASURED
        self.count = i + 1
