"""Public variant of a run's facts, without what only the laboratory may know.

Removed are paths, the nodes' configuration, wall-clock times, reasons in free text, and everything finer than
the timeline's coarse bins. Removed too is Bob's count of lost test rounds after a success, and with it the
CHSH score, the number of decoder iterations and the seconds it took: they depend on the outcomes, were never
announced, and the key length pays for the announced messages only. After an abort, and with a key of variable
length, the count stands in the decision, which is public.

Of a run that may make a key, removed is which rounds were lost at this node and how many: their outcome is 0,
so the list is one of outcomes. A node publishes no underflow.
"""

from __future__ import annotations

from dataclasses import replace

from diqkd_postproc.link.timeline import Gap
from diqkd_postproc.report.facts import NodeProvenance, RunFacts, SessionFacts

NUM_PUBLIC_BINS = 48

PUBLIC_REASONS = (
    "674 nm laser not locked",
    "ion lost",
    "round type not received",
    "too many RTIO underflows",
    "RTIO underflow before the round type",
    "pause requested",
    "agreed",
    "restarted",
)
"""Reasons that name nothing of a laboratory; any other becomes `OTHER_REASON`."""

OTHER_REASON = "interruption"

PUBLIC_PROVENANCE = ("diqkd", "artiq", "revision")
"""Names of the versions that are published; experiment ids, times and the rest stay."""


def for_publication(facts: RunFacts) -> RunFacts:
    """A copy without what must stay in the laboratory."""
    timeline = facts.timeline.rebinned(NUM_PUBLIC_BINS)
    is_secret = facts.parameters.key_bits > 0
    return replace(
        facts,
        public=True,
        directory=None,
        remark="",
        session=None if facts.session is None else _session(facts.session, facts.losses_are_public),
        timeline=replace(timeline, gaps=tuple(_gap(gap, timeline.duration_s) for gap in timeline.gaps)),
        num_lost=None if is_secret else facts.num_lost,
        num_order_losses=None if is_secret else facts.num_order_losses,
        losses=()
        if is_secret
        else tuple(replace(loss, reason=_reason(loss.reason)) for loss in facts.losses),
        provenance=tuple(_provenance(node) for node in facts.provenance),
    )


def _reason(reason: str) -> str:
    return reason if reason in PUBLIC_REASONS else OTHER_REASON


def _gap(gap: Gap, run_s: float) -> Gap:
    """Times to a bin of the public timeline, durations to whole minutes."""
    bin_s = run_s / NUM_PUBLIC_BINS
    start_s = gap.start_s // bin_s * bin_s
    return replace(
        gap,
        reason=_reason(gap.reason),
        start_s=start_s,
        end_s=min(run_s, max(start_s + bin_s, gap.end_s // bin_s * bin_s)),
        duration_s=60.0 * max(1, round(gap.duration_s / 60.0)),
        start_unix=None,
    )


def _session(session: SessionFacts, losses_are_public: bool) -> SessionFacts:
    return replace(
        session,
        num_losses=session.num_losses if losses_are_public else None,
        decode_iterations=None,
        seconds={},
    )


def _provenance(node: NodeProvenance) -> NodeProvenance:
    versions = {name: node.values[name] for name in PUBLIC_PROVENANCE if name in node.values}
    return replace(node, values=versions, configuration=None)
