"""What makes a run a characterisation of the link, and its live view.

The rounds are those of a key run with a test probability of about 1/2; inputs and outcomes of both nodes are
put together. Parameters of such a run allow no key, its records are marked, and records of a run that is to
make a key are refused here: comparing their outcomes would give it away.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from diqkd_postproc.link.statistics import (
    NUM_CHSH_TERMS,
    chsh_score_of_probabilities,
    outcome_counts,
    probabilities_of_counts,
)
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import KEYLESS, ProtocolParameters
from diqkd_postproc.records.sealed_record import RoundRecord

TEST_BITS = 8
MAX_WINDOW = 100_000
"""Rounds of a window in Fig. 3; a shorter run takes a tenth of its rounds."""

BLOCK_ROUNDS = 2_000
"""Rounds behind a point of the live view."""


def characterisation_parameters(num_rounds: int, test_probability: float) -> ProtocolParameters:
    """Parameters of a characterisation run; the test probability is rounded to k/256."""
    gamma = Fraction(round(test_probability * 2**TEST_BITS), 2**TEST_BITS)
    if not 0 < gamma < 1 or num_rounds < 2:
        raise ParameterError(
            f"num_rounds={num_rounds}, test_probability={test_probability}: give at least 2 rounds and a "
            "probability from 1/256 to 255/256"
        )
    test_bits = max(1, int(math.log2(gamma.denominator)))
    return ProtocolParameters(
        num_rounds=num_rounds,
        test_numerator=gamma.numerator * 2**test_bits // gamma.denominator,
        test_bits=test_bits,
        **KEYLESS,
    )


def default_window(num_rounds: int) -> int:
    """Rounds of a window of the moving averages."""
    return min(MAX_WINDOW, max(1, num_rounds // 10))


def check_shared(alice: RoundRecord, bob: RoundRecord) -> None:
    """Raise unless the two records are Alice's and Bob's of one run that is not to make a key."""
    if (alice.role, bob.role) != ("alice", "bob"):
        raise ParameterError(f"these are records of {alice.role} and {bob.role}; give Alice's, then Bob's")
    if (alice.run_id, alice.parameters.digest) != (bob.run_id, bob.parameters.digest):
        raise ParameterError("the two records belong to different runs; give both records of one run")
    if alice.parameters.key_bits > 0:
        raise ParameterError(
            f"this run is to make a key of {alice.parameters.key_bits:,} bits: its outcomes may not be "
            "compared; characterise the link in a run of its own, with parameters that have key_bits = 0"
        )


class BlockScores:
    """S and Q of block after block while a characterisation runs, for live views.

    rows: (k, 5) float64: when the block ended (unix s), S, its standard error, Q, its standard error.
    """

    def __init__(self, block_rounds: int = BLOCK_ROUNDS) -> None:
        self.rows: npt.NDArray[np.float64] = np.empty((0, 5))
        self._block_rounds = block_rounds
        self._counts = np.zeros((NUM_CHSH_TERMS + 1, 2, 2), dtype=np.int64)

    def add(
        self, unix: float, x: npt.ArrayLike, y: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike
    ) -> None:
        """Take the rounds that follow. A block ends with the first chunk that gives it enough rounds, some
        of every setting."""
        self._counts = self._counts + outcome_counts(x, y, a, b)
        by_setting = self._counts.sum(axis=(1, 2))
        if by_setting.sum() < self._block_rounds or not by_setting.all():
            return
        score = chsh_score_of_probabilities(probabilities_of_counts(self._counts))
        key = self._counts[NUM_CHSH_TERMS]
        error_rate = (key[0, 1] + key[1, 0]) / key.sum()
        error = math.sqrt(error_rate * (1 - error_rate) / key.sum())
        row = [unix, score.value, score.standard_error, error_rate, error]
        self.rows = np.vstack([self.rows, row])
        self._counts = np.zeros_like(self._counts)
