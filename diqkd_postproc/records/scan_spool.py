"""The journal of a scan of the link: tomography, herald-pattern phases. Nothing in it is private.

A scan plays rounds as a key run does, but its settings follow a public schedule that both nodes compute from
the run id, and its outcomes are shared. It lives in a `RoundSpool`, for its crash safety, its gaps and its
agreement with the other node; x and y of that spool are zeros without a meaning, every round is a test round,
and the settings that are played come from the schedule. Such a spool can neither be sealed nor make a key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import KEYLESS, ProtocolParameters
from diqkd_postproc.records.batch import Draws
from diqkd_postproc.records.round_spool import RoundSpool
from diqkd_postproc.records.sealed_record import RoundRecord

MAX_CYCLE = 4096


class ScanParameters(ProtocolParameters):
    """What both nodes have to agree on; compared by digest like the parameters of a key run."""

    scan: str = Field(min_length=1, max_length=40, description="name of the experiment")
    cycle: str = Field(description="setting pairs of one cycle, Alice's and Bob's index: `0:0 0:1 ...`")

    @field_validator("cycle")
    @classmethod
    def _check_cycle(cls, value: str) -> str:
        if not re.fullmatch(r"\d{1,3}:\d{1,3}( \d{1,3}:\d{1,3})*", value) or value.count(":") > MAX_CYCLE:
            raise ValueError("cycle is not a list of setting pairs such as `0:0 0:1`")
        return value

    @classmethod
    def make(cls, scan: str, pairs: Sequence[tuple[int, int]], num_rounds: int) -> Self:
        """Parameters of a scan that plays `pairs` in turn. Raises ParameterError for too few rounds."""
        if num_rounds < max(2, len(pairs)):
            raise ParameterError(
                f"num_rounds={num_rounds} is less than one cycle of {len(pairs)} setting pairs"
            )
        return cls(
            scan=scan,
            cycle=" ".join(f"{first}:{second}" for first, second in pairs),
            num_rounds=num_rounds,
            test_numerator=1,  # without a meaning: zeros from the pool are test rounds with x = y = 0
            test_bits=1,
            **KEYLESS,
        )

    @property
    def pairs(self) -> npt.NDArray[np.int64]:
        """(k, 2) int64: setting pairs of one cycle."""
        return np.array([[int(index) for index in pair.split(":")] for pair in self.cycle.split()])


def scheduled_settings(
    parameters: ScanParameters, run_id: str, first_round: int, num_rounds: int
) -> npt.NDArray[np.int64]:
    """(num_rounds, 2) int64: Alice's and Bob's setting of the rounds from `first_round` on.

    Every cycle comes in a random order of its own, the order of SHA-256 over run id, cycle and position, so
    that drifts do not look like settings, and that any two versions of the software agree.
    """
    pairs = parameters.pairs
    length = len(pairs)
    cycles = range(first_round // length, -(-(first_round + num_rounds) // length))
    orders = [_order(run_id, cycle, length) for cycle in cycles]
    played = pairs[np.concatenate(orders)] if orders else np.empty((0, 2), dtype=np.int64)
    offset = first_round - length * (first_round // length)
    return np.asarray(played[offset : offset + num_rounds], dtype=np.int64)


@lru_cache(maxsize=4096)
def _order(run_id: str, cycle: int, length: int) -> npt.NDArray[np.int64]:
    digests = [hashlib.sha256(f"{run_id} {cycle} {position}".encode()).digest() for position in range(length)]
    return np.array(sorted(range(length), key=digests.__getitem__), dtype=np.int64)


class ScanSpool(RoundSpool):
    """A `RoundSpool` that plays a schedule."""

    parameters_class = ScanParameters
    parameters: ScanParameters

    def begin_batch(self, num_rounds: int) -> Draws:
        """Scheduled settings of the next `num_rounds` rounds; the tokens are zeros."""
        self.fill_pool(bytes, -(-num_rounds * self.parameters.random_bits_per_round[self.role] // 8))
        drawn = super().begin_batch(num_rounds)
        return Draws(self._scheduled(self.rounds_done, num_rounds).astype(np.uint8), drawn.tokens)

    def shared_rounds(self, first_round: int) -> dict[str, npt.NDArray[Any]]:
        """All columns of the rounds from `first_round` on, the setting as scheduled."""
        columns = super().shared_rounds(first_round)
        columns["setting"] = self._scheduled(first_round, len(columns["outcome"])).astype(np.uint8)
        return columns

    def seal(self, record_path: Path | str) -> RoundRecord:
        """Refused: there is no record of a scan from which a key could be made."""
        raise ParameterError("a scan of the link is not sealed")

    def _scheduled(self, first_round: int, num_rounds: int) -> npt.NDArray[np.int64]:
        assert self.run_id is not None
        column = 0 if self.role == "alice" else 1
        return scheduled_settings(self.parameters, self.run_id, first_round, num_rounds)[:, column]
