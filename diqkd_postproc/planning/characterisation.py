"""S and Q of a link from a characterisation run, with what the finite run leaves uncertain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import roots_hermitenorm

from diqkd_postproc.link.characterisation import check_shared
from diqkd_postproc.link.statistics import Estimate, chsh_score, qber
from diqkd_postproc.planning.plan import Plan
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.records.sealed_record import RoundRecord
from diqkd_postproc.security.min_tradeoff import MAX_CHSH_SCORE

QUADRATURE_POINTS = 41


@dataclass(frozen=True, slots=True)
class Characterisation:
    """CHSH score and QBER as measured, with standard errors."""

    chsh_score: Estimate
    qber: Estimate

    def design_point(self, deviations: float) -> tuple[float, float]:
        """(S, Q) worse than measured by so many standard errors, kept inside their domain."""
        score = self.chsh_score.value - deviations * self.chsh_score.standard_error
        error = self.qber.value + deviations * self.qber.standard_error
        if score <= 2.0:
            raise ParameterError(
                f"the characterisation run gives S = {self.chsh_score.value:.4f} +- "
                f"{self.chsh_score.standard_error:.4f}, not {deviations:g} deviations above 2; take more "
                "rounds or improve the link"
            )
        return min(score, MAX_CHSH_SCORE), min(max(error, 0.0), 0.5)

    def bell_abort(self, plan: Plan) -> float:
        """Probability that the Bell test of the plan fails, averaged over the uncertainty of S."""
        nodes, weights = roots_hermitenorm(QUADRATURE_POINTS)
        scores = self.chsh_score.value + self.chsh_score.standard_error * nodes
        aborts = [plan.bell_abort(min(max(float(score), -4.0), 4.0)) for score in scores]
        return min(1.0, float(np.dot(weights, aborts)) / math.sqrt(2 * math.pi))


def characterise(first: Path, second: Path) -> Characterisation:
    """Compare both nodes' records of a characterisation run, whose outcomes may be shared.

    Raises ParameterError unless the two records are Alice's and Bob's of one run.
    """
    alice, bob = sorted((RoundRecord.read(first), RoundRecord.read(second)), key=lambda record: record.role)
    try:
        check_shared(alice, bob)
    except ParameterError as error:
        raise ParameterError(f"{first}, {second}: {error}") from None
    arrays = (alice.setting, bob.setting, alice.outcome, bob.outcome)
    return Characterisation(chsh_score(*arrays), qber(*arrays))
