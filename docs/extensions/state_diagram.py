"""Draws Mermaid's `stateDiagram-v2` at build time, as SVG, so that the page needs no script from anywhere.

Protocols are nearly lines, and are drawn as one: states from top to bottom in the order of their appearance,
steps to the next one straight, all others as arcs beside them. Diagrams of other kinds stay text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

END = "[*]"
ROW, BOX, WIDTH, LEFT = 62, 30, 320, 96
LANE = 26  # between two arcs on one side
FONT = 7.1  # width of a character of a label


@dataclass
class Diagram:
    """States with what they are called, in order, and steps (from, to, label) between them."""

    names: dict[str, str] = field(default_factory=dict)
    steps: list[tuple[str, str, str]] = field(default_factory=list)
    first: str = ""
    last: set[str] = field(default_factory=set)


def parse(text: str) -> Diagram | None:
    """The diagram in Mermaid's words, or None if it is of another kind."""
    lines = [line.strip() for line in text.strip().splitlines()]
    if not lines or lines[0] != "stateDiagram-v2":
        return None
    diagram = Diagram()
    for line in filter(None, lines[1:]):
        if step := re.fullmatch(r"(\S+) --> (\S+?)(?:\s*:\s*(.*))?", line):
            start, end, label = step[1], step[2], step[3] or ""
            if start == END:
                diagram.first = end
            elif end == END:
                diagram.last.add(start)
            else:
                diagram.steps.append((start, end, label))
            names: tuple[str, ...] = (start, end)
        elif name := re.fullmatch(r"(\S+)\s*:\s*(.+)", line):
            diagram.names[name[1]] = name[2]
            names = (name[1],)
        else:
            return None
        for state in names:
            if state != END:
                diagram.names.setdefault(state, state)
    # A state counts from where it is named, not from where a step first leads to it.
    order = [m for line in lines if (m := line.split(" : ")[0]) in diagram.names]
    diagram.names = {state: diagram.names[state] for state in dict.fromkeys([*order, *diagram.names])}
    return diagram


def lanes(spans: list[tuple[int, int]]) -> list[int]:
    """A lane for each arc from row to row, such that no two in one lane overlap; short arcs come first."""
    chosen = [0] * len(spans)
    taken: list[list[tuple[int, int]]] = []
    for index in sorted(range(len(spans)), key=lambda i: spans[i][1] - spans[i][0]):
        low, high = spans[index]
        lane = 0
        while lane < len(taken) and any(low < b and a < high for a, b in taken[lane]):
            lane += 1
        if lane == len(taken):
            taken.append([])
        taken[lane].append((low, high))
        chosen[index] = lane
    return chosen


def svg(diagram: Diagram) -> str:
    """The drawing; its colours are classes of the site's style sheet."""
    row = {state: index for index, state in enumerate(diagram.names)}
    straight: dict[int, list[str]] = {}
    arcs: dict[tuple[int, int], list[str]] = {}
    for start, end, label in diagram.steps:
        a, b = row[start], row[end]
        if b == a + 1:
            straight.setdefault(a, []).append(label)
        else:
            arcs.setdefault((a, b), []).append(label)
    keys = list(arcs)
    lane = dict(zip(keys, lanes([(min(k), max(k)) for k in keys]), strict=True))
    right = LEFT + WIDTH
    labels = [" or ".join(arcs[key]) for key in keys]
    reach = max((right + 18 + LANE * (lane[k] + 1) for k in keys), default=right)
    width = reach + max((FONT * len(label) for label in labels), default=0) + 24
    height = ROW * len(row) + 26
    parts = []
    middle = LEFT + WIDTH / 2
    for state, index in row.items():
        y = 22 + ROW * index
        css = "state end" if state in diagram.last else "state"
        parts.append(f'<rect class="{css}" x="{LEFT}" y="{y}" width="{WIDTH}" height="{BOX}" rx="8" />')
        parts.append(f'<text class="name" x="{middle}" y="{y + 20}">{escape(diagram.names[state])}</text>')
        if state == diagram.first:
            parts.append(f'<circle class="dot" cx="{middle}" cy="6" r="5" />')
            parts.append(f'<path class="step" d="M{middle} 11 V{y - 2}" marker-end="url(#arrow)" />')
        if index in straight:
            parts.append(
                f'<path class="step" d="M{middle} {y + BOX} V{y + ROW - 2}" marker-end="url(#arrow)" />'
            )
            label = escape(" or ".join(straight[index]))
            parts.append(f'<text class="label" x="{middle + 8}" y="{y + BOX + 20}">{label}</text>')
    for key, label in zip(keys, labels, strict=True):
        a, b = key
        y1, y2 = 22 + ROW * a + BOX * 0.72, 22 + ROW * b + BOX * (0.3 if b > a else 0.7)
        x = right + 18 + LANE * (lane[key] + 1)
        curve = 10 if y2 > y1 else -10
        parts.append(
            f'<path class="step arc" d="M{right} {y1} H{x - 10} Q{x} {y1} {x} {y1 + curve} V{y2 - curve} '
            f'Q{x} {y2} {x - 10} {y2} H{right + 3}" marker-end="url(#arrow)" />'
        )
        parts.append(f'<text class="label" x="{x + 5}" y="{y1 + 17}">{escape(label)}</text>')
    head = (
        '<marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path class="head" d="M0 0 L8 4 L0 8 z" /></marker>'
    )
    left, shown = LEFT - 12, round(width - LEFT + 12)
    return (
        f'<svg class="state-diagram" viewBox="{left} 0 {shown} {height}" width="{shown}" '
        f'role="img" aria-label="state diagram"><defs>{head}</defs>{"".join(parts)}</svg>'
    )


class StateDiagram(SphinxDirective):
    """A fence of the language `mermaid`."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The drawing in HTML, the text everywhere else."""
        text = "\n".join(self.content)
        diagram = parse(text)
        if diagram is None or self.env.app.builder.format != "html":
            return [nodes.literal_block(text, text, language="none")]
        return [nodes.raw("", f'<div class="diagram">{svg(diagram)}</div>', format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.add_directive("mermaid", StateDiagram)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
