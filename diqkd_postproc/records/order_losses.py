"""Rounds that count as lost for what happened on the nodes' lines, and those that cost a bit of key.

Section 2.3 of the order of a round (docs/order.md): whatever an adversary who owns station and lines does to
a round, it is either the round of the theorem or one of these.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from diqkd_postproc.protocol.errors import ProtocolAbort
from diqkd_postproc.records.columns import NONE
from diqkd_postproc.records.sealed_record import RoundRecord

Bools = npt.NDArray[np.bool_]


def lost_by_order(record: RoundRecord) -> Bools:
    """(n,) rounds that are lost whatever was measured in them.

    A test is lost unless T' = 1 came at Alice, the token came right at Bob, and both have an outcome (of
    Bob's own losses only his record knows). A key round is lost if Alice took it for a test.
    """
    is_test = record.round_type == 1
    in_order = (record.received_type == 1) & (record.received_token == record.token)
    if record.parameters.end_token:
        in_order = in_order & (record.received_end_token == record.end_token)
    measured = record.late_loss == 0
    if record.role == "bob":
        measured = measured & (record.lost == 0)
    lost: Bools = np.where(is_test, ~(in_order & measured), record.received_type == 1)
    return lost


def late_losses(record: RoundRecord) -> Bools:
    """(n,) rounds that cost a bit of key each: Alice has no outcome although T may be public.

    In `ordered` also those without T', and those that Alice measured as key rounds although a test was
    announced: her setting followed what came on the line.
    """
    late: Bools = record.late_loss == 1
    if record.parameters.protocol == "ordered":
        late = late | (record.received_type == NONE)
        late = late | ((record.round_type == 1) & (record.received_type == 0))
    return late


def require_few_late_losses(record: RoundRecord) -> None:
    """Raise ProtocolAbort if there are more late losses than the key length pays for."""
    number, allowed = int(np.count_nonzero(late_losses(record))), record.parameters.max_late_losses
    if number > allowed:
        raise ProtocolAbort(
            f"{number} rounds have no outcome of Alice's, or one for another type, although their types may "
            f"be public; the parameters allow max_late_losses={allowed}; nothing was sent and no part of the "
            f"initial key is spent. Plan with `diqkd plan --max-late-losses {number}`, at one bit of key "
            "each, and acquire another run"
        )
