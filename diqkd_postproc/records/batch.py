"""Open batch: what was drawn for the next rounds, and how the columns of a record follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from diqkd_postproc.protocol.errors import ParameterError, StorageError
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.records.columns import (
    IS_BIT,
    IS_BIT_OR_NONE,
    IS_PATTERN_OR_UNKNOWN,
    NONE,
    Columns,
    UInt8,
    checked_column,
)


@dataclass(frozen=True, slots=True)
class Draws:
    """Private draws of some rounds, in order.

    settings: (n,) uint8, Alice's x, or Bob's y: 0 or 1 in test rounds, 2 in key rounds.
    tokens: (n,) uint8, Alice's r; Bob's end token e, 0 where the parameters have none.
    """

    settings: UInt8 = field(repr=False)
    tokens: UInt8 = field(repr=False)

    @classmethod
    def from_bits(cls, role: str, parameters: ProtocolParameters, bits: UInt8) -> Self:
        """Draws of PROTOCOL section 2 from (n k,) random bits, k a round.

        Alice: x, r. Bob: the first `test_bits` bits, most significant first, below `test_numerator` make a
        test round, whose y is the next bit; otherwise y = 2. His end token, if any, is the last bit.
        """
        rows = bits.reshape(-1, parameters.random_bits_per_round[role])
        if role == "alice":
            return cls(rows[:, 0].copy(), rows[:, 1].copy())
        num_test_bits = parameters.test_bits
        weights = 1 << np.arange(num_test_bits - 1, -1, -1, dtype=np.int64)
        is_test = rows[:, :num_test_bits] @ weights < parameters.test_numerator
        settings = np.where(is_test, rows[:, num_test_bits], 2).astype(np.uint8)
        tokens = rows[:, num_test_bits + 1].copy() if parameters.end_token else np.zeros_like(settings)
        return cls(settings, tokens)

    @property
    def num_rounds(self) -> int:
        """Rounds that these draws are for."""
        return int(self.settings.size)

    def part(self, start: int, stop: int | None = None) -> Draws:
        """Draws of the rounds from `start` to `stop`, counted from the first of these."""
        return Draws(self.settings[start:stop], self.tokens[start:stop])


@dataclass(frozen=True, slots=True)
class Batch:
    """Draws for the rounds from `first_round` on; `interrupted` if by a process that is gone."""

    role: str
    protocol: str
    first_round: int
    draws: Draws = field(repr=False)
    interrupted: bool = False

    @property
    def end(self) -> int:
        """Index after the batch's last round."""
        return self.first_round + self.draws.num_rounds

    def draws_from(self, next_round: int) -> Draws:
        """Draws of the rounds from `next_round` on."""
        return self.draws.part(next_round - self.first_round)

    def columns(
        self,
        next_round: int,
        *,
        outcome: npt.ArrayLike,
        received: npt.ArrayLike,
        received_setting: npt.ArrayLike,
        received_end: npt.ArrayLike,
        herald_pattern: npt.ArrayLike,
        timestamp_mu: npt.ArrayLike,
        edge_mu: npt.ArrayLike,
        lost: npt.ArrayLike,
    ) -> Columns:
        """This node's columns of the rounds from `next_round` on; see `columns.OWN`.

        received: Alice's T', Bob's r'. received_setting: Bob's x' (`late-type`), received_end: Alice's e',
        else `NONE`.
        Raises ParameterError or StorageError, quoting no entry, unless they fit the draws.
        """
        own: dict[str, npt.NDArray[Any]] = {
            "outcome": checked_column("outcome", outcome, IS_BIT),
            "received": checked_column("received", received, IS_BIT_OR_NONE),
            "herald_pattern": checked_column("herald_pattern", herald_pattern, IS_PATTERN_OR_UNKNOWN),
            "timestamp_mu": np.asarray(timestamp_mu).astype(np.int64),
            "edge_mu": np.asarray(edge_mu).astype(np.int64),
            "lost": checked_column("lost", lost, IS_BIT),
        }
        basis = checked_column("received_setting", received_setting, IS_BIT_OR_NONE)
        end = checked_column("received_end", received_end, IS_BIT_OR_NONE)
        shapes = {column.shape for column in (*own.values(), basis, end)}
        if len(shapes) != 1:
            raise ParameterError("the columns of a chunk of rounds differ in length")
        count = basis.size
        draws = self.draws_from(next_round)
        if count > draws.num_rounds:
            raise StorageError(f"{count} rounds were given, the batch has {draws.num_rounds} left")
        drawn = draws.part(0, count)
        if self.role == "alice":
            own["sent"], own["end_token"] = drawn.tokens, end
            # `ordered`: x is applied only where T' = 1 was received; `late-type`: before T' exists.
            applied = own["received"] == 1 if self.protocol == "ordered" else np.ones(count, dtype=bool)
            own["setting"] = drawn.settings * applied.astype(np.uint8)
        else:
            own["sent"], own["end_token"] = (drawn.settings != 2).astype(np.uint8), drawn.tokens
            other_basis = (self.protocol == "late-type") & (own["sent"] == 0) & (basis == 1)
            own["setting"] = drawn.settings + other_basis.astype(np.uint8)
        own["outcome"] = own["outcome"] * (own["lost"] == 0).astype(np.uint8)
        return own

    def lost_columns(self, next_round: int, count: int) -> Columns:
        """Columns of `count` rounds that are used up, with nothing known of them."""
        none, never = np.full(count, NONE, dtype=np.uint8), np.full(count, -1, dtype=np.int64)
        zeros = np.zeros(count, dtype=np.uint8)
        return self.columns(
            next_round,
            outcome=zeros,
            received=none,
            received_setting=none,
            received_end=none,
            herald_pattern=zeros,
            timestamp_mu=never,
            edge_mu=never,
            lost=np.ones(count, dtype=np.uint8),
        )
