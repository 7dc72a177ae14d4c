"""The two state machines of steps 4 to 11, as tables.

A state requests one thing of its driver (work or an effect), or waits for the peer; nothing else can happen
in it. Leaving it needs the answer that its row names: `sends`, the message that the work makes; `answers`;
`receives`; or, for an effect, the acknowledgement (`then`).

Bob: tag T, take X, M, G_EC and G_A, check G_A, reconstruct, validate, count losses, extract, decide,
activate. Alice: check G_B, reveal X, send M, G_EC and G_A, wait for F and G_F, check, extract, activate.

The SI exchanges the tags of step 10 last. Here they come as early as they can, so that nobody acts on secrets
before what he acts on is authenticated: Alice reveals something only to a Bob who has shown with G_B that he
saw the same round types, and Bob's decoder, whose course depends on his outcomes, sees only what G_A covers.
The messages and what they cover stay the same but for C = 0: then Alice ends, instead of sending tags that
can make no key. Thus she has only one possible message for each of her pads.

Bob refuses from three checks; he then goes straight to the decision F = 0.

After a crash, a session goes on in the state that follows the last message in its journal (`state_after`):
the work before it is known to have been done.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from diqkd_postproc.protocol.roles import Role
from diqkd_postproc.session.events import ActivateKey, Answer, ConsumeKey, Done, Failed, Need, Passed, Work
from diqkd_postproc.session.messages import MessageType, Verdict


class State(enum.Enum):
    """States of both roles; a role uses those in its table."""

    GREETING = "greeting"
    REVEALING = "revealing the settings"
    CORRECTING = "computing the syndrome"
    CONSUMING_EC = "consuming the pad of the outcome hash"
    HASHING = "hashing the outcomes"
    AWAITING_SETTINGS = "waiting for the settings"
    AWAITING_SYNDROME = "waiting for the syndrome"
    AWAITING_OUTCOME_HASH = "waiting for the outcome hash"
    DECODING = "reconstructing the outcomes"
    VALIDATING = "validating the error correction"
    COUNTING = "counting the lost test rounds"
    CONSUMING_B = "consuming the pad of the round types"
    TAGGING = "tagging the round types"
    AWAITING_ROUND_TYPES = "waiting for the tag of the round types"
    COMPARING = "comparing the round types"
    CONSUMING_A = "consuming the pad of the confirmation"
    CONFIRMING = "confirming"
    AWAITING_CONFIRMATION = "waiting for the confirmation"
    CHECKING_CONFIRMATION = "checking the confirmation"
    EXTRACTING = "extracting the key"
    CONSUMING_F = "consuming the pad of the decision"
    DECIDING = "deciding"
    AWAITING_DECISION = "waiting for the decision"
    CHECKING_DECISION = "checking the decision"
    ACTIVATING = "activating the key"
    AWAITING_RECEIPT = "waiting for the receipt"
    DONE = "done"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One state: what it requests, and where each permitted answer leads."""

    requests: Need | ConsumeKey | ActivateKey | None = None
    sends: tuple[MessageType, State] | None = None
    then: State | None = None
    answers: Mapping[type[Answer], State] = field(default_factory=dict)
    receives: Mapping[MessageType, State] = field(default_factory=dict)
    refusal: Verdict | None = None
    """Verdict that Bob reaches when the check of this state fails."""
    checks: MessageType | None = None
    """Message whose tag Alice checks in this state; when it is wrong she ends."""
    if_refused: State | None = None
    """Where the state leads instead when the verdict is F = 0."""


def _effect(effect: ConsumeKey | ActivateKey, then: State) -> Row:
    return Row(requests=effect, then=then)


def _make(work: Work, message: MessageType, then: State, if_refused: State | None = None) -> Row:
    return Row(requests=Need(work=work), sends=(message, then), if_refused=if_refused)


def _do(work: Work, then: State) -> Row:
    return Row(requests=Need(work=work), answers={Done: then})


def _check(work: Work, passed: State, failed: State, refusal: Verdict) -> Row:
    return Row(requests=Need(work=work), answers={Passed: passed, Failed: failed}, refusal=refusal)


def _verify(work: Work, message: MessageType, passed: State, if_refused: State | None = None) -> Row:
    answers = {Passed: passed, Failed: State.ABORTED}
    return Row(requests=Need(work=work), answers=answers, checks=message, if_refused=if_refused)


def _await(receives: Mapping[MessageType, State]) -> Row:
    return Row(receives=receives)


_S, _M, _W = State, MessageType, Work

