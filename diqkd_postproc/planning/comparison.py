"""Key lengths that other theorems would have made of a finished run's public counts."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import NamedTuple

from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.proof_status import PROOF_STATUS


class ComparedLength(NamedTuple):
    """A theorem, the bits of key it makes of a run, and how far it has been reviewed."""

    name: str
    key_bits: int
    status: str


@cache
def lengths_of_run(
    parameters: ProtocolParameters, num_losses: int, num_tests: int, late_losses: int
) -> tuple[ComparedLength, ...]:
    """The published theorem, a fixed length and the run's variable one, each as designed before the run.

    Thresholds and fixed lengths are those of the run's design point with its syndrome; a test that the counts
    fail makes no key. parameters: of a run with a variable length. `late-type` has no published theorem.
    """
    rule = parameters.length_rule
    assert rule is not None
    point = DesignPoint(
        parameters.num_rounds,
        parameters.gamma,
        parameters.design_chsh_score,
        parameters.design_qber,
        parameters.soundness_error,
        parameters.syndrome_bits,
        proof="renyi",
        bound="exact",
        extractor=parameters.extractor,
        max_late_losses=late_losses,
        protocol=parameters.protocol,
        second_qber=parameters.design_second_qber,
    )
    counts = (num_losses, num_tests, late_losses, parameters.syndrome_bits)
    status = PROOF_STATUS["renyi"]
    fixed = point.parameters().length_rule
    assert fixed is not None
    found = [
        ComparedLength("fixed length", fixed.key_bits(*counts), status),
        ComparedLength("variable length", rule.key_bits(*counts), status),
    ]
    if parameters.protocol == "ordered":
        paper = dataclasses.replace(
            point, proof="paper", bound=None, extractor="trevisan", max_late_losses=0
        ).parameters()
        passes = num_losses <= paper.max_losses and late_losses == 0
        found.insert(
            0, ComparedLength("published theorem", paper.key_bits if passes else 0, PROOF_STATUS["paper"])
        )
    return tuple(found)
