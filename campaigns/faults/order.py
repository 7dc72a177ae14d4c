"""What a node has let out in every round, over all of its starts, against the order of a round.

A trace has a line for every batch, for every note of the journal up to which round indices are used up
(`begun`), for every herald, and for the analysis pulse ("pulse") and each edge on a line before it goes out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diqkd_postproc.protocol.errors import ProtocolAbort
from diqkd_postproc.records.order_losses import late_losses, require_few_late_losses
from diqkd_postproc.records.sealed_record import RoundRecord


@dataclass
class Played:
    """A round as a node has played it: what went out, in order, as (name, bit or None)."""

    index: int
    start: int
    begun: int  # of the journal, when the first of it went out
    edges: list[tuple[str, int | None]] = field(default_factory=list)


def played_rounds(trace: Sequence[Mapping[str, Any]]) -> list[Played]:
    """Every round in which something went out, in order; an index that was played twice is there twice."""
    rounds: list[Played] = []
    start = index = begun = 0
    fresh = True
    for line in trace:
        if "start" in line:
            start, fresh = line["start"], True
        elif "batch" in line:
            index, begun, fresh = line["batch"], 0, True
        elif "begun" in line:
            begun = line["begun"]
        elif "herald" in line:
            fresh = True
        elif "edge" in line:
            if fresh:
                rounds.append(Played(index, start, begun))
                index += 1
                fresh = False
            rounds[-1].edges.append((line["edge"], line.get("bit")))
    return rounds


def violations(rounds: Sequence[Played], record: RoundRecord, acknowledged: Mapping[int, int]) -> list[str]:
    """Findings; `acknowledged` is the number of rounds in the journal after each start."""
    role, late = record.role, record.parameters.protocol == "late-type"
    findings = []
    by_index: dict[int, list[Played]] = defaultdict(list)
    for played in rounds:
        by_index[played.index].append(played)
        names = [name for name, _ in played.edges]
        where = f"{role}: round {played.index}"
        if played.begun <= played.index:
            findings.append(f"{where} was played before the journal had it as used up")
        if len(set(names)) < len(names) and not record.parameters.end_token:
            findings.append(f"{where} let the same out twice: {names}")
        first = "pulse" if role == "alice" and late else ("token" if role == "alice" else "round_type")
        if names[0] != first:
            findings.append(f"{where} began with {names[0]}, not with {first}")
        bits = dict(played.edges)
        sent, column = ("token", record.token) if role == "alice" else ("round_type", record.round_type)
        if sent in bits and bits[sent] != column[played.index]:
            findings.append(f"{where} sent another {sent} than its record has")
        if played.index >= acknowledged.get(played.start, 0) and not record.lost[played.index]:
            findings.append(f"{where} is not lost, though its outcome was never on disk")
    findings += [
        f"{role}: index {index} was played twice" for index, all_of in by_index.items() if len(all_of) > 1
    ]
    unplayed = set(np.flatnonzero(record.lost == 0).tolist()) - set(by_index)
    if unplayed:
        findings.append(f"{role}: rounds {sorted(unplayed)} have outcomes and were never played")
    if role == "alice" and not np.array_equal(record.late_loss, record.lost):
        findings.append("alice: the late losses are not the rounds without her outcome")
    return findings + _unrefused(record)


def _unrefused(record: RoundRecord) -> list[str]:
    """Whether the record is refused by parameters that allow one late loss fewer, and only by these."""
    number = int(np.count_nonzero(late_losses(record)))
    findings = []
    for allowed in {number, max(number - 1, 0)}:
        parameters = record.parameters.model_copy(update={"max_late_losses": allowed})
        refused = False
        try:
            require_few_late_losses(replace(record, parameters=parameters))
        except ProtocolAbort:
            refused = True
        if refused != (number > allowed):
            findings.append(f"{record.role}: {number} late losses, {allowed} allowed, refused: {refused}")
    return findings