ALICE: Mapping[State, Row] = {
    _S.GREETING: _await({_M.HELLO: _S.AWAITING_ROUND_TYPES}),
    _S.AWAITING_ROUND_TYPES: _await({_M.ROUND_TYPES_TAG: _S.CONSUMING_B}),
    _S.CONSUMING_B: _effect(ConsumeKey(segment="pad_b"), _S.COMPARING),
    _S.COMPARING: _verify(_W.CHECK_ROUND_TYPES, _M.ROUND_TYPES_TAG, _S.REVEALING),
    _S.REVEALING: _make(_W.SETTINGS, _M.BASIS_REVELATION, _S.CORRECTING),
    _S.CORRECTING: _make(_W.SYNDROME, _M.SYNDROME, _S.CONSUMING_EC),
    _S.CONSUMING_EC: _effect(ConsumeKey(segment="pad_ec"), _S.HASHING),
    _S.HASHING: _make(_W.OUTCOME_HASH, _M.OUTCOME_HASH, _S.CONSUMING_A),
    _S.CONSUMING_A: _effect(ConsumeKey(segment="pad_a"), _S.CONFIRMING),
    _S.CONFIRMING: _make(_W.CONFIRMATION, _M.CONFIRMATION, _S.AWAITING_DECISION),
    _S.AWAITING_DECISION: _await({_M.DECISION: _S.CONSUMING_F}),
    _S.CONSUMING_F: _effect(ConsumeKey(segment="pad_f"), _S.CHECKING_DECISION),
    _S.CHECKING_DECISION: _verify(_W.CHECK_DECISION, _M.DECISION, _S.EXTRACTING, if_refused=_S.ABORTED),
    _S.EXTRACTING: _do(_W.EXTRACT, _S.ACTIVATING),
    _S.ACTIVATING: _effect(ActivateKey(), _S.DONE),
    _S.DONE: Row(),
    _S.ABORTED: Row(),
}

BOB: Mapping[State, Row] = {
    _S.GREETING: _await({_M.HELLO: _S.CONSUMING_B}),
    _S.CONSUMING_B: _effect(ConsumeKey(segment="pad_b"), _S.TAGGING),
    _S.TAGGING: _make(_W.ROUND_TYPES_TAG, _M.ROUND_TYPES_TAG, _S.AWAITING_SETTINGS),
    _S.AWAITING_SETTINGS: _await({_M.BASIS_REVELATION: _S.AWAITING_SYNDROME}),
    _S.AWAITING_SYNDROME: _await({_M.SYNDROME: _S.AWAITING_OUTCOME_HASH}),
    _S.AWAITING_OUTCOME_HASH: _await({_M.OUTCOME_HASH: _S.AWAITING_CONFIRMATION}),
    _S.AWAITING_CONFIRMATION: _await({_M.CONFIRMATION: _S.CONSUMING_A}),
    _S.CONSUMING_A: _effect(ConsumeKey(segment="pad_a"), _S.CHECKING_CONFIRMATION),
    _S.CHECKING_CONFIRMATION: _check(
        _W.CHECK_CONFIRMATION, _S.DECODING, _S.CONSUMING_F, Verdict.CONFIRMATION_TAG_WRONG
    ),
    _S.DECODING: _do(_W.DECODE, _S.CONSUMING_EC),
    _S.CONSUMING_EC: _effect(ConsumeKey(segment="pad_ec"), _S.VALIDATING),
    _S.VALIDATING: _check(_W.VALIDATE, _S.COUNTING, _S.CONSUMING_F, Verdict.VALIDATION_FAILED),
    _S.COUNTING: _check(_W.COUNT_LOSSES, _S.EXTRACTING, _S.CONSUMING_F, Verdict.TOO_MANY_LOSSES),
    _S.EXTRACTING: _do(_W.EXTRACT, _S.CONSUMING_F),
    _S.CONSUMING_F: _effect(ConsumeKey(segment="pad_f"), _S.DECIDING),
    _S.DECIDING: _make(_W.DECISION, _M.DECISION, _S.ACTIVATING, if_refused=_S.ABORTED),
    _S.ACTIVATING: _effect(ActivateKey(), _S.AWAITING_RECEIPT),
    _S.AWAITING_RECEIPT: _await({_M.RECEIPT: _S.DONE}),
    _S.DONE: Row(),
    _S.ABORTED: Row(),
}

TABLES: Mapping[Role, Mapping[State, Row]] = {"alice": ALICE, "bob": BOB}

TERMINAL = frozenset({State.DONE, State.ABORTED})

SENT_BY: Mapping[Role, frozenset[MessageType]] = {
    role: frozenset(row.sends[0] for row in table.values() if row.sends is not None)
    for role, table in TABLES.items()
}
"""The protocol messages of each role."""

NEEDS_NO_PEER: Mapping[Role, frozenset[State]] = {
    "alice": frozenset({State.CONSUMING_F, State.CHECKING_DECISION, State.EXTRACTING, State.ACTIVATING}),
    "bob": frozenset({State.ACTIVATING, State.AWAITING_RECEIPT}),
}
"""From here on a party reaches its end alone; a peer that goes away is no failure."""


def state_after(role: Role, message: MessageType, refused: bool) -> State:
    """State that follows the sending or receiving of a message; `refused` where the verdict is F = 0."""
    for row in TABLES[role].values():
        if row.sends is not None and row.sends[0] is message:
            return row.if_refused if refused and row.if_refused is not None else row.sends[1]
        if message in row.receives:
            return row.receives[message]
    raise KeyError(message)
