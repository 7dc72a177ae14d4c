"""Repair of the few errors that sum-product decoding leaves, by linear algebra on few positions.

Where columns of degree two form paths, most of whose positions are in error, sum-product decoding can stop
in a trapping set: one or two checks stay violated, and the positions that would repair them are
among the few that it is unsure of. So the violated checks are solved for exactly those, as in
ordered-statistics decoding (Fossorier, Lin, IEEE TIT 41, 1379 (1995)) but on the positions that are least
reliable, not on a whole basis: by Gaussian elimination over GF(2), taken in order of reliability, so that
the solution uses the least reliable positions that can carry it. Any solution is a word with the received
syndrome; whether it is the right one is what the universal hash decides, as for every decoded word.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diqkd_postproc.reconciliation.syndrome_code import SyndromeCode

MAX_VIOLATED_CHECKS = 64
"""Checks beyond which a word is not nearly right: frames with too many errors end with thousands."""
MAX_POSITIONS = 1024
"""Least reliable positions that are tried. In frames that failed at n = 1.5e6, f = 1.047, all wrong positions
were among the first 53."""


def solve(
    code: SyndromeCode, posterior: NDArray[np.float32], violated: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Positions to flip so that the `violated` checks are satisfied and no other changes; None without any.

    posterior: (positions,) log(P(0)/P(1)) at the end of decoding; violated: indices of the checks.
    """
    if not 0 < violated.size <= MAX_VIOLATED_CHECKS:
        return None
    count = min(MAX_POSITIONS, code.num_rounds)
    reliability = np.abs(posterior[: code.num_rounds])
    candidates = np.argpartition(reliability, count - 1)[:count]
    candidates = candidates[np.argsort(reliability[candidates], kind="stable")]
    return _combination(_checks_of(code, candidates), violated, candidates)


def _checks_of(code: SyndromeCode, positions: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The checks that each position takes part in."""
    columns, offsets = np.divmod(positions, code.lifting)
    edges = np.argsort(code.edge_column, kind="stable")
    bounds = np.searchsorted(code.edge_column[edges], np.arange(code.num_columns + 1))
    edge_row = np.repeat(np.arange(code.row_start.size - 1), np.diff(code.row_start))
    checks = []
    for column, offset in zip(columns, offsets, strict=True):
        own = edges[bounds[column] : bounds[column + 1]]
        incident = edge_row[own] * code.lifting + (offset - code.edge_shift[own]) % code.lifting
        checks.append(incident[incident < code.syndrome_bits])  # the last row may be partial
    return checks


def _combination(
    checks: list[NDArray[np.int64]], violated: NDArray[np.int64], positions: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """The earliest independent positions whose checks add up to `violated`; rows are integers' bits."""
    numbers: dict[int, int] = {}
    pivots: dict[int, tuple[int, int]] = {}

    def vector(indices: NDArray[np.int64]) -> int:
        bits = 0
        for index in indices.tolist():
            bits ^= 1 << numbers.setdefault(index, len(numbers))
        return bits

    def reduce(bits: int, members: int) -> tuple[int, int]:
        while bits and (pivot := pivots.get(bits.bit_length())) is not None:
            bits ^= pivot[0]
            members ^= pivot[1]
        return bits, members

    target, solution = vector(violated), 0
    for number, incident in enumerate(checks):
        bits, members = reduce(vector(incident), 1 << number)
        if bits:
            pivots[bits.bit_length()] = bits, members
            target, solution = reduce(target, solution)
            if not target:
                chosen = [i for i in range(number + 1) if solution >> i & 1]
                return positions[chosen]
    return None
