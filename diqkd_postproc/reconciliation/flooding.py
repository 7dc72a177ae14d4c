"""Kernel of plain sum-product decoding on any graph: all checks at once, as in SI equations 14 to 16.

For codes without quasi-cyclic structure, which the layered kernels need. Checks are taken in blocks, so that
the polynomials of tanh and atanh run along many edges, with scattered reads and writes before and after.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from diqkd_postproc.reconciliation.belief_propagation import tanh_half, two_atanh

f4 = np.float32
BLOCK_ROWS = 256
_ONE = f4(1.0)
_FAST = {"contract", "nsz", "nnan", "ninf"}


@nb.njit("void(float32[::1])", cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _tanh_halves(values):  # type: ignore[no-untyped-def]
    """tanh(x / 2) in place."""
    for i in range(values.size):
        values[i] = tanh_half(values[i])


@nb.njit("void(float32[::1])", cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _two_atanhs(values):  # type: ignore[no-untyped-def]
    """2 atanh(t) in place."""
    for i in range(values.size):
        values[i] = two_atanh(values[i])


@nb.njit(
    "int64(float32[::1], float32[::1], float32[::1], float32[::1], int32[::1], int32[::1], float32[::1])",
    cache=True,
    nogil=True,
)
def flood(posterior, message, sign, prior, row_start, edge_column, following):  # type: ignore[no-untyped-def]
    """One iteration; returns how many checks the hard decision of `posterior` violated before it.

    posterior, prior, following: (n,) log(P(0)/P(1)) before, from the channel, and after; message: (edges,)
    check-to-variable, replaced; sign: (m,) -1 where the syndrome bit is 1.
    """
    num_rows = row_start.size - 1
    largest = 0
    for first in range(0, num_rows, BLOCK_ROWS):
        last = min(first + BLOCK_ROWS, num_rows)
        largest = max(largest, row_start[last] - row_start[first])
    values = np.empty(largest, dtype=np.float32)
    before = np.empty(largest, dtype=np.float32)
    for i in range(prior.size):
        following[i] = prior[i]
    unsatisfied = 0
    for first in range(0, num_rows, BLOCK_ROWS):
        last = min(first + BLOCK_ROWS, num_rows)
        start = row_start[first]
        size = row_start[last] - start
        for row in range(first, last):
            parity = sign[row]
            for edge in range(row_start[row], row_start[row + 1]):
                p = posterior[edge_column[edge]]
                if p < f4(0.0):
                    parity = -parity
                values[edge - start] = p - message[edge]
            if parity < f4(0.0):
                unsatisfied += 1
        _tanh_halves(values[:size])
        for row in range(first, last):
            begin, end = row_start[row] - start, row_start[row + 1] - start
            product = sign[row]
            for i in range(begin, end):
                before[i] = product
                product *= values[i]
            product = _ONE
            for i in range(end - 1, begin - 1, -1):
                old = values[i]
                values[i] = before[i] * product
                product *= old
        _two_atanhs(values[:size])
        for i in range(size):
            message[start + i] = values[i]
            following[edge_column[start + i]] += values[i]
    return unsatisfied
