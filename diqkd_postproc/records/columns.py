"""Columns of the rounds: their names, dtypes and values, in the journal of a node and in its sealed record.

Each node keeps what it sent and what it received over the nodes' lines, and after a batch what the other
node sent and received: the four columns T, T', r and r' of docs/order.md, none of which has to be right for
the security, and the list of Alice's late losses. Both records hold all of them, and every tag covers them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.roles import HERALD_PATTERNS

UInt8 = npt.NDArray[np.uint8]
Columns = dict[str, npt.NDArray[Any]]

NONE = 2
"""Entry of a column of received bits: no edge came in time."""

OWN: dict[str, npt.DTypeLike] = {
    "setting": np.uint8,
    "outcome": np.uint8,
    "sent": np.uint8,
    "received": np.uint8,
    "end_token": np.uint8,
    "herald_pattern": np.uint8,
    "timestamp_mu": np.int64,
    "edge_mu": np.int64,
    "lost": np.uint8,
}
"""What a node knows of its own rounds.

setting: x or y as applied; sent: Alice's token r, Bob's type T; received: Alice's T', Bob's r', `NONE` where
no edge came; end_token: Bob's e, Alice's e' or `NONE`; timestamp_mu: herald, edge_mu: the received edge, both
of the node's own clock, -1 where there was none.
"""

PEER: dict[str, npt.DTypeLike] = {
    "peer_sent": np.uint8,
    "peer_received": np.uint8,
    "peer_end_token": np.uint8,
    "late_loss": np.uint8,
}
"""What follows from the other node's columns after a batch; late_loss: 1 where Alice has no outcome."""

# Which byte values a column may hold, as tables over 0..255.
IS_BIT = np.arange(256) < 2
IS_BIT_OR_NONE = np.arange(256) <= NONE
IS_PATTERN_OR_UNKNOWN = np.isin(np.arange(256), (0, *HERALD_PATTERNS))


def checked_column(name: str, values: npt.ArrayLike, allowed: npt.NDArray[np.bool_]) -> UInt8:
    """One-dimensional uint8 copy of `values`, all allowed; ParameterError that quotes none of them."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ParameterError(f"{name} has shape {array.shape}, one entry a round is needed")
    if array.dtype != np.uint8 and array.size and not 0 <= array.min() <= array.max() <= 255:
        raise ParameterError(f"{name} has an entry that is not allowed")
    column = array.astype(np.uint8)
    if not allowed[column].all():
        raise ParameterError(f"{name} has an entry that is not allowed")
    return column


def on_disk(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """The dtype with its bytes in the order of the files, little-endian."""
    return np.dtype(dtype).newbyteorder("<")
