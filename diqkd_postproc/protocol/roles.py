"""The two parties, their measurement settings, the heralds, and what a CHSH score means for a test round.

Sealed record, round spool, configuration of a node, tables of pulses and simulation have to agree on these; a
second definition could differ. Kernels take plain integers, which the steps of `diqkd_node.sequence` fill
from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Value = TypeVar("Value", float, NDArray[np.float64])

Role = Literal["alice", "bob"]
"""A party, by the string that stands for it in JSON, TOML and HDF5 files."""

ROLES: tuple[Role, Role] = get_args(Role)

BOB_KEY_SETTING = 2
SETTINGS: Mapping[str, tuple[int, ...]] = {"alice": (0, 1), "bob": (0, 1, BOB_KEY_SETTING, 3)}
"""Measurement settings of each party: Alice's x, Bob's y. His key setting is 2 + x, x = 0 in `ordered`."""

KEY_SETTING: Mapping[str, int] = {"alice": 0, "bob": BOB_KEY_SETTING}
"""Setting of each party in key rounds of `ordered`: x = 0, y = 2."""

BRIGHT_OUTCOME: Mapping[str, int] = {"alice": 0, "bob": 1}
"""Outcome bit of a bright ion; Alice inverts hers, so that outcomes of key rounds agree (PROTOCOL 3.8)."""

HERALD_PATTERNS = (0b0011, 0b0101, 0b1010, 0b1100)
"""Coincidences of two detectors that herald a Bell state, bit i for detector i (SI Table S2)."""


def other(role: str) -> Role:
    """The peer of a party."""
    return "bob" if role == "alice" else "alice"


def is_test_round(bob_settings: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Which rounds are test rounds, by Bob's settings y, (n,) integers; (n,) bool."""
    tests: NDArray[np.bool_] = bob_settings < BOB_KEY_SETTING
    return tests


def lost_test_probability(chsh_score: Value) -> Value:
    """Probability (4 - S)/8 that a test round is lost at CHSH score S."""
    return (4.0 - chsh_score) / 8.0


def chsh_score_of_losing(probability: Value) -> Value:
    """CHSH score S = 4 - 8 p of a probability p to lose a test round; inverse of `lost_test_probability`."""
    return 4.0 - 8.0 * probability


def winning_probability(chsh_score: Value) -> Value:
    """Probability (4 + S)/8 that a test round is won at CHSH score S."""
    return (4.0 + chsh_score) / 8.0


def chsh_score_of_winning(probability: Value) -> Value:
    """CHSH score S = 8 omega - 4 of a winning probability omega; inverse of `winning_probability`."""
    return 8.0 * probability - 4.0
