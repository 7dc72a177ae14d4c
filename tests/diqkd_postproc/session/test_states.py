"""The tables: complete, closed, and made for each other."""

import runpy

import pytest

from diqkd_postproc.protocol.roles import ROLES, Role
from diqkd_postproc.session import diagram
from diqkd_postproc.session.diagram import mermaid
from diqkd_postproc.session.events import ConsumeKey, Need, Work
from diqkd_postproc.session.messages import MessageType
from diqkd_postproc.session.states import NEEDS_NO_PEER, TABLES, TERMINAL, Row, State, state_after
from tests.support.paths import ROOT

OTHER = {"alice": "bob", "bob": "alice"}


def successors(row: Row) -> set[State]:
    following = set(row.answers.values()) | set(row.receives.values())
    following |= {row.sends[1]} if row.sends else set()
    return following | {state for state in (row.then, row.if_refused) if state is not None}


@pytest.mark.parametrize("role", ROLES)
def test_every_state_is_reached_and_every_path_ends(role: Role) -> None:
    table = TABLES[role]
    reached, frontier = set(), {State.GREETING}
    while frontier:
        reached |= frontier
        frontier = {s for state in frontier for s in successors(table[state])} - reached
    assert reached == set(table)
    for state in table:
        assert bool(successors(table[state])) == (state not in TERMINAL)


@pytest.mark.parametrize("role", ROLES)
def test_there_is_no_way_back(role: Role) -> None:
    order = list(TABLES[role])
    for state in order:
        for following in successors(TABLES[role][state]):
            assert order.index(following) > order.index(state)


@pytest.mark.parametrize("role", ROLES)
def test_a_state_asks_or_waits_never_both(role: Role) -> None:
    for state, row in TABLES[role].items():
        if state in TERMINAL:
            continue
        assert (row.requests is None) == bool(row.receives)
        assert sum([row.sends is not None, row.then is not None, bool(row.answers)]) == (
            row.requests is not None
        )


@pytest.mark.parametrize("role", ROLES)
def test_what_one_sends_the_other_receives(role: Role) -> None:
    sent = {row.sends[0] for row in TABLES[role].values() if row.sends}
    received = {kind for row in TABLES[OTHER[role]].values() for kind in row.receives}
    assert received - sent == {MessageType.HELLO} | ({MessageType.RECEIPT} if role == "alice" else set())
    assert sent <= received


@pytest.mark.parametrize("role", ROLES)
def test_no_work_uses_a_pad_that_was_not_consumed(role: Role) -> None:
    uses = {
        Work.OUTCOME_HASH: "pad_ec",
        Work.VALIDATE: "pad_ec",
        Work.ROUND_TYPES_TAG: "pad_b",
        Work.CHECK_ROUND_TYPES: "pad_b",
        Work.CONFIRMATION: "pad_a",
        Work.CHECK_CONFIRMATION: "pad_a",
        Work.DECISION: "pad_f",
        Work.CHECK_DECISION: "pad_f",
    }
    table = TABLES[role]
    for state, row in table.items():
        if isinstance(row.requests, Need) and row.requests.work in uses:
            before = [other for other in table if state in successors(table[other])]
            assert before and all(
                table[o].requests == ConsumeKey(segment=uses[row.requests.work]) for o in before
            )


def test_the_key_is_activated_only_behind_the_decision() -> None:
    for role in ROLES:
        order = list(TABLES[role])
        decision = State.DECIDING if role == "bob" else State.CHECKING_DECISION
        assert order.index(State.ACTIVATING) > order.index(decision)
        assert State.ACTIVATING in NEEDS_NO_PEER[role]


@pytest.mark.parametrize("role", ROLES)
def test_a_refusal_never_resumes_into_activation(role: Role) -> None:
    after = state_after(role, MessageType.DECISION, refused=True)
    assert after is (State.ABORTED if role == "bob" else State.CONSUMING_F)
    with pytest.raises(KeyError):
        state_after(role, MessageType.ABORT, refused=False)


@pytest.mark.parametrize("num_increments", [1, 2])
@pytest.mark.parametrize("role", ROLES)
def test_the_documented_diagrams_are_those_of_the_tables(role: Role, num_increments: int) -> None:
    document = ROOT / "docs" / "session.md"
    assert f"```mermaid\n{mermaid(role, num_increments)}```\n" in document.read_text(encoding="utf-8")


def test_the_diagrams_are_printed_for_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(diagram.__file__, run_name="__main__")
    assert capsys.readouterr().out == "".join(
        f"```mermaid\n{mermaid(role, number)}```\n\n" for number in (1, 2) for role in ROLES
    )
