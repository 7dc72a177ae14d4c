"""Repeated Bell tests of an attacked run, without nodes: fast enough for rare outcomes.

A trial takes the laboratory's own tape of a run, draws the settings as the nodes do and the outcomes from
the exact probabilities, and counts losses with the post-processing's function. What is left out is what
takes long: kernels, counters, processes, error correction."""

import numpy as np
from numpy.typing import NDArray

from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import HERALD_PATTERNS
from diqkd_postproc.session.computation import count_losses
from sim_devices.adversaries.acceptance import treated_probabilities
from sim_devices.laboratory.configuration import LaboratoryConfiguration
from sim_devices.laboratory.joint_outcomes import BOB
from sim_devices.laboratory.tampering import Tampering
from sim_devices.laboratory.tape import Tape
from sim_devices.physics.link import LinkModel


class TrialRuns:
    """Runs of one attack; `losses(seed)` plays one."""

    def __init__(self, parameters: ProtocolParameters, link: LinkModel, tampering: Tampering) -> None:
        self._parameters, self._link, self._tampering = parameters, link, tampering
        table = treated_probabilities(link)
        self._cumulative = table.reshape(*table.shape[:5], 4).cumsum(axis=-1)
        self._position = np.zeros(16, dtype=np.int64)
        for position, pattern in enumerate(HERALD_PATTERNS):
            self._position[pattern] = position

    def losses(self, seed: int) -> int:
        """Lost test rounds of the run with this seed."""
        parameters, count = self._parameters, self._parameters.num_rounds
        tape = Tape(LaboratoryConfiguration(seed=seed, link=self._link, tampering=self._tampering))
        rng = np.random.default_rng([seed, 5])
        test = rng.integers(0, 1 << parameters.test_bits, count) < parameters.test_numerator
        x = (rng.integers(0, 2, count) * test).astype(np.uint8)
        y = np.where(test, rng.integers(0, 2, count), 2).astype(np.uint8)
        treatment, noted = tape.notebook(0, count)
        pattern = self._position[tape.entries(BOB, 0, count)["pattern"]]
        chances = self._cumulative[treatment, pattern, noted, x, y]
        outcome = (rng.random(count)[:, None] >= chances[:, :3]).sum(axis=1)
        alice, bob = (outcome >> 1).astype(np.uint8), (outcome & 1).astype(np.uint8)
        return count_losses(alice, bob, x, y)

    def accepted(self, seeds: NDArray[np.int64]) -> int:
        """How many of the runs pass step 8."""
        return sum(self.losses(int(seed)) <= self._parameters.max_losses for seed in seeds)
