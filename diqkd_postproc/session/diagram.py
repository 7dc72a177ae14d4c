"""The state machines as Mermaid diagrams: `python -m diqkd_postproc.session.diagram`."""

from __future__ import annotations

from diqkd_postproc.protocol.roles import ROLES, Role
from diqkd_postproc.session.events import ActivateKey, ConsumeKey
from diqkd_postproc.session.states import TERMINAL, Row, State, tables


def _edges(row: Row) -> list[tuple[State, str]]:
    """Where a state leads, and what takes it there: `?` received, `!` sent."""
    edges = [(state, f"? {kind.name}") for kind, state in row.receives.items()]
    answers: dict[State, list[str]] = {}
    for answer, state in row.answers.items():
        answers.setdefault(state, []).append(answer.__name__.lower())
    edges += [(state, " or ".join(names)) for state, names in answers.items()]
    if row.sends is not None:
        edges.append((row.sends[1], f"! {row.sends[0].name}"))
    if row.then is not None and isinstance(row.requests, ConsumeKey):
        edges.append((row.then, f"{row.requests.segment} consumed"))
    if row.then is not None and isinstance(row.requests, ActivateKey):
        edges.append((row.then, "key activated"))
    if row.if_refused is not None:
        edges.append((row.if_refused, "F = 0"))
    return edges


def mermaid(role: Role, num_increments: int = 1) -> str:
    """The role's state machine for a syndrome of up to J = `num_increments` parts, in Mermaid's language."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.GREETING.name}"]
    for state, row in tables(num_increments)[role].items():
        lines.append(f"    {state.name} : {state.value}")
        lines += [f"    {state.name} --> {target.name} : {label}" for target, label in _edges(row)]
        lines += [f"    {state.name} --> [*]"] if state in TERMINAL else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for number in (1, 2):
        for name in ROLES:
            print(f"```mermaid\n{mermaid(name, number)}```\n")
