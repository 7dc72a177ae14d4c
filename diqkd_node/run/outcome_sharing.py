"""Sharing of outcomes between the nodes, batch by batch: for characterisations and scans, never for keys.

A `SharingCoordinator` is a `Coordinator` that sends all columns of each finished batch to the other node and
takes its columns in exchange. It refuses a spool whose parameters allow a key, and so does the spool when it
is asked for outcomes; an ordinary coordinator that receives such a message ends the run with an error.
"""

import numpy as np

from diqkd_node.run.coordinator import Coordinator
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.roles import HERALD_PATTERNS

MAX_SHARED_ROUNDS = 5000  # of a message; 40 characters a round

# Name in the message, dtype there; the node's columns of these names are the plural's singular.
_COLUMNS = {
    "settings": "u1",
    "outcomes": "u1",
    "lost": "u1",
    "timestamps": "<i8",
    "edges": "<i8",
    "patterns": "u1",
}
_NAMES = {
    "settings": "setting",
    "outcomes": "outcome",
    "lost": "lost",
    "timestamps": "timestamp_mu",
    "edges": "edge_mu",
    "patterns": "herald_pattern",
}


class SharingCoordinator(Coordinator):
    """:param shared: called after every batch with the new rounds' columns of this node and of the other,
    each a dictionary of `setting`, `outcome`, `lost`, `timestamp_mu`, `edge_mu` and `herald_pattern`, as the
    node's core saw it; the first call of a resumed run brings all its earlier rounds, too.
    """

    def __init__(self, *, shared, **arguments):
        parameters = arguments["spool"].parameters
        if parameters.key_bits > 0:
            raise ParameterError(
                f"this run is to make a key of {parameters.key_bits:,} bits: its outcomes are not shared"
            )
        super().__init__(**arguments)
        self._shared = shared
        self._num_shared = 0

    def end_batch(self, done, condition):
        """As `Coordinator.end_batch`, then share what is new."""
        super().end_batch(done, condition)
        self._share()

    def finish(self):
        """As `Coordinator.finish`; a run that was complete when it was resumed is shared now."""
        self._share()
        super().finish()

    def _share(self):
        while self._num_shared < self.spool.rounds_done:
            first = self._num_shared
            own = self.spool.shared_rounds(first)
            own = {name: column[:MAX_SHARED_ROUNDS] for name, column in own.items()}
            self.connection.send(
                "shared_rounds",
                first=first,
                **{name: own[_NAMES[name]].astype(dtype).tobytes().hex() for name, dtype in _COLUMNS.items()},
            )
            peer = self._peer_columns(self._await("shared_rounds"), first, len(own["outcome"]))
            self._num_shared += len(own["outcome"])
            self._shared(own, peer)

    def _peer_columns(self, message, first, count):
        """The other node's columns; the run ends where they cannot be."""
        try:
            columns = {
                _NAMES[name]: np.frombuffer(bytes.fromhex(message[name]), dtype=dtype)
                for name, dtype in _COLUMNS.items()
            }
        except ValueError:
            raise self.connection.fail("the shared rounds are not hexadecimal") from None
        if message["first"] != first or any(column.size != count for column in columns.values()):
            raise self.connection.fail(f"{count} shared rounds from {first} on were due, others came")
        lost = columns["lost"]
        fits = (columns["outcome"] <= 1) & (lost <= 1) & ((columns["timestamp_mu"] < 0) <= lost)
        fits &= np.isin(columns["herald_pattern"], (0, *HERALD_PATTERNS))
        if not fits.all():
            raise self.connection.fail(f"shared rounds from {first} on have values that no round has")
        return {name: column.astype(column.dtype.newbyteorder("=")) for name, column in columns.items()}
