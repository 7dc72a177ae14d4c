"""Rounds that both nodes recorded as lost after their types were public, as read from a record.

Whoever controls the nodes' link or the round-type line may choose such rounds by their types, and spare the
tests. Each therefore costs one bit of key (`security.proofs`), they count as lost where they were tests, and
the parameters bound their number: `max_voided`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.protocol.errors import ProtocolAbort, StorageError
from diqkd_postproc.records.sealed_record import RoundRecord

DIFFERENT_HERALDS = "the nodes saw different heralds"
"""Reason under which both records list these rounds among their losses."""

Stretches = tuple[tuple[int, int], ...]


def num_voided(losses: Iterable[Mapping[str, Any]]) -> int:
    """How many rounds of a list of losses were voided."""
    return sum(loss["num_rounds"] for loss in losses if loss["reason"] == DIFFERENT_HERALDS)


def voided_rounds(record: RoundRecord) -> npt.NDArray[np.uint8]:
    """Rounds that were voided: (n,) uint8, 1 = voided.

    Raises StorageError unless the rounds that the record lists are lost rounds of it.
    """
    voided = np.zeros(record.parameters.num_rounds, dtype=np.uint8)
    for loss in record.attributes.get("losses", ()):
        if loss["reason"] == DIFFERENT_HERALDS:
            first, end = loss["first_round"], loss["first_round"] + loss["num_rounds"]
            if not 0 <= first <= end <= voided.size or not record.lost[first:end].all():
                raise StorageError(
                    f"the record lists rounds {first} to {end - 1} as lost and has outcomes of them; it is "
                    "damaged: use the one that the node has sealed"
                )
            voided[first:end] = 1
    return voided


def stretches_of(voided: npt.NDArray[np.uint8]) -> Stretches:
    """(first round, number of rounds) of every stretch of voided rounds, in order, none adjacent to the next.

    Both nodes obtain the same list from the same rounds, so that it can stand under a tag.
    """
    edges = np.flatnonzero(np.diff(voided, prepend=0, append=0)).tolist()
    return tuple((first, end - first) for first, end in zip(edges[::2], edges[1::2], strict=True))


def require_few_voided(record: RoundRecord) -> None:
    """Raise ProtocolAbort if more rounds were voided than the key length pays for."""
    number, allowed = int(np.count_nonzero(voided_rounds(record))), record.parameters.max_voided
    if number > allowed:
        raise ProtocolAbort(
            f"{number} rounds are recorded as lost because {DIFFERENT_HERALDS}, the parameters allow "
            f"max_voided={allowed}; nothing was sent and no part of the initial key is spent. Plan with "
            f"`diqkd plan --max-voided {number}`, at one bit of key each, and acquire another run"
        )
