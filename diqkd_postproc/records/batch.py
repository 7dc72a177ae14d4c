"""An open batch: the settings drawn for the next rounds, and the rounds that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.protocol.errors import ParameterError, StorageError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import is_test_round
from diqkd_postproc.records.round_table import IS_BIT, checked_column

UInt8 = npt.NDArray[np.uint8]


def settings_from_bits(role: str, parameters: ProtocolParameters, bits: UInt8) -> UInt8:
    """Settings of PROTOCOL section 2 from (n k,) random bits, k a round: (n,) uint8.

    Alice: x is the bit. Bob: the first `test_bits` bits, most significant first, below `test_numerator`
    make a test round, whose y is the last bit; otherwise y = 2.
    """
    if role == "alice":
        return bits
    num_test_bits = parameters.test_bits
    rows = bits.reshape(-1, num_test_bits + 1)
    weights = 1 << np.arange(num_test_bits - 1, -1, -1, dtype=np.int64)
    is_test = rows[:, :num_test_bits] @ weights < parameters.test_numerator
    return np.where(is_test, rows[:, num_test_bits], 2).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class PendingBatch:
    """A batch that has begun and not ended: the next index, and the settings of the rounds not recorded yet.

    settings: (k,) uint8, x or y as drawn (x before the override in key rounds).
    """

    first_round: int
    settings: UInt8 = field(repr=False)

    @property
    def num_rounds(self) -> int:
        """Rounds that the batch can still hold."""
        return int(self.settings.size)


@dataclass(frozen=True, slots=True)
class Batch:
    """Settings as drawn for the rounds from `first_round` on; `interrupted` if by a process that is gone."""

    role: str
    first_round: int
    settings: UInt8 = field(repr=False)
    interrupted: bool = False

    @property
    def end(self) -> int:
        """Index after the batch's last round."""
        return self.first_round + int(self.settings.size)

    def settings_from(self, next_round: int) -> UInt8:
        """Settings of the rounds from `next_round` on, as drawn."""
        return self.settings[next_round - self.first_round :]

    def chunk(
        self,
        next_round: int,
        outcome: UInt8,
        round_type: npt.ArrayLike,
        herald_pattern: UInt8,
        timestamp_mu: npt.NDArray[np.int64],
        lost: int,
    ) -> dict[str, npt.NDArray[Any]]:
        """The record's columns of the rounds from `next_round` on; x is 0 in key rounds."""
        count, left = outcome.size, self.end - next_round
        if count > left:
            raise StorageError(f"{count} rounds were given, the batch has {left} left")
        types = checked_column("round_type", round_type, IS_BIT)
        if not outcome.shape == types.shape == herald_pattern.shape == timestamp_mu.shape == (count,):
            raise ParameterError("outcome, round_type, herald_pattern and timestamp_mu differ in length")
        setting = self.settings_from(next_round)[:count]
        if self.role == "alice":
            setting = setting & types
        elif not np.array_equal(types, is_test_round(setting)):
            raise StorageError(f"the round types from round {next_round} on do not follow from this node's y")
        return {
            "setting": setting,
            "outcome": outcome,
            "round_type": types,
            "herald_pattern": herald_pattern,
            "timestamp_mu": timestamp_mu,
            "lost": np.full(count, lost, dtype=np.uint8),
        }
