"""Agreement of key store, journal and peer on the past, checked so that no old copy uses a pad again.

A pad is consumed before the message under it is journalled, and a message is journalled before it is sent. So
three memories of one session have to fit together:

- key store and journal: for every journal the tables say which pads can have been consumed
  (`possible_pasts`). A store that is older than its journal lacks some, a journal that is older than its
  store cannot explain some.
- this side and the peer: its Hello says which messages it holds. Whoever holds a message had it from
  somebody who journalled it first; if that side has forgotten it, its store *and* journal are an old copy.
- the epochs of both key stores when the session began: every tag covers them.

What nobody remembers cannot be noticed: old copies on both sides, or messages that never arrived. In the
second case the same messages are made again, with one exception that docs/session.md names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diqkd_postproc.protocol.errors import StorageError
from diqkd_postproc.protocol.roles import Role
from diqkd_postproc.session.events import ActivateKey, ConsumeKey, Failed, Pad, Persist
from diqkd_postproc.session.messages import Decision, Hello, MessageType, Verdict
from diqkd_postproc.session.states import SENT_BY, Row, State, tables

_REMEDY = "No pad was used now; go on with the newest files, or make a new initial key"


class OldCopyError(StorageError):
    """A key store, a journal, or both are a restored old copy."""


@dataclass(frozen=True, slots=True)
class Past:
    """What the key store of an interrupted session may say: consumed pads, and whether there is a key."""

    consumed: frozenset[Pad] = frozenset()
    key_is_active: bool = False


def possible_pasts(role: Role, journal: Sequence[Persist], num_increments: int = 1) -> frozenset[Past]:
    """All pasts that fit the journal; none where its messages cannot have come in this order."""
    verdicts = [entry.message.verdict for entry in journal if isinstance(entry.message, Decision)]
    pasts: set[Past] = set()
    table = tables(num_increments)[role]
    # One walk through the table for every way that the checks can have gone; it ends where the journal does.
    walks = [(State.GREETING, tuple(journal), Past())]
    while walks:
        state, rest, past = walks.pop()
        row = table[state]
        if not rest:
            pasts.add(past)
        if isinstance(row.requests, ConsumeKey):
            past = replace(past, consumed=past.consumed | {row.requests.segment})
        elif isinstance(row.requests, ActivateKey):
            past = replace(past, key_is_active=True)
        if row.then is not None:
            walks.append((row.then, rest, past))
        elif rest and (following := _after_message(row, rest[0])) is not None:
            walks.append((following, rest[1:], past))
        walks += [(following, rest, past) for following in _without_message(row, verdicts)]
    return frozenset(pasts)


def _after_message(row: Row, entry: Persist) -> State | None:
    """Where sending or receiving this message leads; None where it is not the row's."""
    message = entry.message
    if not entry.outgoing:
        return row.receives.get(message.type)
    if row.sends is None or row.sends[0] is not message.type:
        return None
    refused = isinstance(message, Decision) and not message.accepted
    return row.if_refused if refused else row.sends[1]


def _without_message(row: Row, verdicts: list[Verdict]) -> list[State]:
    """Where a state leads that neither sends nor receives, as far as a decision in the journal allows."""
    if MessageType.HELLO in row.receives:
        return [row.receives[MessageType.HELLO]]
    refused = verdicts not in ([], [Verdict.ACCEPTED])
    if refused and row.answers and row.if_refused is not None:
        return [row.if_refused]
    ruled_out = row.refusal is not None and verdicts not in ([], [row.refusal])
    return [state for answer, state in row.answers.items() if answer is not Failed or not ruled_out]


def require_one_past(
    role: Role,
    journal: Sequence[Persist],
    past: Past,
    journal_path: Path,
    key_store_path: Path,
    num_increments: int = 1,
) -> None:
    """Raise OldCopyError unless the journal and the key store of one side fit together."""
    possible = possible_pasts(role, journal, num_increments)
    if past in possible or (past.key_is_active and any(p.key_is_active for p in possible)):
        return
    raise OldCopyError(
        f"{key_store_path} and {journal_path} do not fit: one is a restored old copy, damaged, or gone "
        f"({len(journal)} messages are in the journal, {len(past.consumed)} pads were consumed"
        f"{', and there is a key' if past.key_is_active else ''}). {_REMEDY}"
    )


def require_common_past(ours: Hello, theirs: Hello) -> None:
    """Raise OldCopyError if one side has forgotten a message that it sent and that the other side holds."""
    own = SENT_BY[ours.role]
    for who, forgotten in (
        ("this side", (theirs.held & own) - ours.held),
        ("the peer", (ours.held - own) - theirs.held),
    ):
        if forgotten:
            names = ", ".join(kind.name for kind in sorted(forgotten))
            raise OldCopyError(
                f"{who} has forgotten what it sent before ({names}): its key store and journal are a "
                f"restored old copy (epoch {ours.epoch} here, {theirs.epoch} at the peer), or a carried file "
                f"is not its newest. {_REMEDY}"
            )
