"""A characterisation run as a whole: what both nodes' records say about the link (Fig. 3, SI Table S4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diqkd_postproc.link.characterisation import check_shared, default_window
from diqkd_postproc.link.statistics import (
    Estimate,
    MovingWindows,
    OutcomeProbabilities,
    chsh_score,
    moving_windows,
    outcome_probabilities,
    qber,
    winning_probability,
)
from diqkd_postproc.link.timeline import Timeline, elapsed_seconds, timeline_of
from diqkd_postproc.records.sealed_record import RoundRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCharacterisation:
    """S, Q and P(A, B | X, Y) of the whole run, moving averages, and when its heralds came.

    elapsed_s: (n,) float64, time of every herald since the first, by the clock of one node.
    """

    run_id: str
    num_rounds: int
    num_lost: int
    chsh_score: Estimate
    qber: Estimate
    winning_probability: Estimate
    probabilities: OutcomeProbabilities
    windows: MovingWindows
    timeline: Timeline
    elapsed_s: npt.NDArray[np.float64]
    herald_patterns: dict[str, int]
    provenance: dict[str, Any]


def characterise_link(
    alice: RoundRecord, bob: RoundRecord, window: int | None = None, timed: RoundRecord | None = None
) -> LinkCharacterisation:
    """Put both records of a characterisation run together.

    window: rounds of the moving averages. timed: the record whose clock and gaps are used; default: Bob's,
    or Alice's where Bob's was received from him and has none. Raises ParameterError for a run that could
    make a key or lacks a setting, StorageError where the records do not fit.
    """
    check_shared(alice, bob)
    if timed is None:
        timed = bob if "gaps" in bob.attributes or "gaps" not in alice.attributes else alice
    shared = (alice.setting, bob.setting, alice.outcome, bob.outcome)
    num_rounds = alice.parameters.num_rounds
    patterns, counts = np.unique(timed.herald_pattern[timed.herald_pattern > 0], return_counts=True)
    return LinkCharacterisation(
        run_id=alice.run_id,
        num_rounds=num_rounds,
        num_lost=int(np.count_nonzero(alice.lost | bob.lost)),
        chsh_score=chsh_score(*shared),
        qber=qber(*shared),
        winning_probability=winning_probability(*shared),
        probabilities=outcome_probabilities(*shared),
        windows=moving_windows(*shared, window=window or default_window(num_rounds)),
        timeline=timeline_of(timed),
        elapsed_s=elapsed_seconds(timed),
        herald_patterns={
            f"{pattern:04b}": int(count) for pattern, count in zip(patterns, counts, strict=True)
        },
        provenance={"role": timed.role, "run_id": timed.run_id} | timed.attributes.get("provenance", {}),
    )
