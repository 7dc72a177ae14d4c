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
from functools import cache

from diqkd_postproc.protocol.parameters import MAX_INCREMENTS
from diqkd_postproc.protocol.roles import Role
from diqkd_postproc.session.events import ActivateKey, Answer, ConsumeKey, Done, Failed, Need, Passed, Work
from diqkd_postproc.session.messages import MessageType, Verdict, increment_of, request_of


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
    DECODING_1 = "trying the first syndrome"
    REQUESTING_2 = "requesting increment 2"
    AWAITING_INCREMENT_2 = "waiting for increment 2"
    DECODING_2 = "trying increment 2"
    REQUESTING_3 = "requesting increment 3"
    AWAITING_INCREMENT_3 = "waiting for increment 3"
    DECODING_3 = "trying increment 3"
    REQUESTING_4 = "requesting increment 4"
    AWAITING_INCREMENT_4 = "waiting for increment 4"
    DECODING_4 = "trying increment 4"
    REQUESTING_5 = "requesting increment 5"
    AWAITING_INCREMENT_5 = "waiting for increment 5"
    DECODING_5 = "trying increment 5"
    REQUESTING_6 = "requesting increment 6"
    AWAITING_INCREMENT_6 = "waiting for increment 6"
    DECODING_6 = "trying increment 6"
    REQUESTING_7 = "requesting increment 7"
    AWAITING_INCREMENT_7 = "waiting for increment 7"
    DECODING_7 = "trying increment 7"
    REQUESTING_8 = "requesting increment 8"
    AWAITING_INCREMENT_8 = "waiting for increment 8"
    DECODING_8 = "trying increment 8"
    RECONCILING = "closing the list of increments"
    AWAITING_REPLY_1 = "waiting for Bob's decoder"
    EXTENDING_2 = "sending increment 2"
    AWAITING_REPLY_2 = "waiting for Bob's decoder, increment 2"
    EXTENDING_3 = "sending increment 3"
    AWAITING_REPLY_3 = "waiting for Bob's decoder, increment 3"
    EXTENDING_4 = "sending increment 4"
    AWAITING_REPLY_4 = "waiting for Bob's decoder, increment 4"
    EXTENDING_5 = "sending increment 5"
    AWAITING_REPLY_5 = "waiting for Bob's decoder, increment 5"
    EXTENDING_6 = "sending increment 6"
    AWAITING_REPLY_6 = "waiting for Bob's decoder, increment 6"
    EXTENDING_7 = "sending increment 7"
    AWAITING_REPLY_7 = "waiting for Bob's decoder, increment 7"
    EXTENDING_8 = "sending increment 8"
    AWAITING_REPLY_8 = "waiting for Bob's decoder, increment 8"
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


@cache
def tables(num_increments: int) -> Mapping[Role, Mapping[State, Row]]:
    """The two machines for a syndrome that comes in up to J = `num_increments` parts.

    With more than one, Alice's G_A comes after Bob has said that he needs no more: it covers how many she has
    ever sent, so that Bob accepts only if these are all that he received (docs/variable_length.md, rule R4).
    """
    if num_increments == 1:
        return TABLES
    first = State.AWAITING_REPLY_1, State.DECODING_1
    hashing = _make(_W.OUTCOME_HASH, _M.OUTCOME_HASH, first[0])
    hash_received = _await({_M.OUTCOME_HASH: first[1]})
    alice: dict[State, Row] = {}
    bob: dict[State, Row] = {}
    for number in range(1, num_increments + 1):
        reply = {_M.RECONCILED: _S.CONSUMING_A}
        failed = _S.RECONCILING
        if number < num_increments:
            following = number + 1
            reply[request_of(following)] = _S[f"EXTENDING_{following}"]
            failed = _S[f"REQUESTING_{following}"]
        alice[_S[f"AWAITING_REPLY_{number}"]] = _await(reply)
        attempt = {Passed: _S.RECONCILING, Failed: failed}
        bob[_S[f"DECODING_{number}"]] = Row(requests=Need(work=_W.ATTEMPT), answers=attempt)
        if number < num_increments:
            alice[_S[f"EXTENDING_{following}"]] = _make(
                _W.INCREMENT, increment_of(following), _S[f"AWAITING_REPLY_{following}"]
            )
            bob[failed] = _make(_W.REQUEST, request_of(following), _S[f"AWAITING_INCREMENT_{following}"])
            bob[_S[f"AWAITING_INCREMENT_{following}"]] = _await(
                {increment_of(following): _S[f"DECODING_{following}"]}
            )
    bob[_S.RECONCILING] = _make(_W.RECONCILED, _M.RECONCILED, _S.AWAITING_CONFIRMATION)
    return {
        "alice": _with(ALICE, {_S.HASHING: hashing}, alice, before=_S.CONSUMING_A),
        "bob": _with(BOB, {_S.AWAITING_OUTCOME_HASH: hash_received}, bob, before=_S.AWAITING_CONFIRMATION),
    }


def _with(
    table: Mapping[State, Row], changed: Mapping[State, Row], added: Mapping[State, Row], before: State
) -> Mapping[State, Row]:
    """A table with other rows, and more of them before a state: tables are in the order of their walk."""
    rows: dict[State, Row] = {}
    for state, row in table.items():
        if state is before:
            rows |= added
        rows[state] = changed.get(state, row)
    return rows


TERMINAL = frozenset({State.DONE, State.ABORTED})

SENT_BY: Mapping[Role, frozenset[MessageType]] = {
    role: frozenset(row.sends[0] for row in table.values() if row.sends is not None)
    for role, table in tables(MAX_INCREMENTS).items()
}
"""The protocol messages of each role."""

NEEDS_NO_PEER: Mapping[Role, frozenset[State]] = {
    "alice": frozenset({State.CONSUMING_F, State.CHECKING_DECISION, State.EXTRACTING, State.ACTIVATING}),
    "bob": frozenset({State.ACTIVATING, State.AWAITING_RECEIPT}),
}
"""From here on a party reaches its end alone; a peer that goes away is no failure."""


def state_after(role: Role, message: MessageType, refused: bool, num_increments: int = 1) -> State:
    """State that follows the sending or receiving of a message; `refused` where the verdict is F = 0."""
    for row in tables(num_increments)[role].values():
        if row.sends is not None and row.sends[0] is message:
            return row.if_refused if refused and row.if_refused is not None else row.sends[1]
        if message in row.receives:
            return row.receives[message]
    raise KeyError(message)
