"""Content of each of the four hashes (SI section S4, steps 7, 10 and 11), as unambiguous bytes.

Every content opens with its own label, the session, the initial key's name, the run, the epochs of both key
stores, all parameters in full and the four columns T, T', r and r' of this side's record with the list of
late losses, so that no tag can be taken for another's, moved to another session or to other parameters,
without resting on a computational hash, and none verifies where the two records differ in any of these.
Fields stand behind their length.

G_A covers the syndrome M too, which the SI's list leaves out: authenticating it costs nothing, and a
changed M otherwise only shows as a failed validation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import Role
from diqkd_postproc.session.framing import PROTOCOL_VERSION
from diqkd_postproc.session.messages import BasisRevelation, Increment, OutcomeHash, Syndrome, Verdict


def _fields(*fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(8, "big") + field for field in fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedContent:
    """Builds the contents of one session's tags."""

    session_id: bytes
    key_id: str
    run_id: str
    epochs: Mapping[Role, int]
    parameters: ProtocolParameters
    exchanged: bytes

    def _content(self, label: str, *fields: bytes) -> bytes:
        epochs = b"".join(self.epochs[role].to_bytes(8, "big") for role in get_args(Role))
        names = (self.session_id, self.key_id.encode(), self.run_id.encode())
        label = f"diqkd {PROTOCOL_VERSION} {label}"
        return _fields(label.encode(), *names, epochs, self.parameters.canonical(), self.exchanged, *fields)

    def outcomes(self, bits: npt.NDArray[np.uint8]) -> bytes:
        """Of G_EC: Alice's outcomes, (n,) 0/1. Private."""
        return self._content("outcomes", np.packbits(bits).tobytes())

    def round_types(self) -> bytes:
        """Of G_B: the columns alone, T among them."""
        return self._content("round types")

    def confirmation(
        self,
        settings: BasisRevelation,
        syndrome: Syndrome,
        outcome_hash: OutcomeHash,
        increments: Sequence[Increment] = (),
    ) -> bytes:
        """Of G_A: X, M with all increments that were ever sent, G_EC, and C = 1, without which there is no
        G_A."""
        payloads = [settings.payload(), syndrome.payload(), outcome_hash.payload()]
        payloads += [increment.payload() for increment in increments]
        return self._content("confirmation, C = 1", *payloads)

    def decision(self, verdict: Verdict, num_losses: int, key_bits: int) -> bytes:
        """Of G_F: F, for F = 0 its reason, with a variable length k and l; S and with it v are in all
        tags."""
        counts = num_losses.to_bytes(4, "big"), key_bits.to_bytes(4, "big")
        return self._content("decision", bytes([verdict]), *counts)
