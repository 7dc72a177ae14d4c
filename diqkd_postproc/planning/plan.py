"""Plan of a run: its parameters, and what to expect of it.

Only the key length is a matter of security, and `security` proves it for whatever is chosen here. The choices
serve an honest link with independent rounds: every test round is lost with probability (4 - S)/8, every key
round wrong with probability Q. Under that model the probabilities of an abort are exact binomial tails.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.special import roots_hermitenorm
from scipy.stats import binom

from diqkd_postproc.key_store.initial_key import segment_sizes
from diqkd_postproc.link.statistics import Estimate
from diqkd_postproc.planning.design import MAX_NUM_ROUNDS, shannon_limit
from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.privacy_amplification import seed_bits_for
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.length_rule import LengthRule
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.protocol.roles import lost_test_probability
from diqkd_postproc.reconciliation.ensemble import equivalent_qber
from diqkd_postproc.security.certification import confirmed
from diqkd_postproc.security.key_length import KeyLength
from diqkd_postproc.security.link_counts import LinkCounts
from diqkd_postproc.security.proofs import key_length_of

HERALD_RATE = 100.0
"""Heralds a second of the published link."""

QUADRATURE_POINTS = 41
"""Nodes of the Gauss-Hermite average over a measured score's uncertainty."""

MAX_LENGTH_REFINEMENTS = 4

TYPICAL_EFFICIENCY = 1.05
"""Syndrome length of the shipped codes in units of the Shannon limit, to begin a search with."""


UNKNOWN_FAILURE_RATE = (
    "no campaign says how often error correction fails here (fewer than 10,000 rounds, a QBER below 0.3 %, "
    "or a syndrome nearer to the code's threshold than was measured); `diqkd codes evaluate` measures it"
)


def failure_probability_of(parameters: ProtocolParameters) -> float | None:
    """See `reconciliation.failure_rate`, which takes its time to import."""
    from diqkd_postproc.reconciliation.failure_rate import failure_probability

    return failure_probability(parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Parameters of a run and what to expect of it.

    minimum_rounds: only where there is no key: rounds that would give one (and their test probability), None
    where no number would. chosen_gamma: whether the test probability was optimised. notes: what the user
    should know besides.
    """

    parameters: ProtocolParameters
    key_length: KeyLength
    herald_rate: float
    chosen_gamma: bool
    minimum_rounds: tuple[int, Fraction] | None = None
    notes: tuple[str, ...] = ()

    @property
    def losing_probability(self) -> float:
        """Probability that a round of the honest link is a lost test round, gamma (4 - S) / 8.

        S is that of the design point.
        """
        return float(self.parameters.gamma) * self.parameters.design_test_error

    def bell_abort(self, chsh_score: float) -> float:
        """Probability that a link of this CHSH score loses more test rounds than are accepted.

        The exact tail of Bin(n, gamma (4 - S) / 8) beyond L; where the length follows from the counts, the
        probability that they make no key.
        """
        rule = self.parameters.length_rule
        if rule is not None:
            return self._link(chsh_score).no_key_probability(rule)
        losing = float(self.parameters.gamma) * lost_test_probability(chsh_score)
        return float(binom.sf(self.parameters.max_losses, self.parameters.num_rounds, losing))

    def mean_bell_abort(self, chsh_score: Estimate) -> float:
        """The same for a measured CHSH score, averaged over its uncertainty."""
        nodes, weights = roots_hermitenorm(QUADRATURE_POINTS)
        scores = np.clip(chsh_score.value + chsh_score.standard_error * nodes, -4.0, 4.0)
        aborts = [self.bell_abort(float(score)) for score in scores]
        return min(1.0, float(np.dot(weights, aborts)) / math.sqrt(2 * math.pi))

    def _link(self, chsh_score: float) -> LinkCounts:
        return LinkCounts.of_link(self.parameters.num_rounds, self.parameters.gamma, chsh_score)

    @property
    def expected_key_bits(self) -> int:
        """Length of the key at the mean counts of the design link, first increment, no late losses; or the
        fixed one."""
        rule, p = self.parameters.length_rule, self.parameters
        if rule is None or rule.length == "fixed":
            return p.key_bits
        return max(0, min(p.key_bits, math.floor(self._link(p.design_chsh_score).mean_bits(rule))))

    def rule_to_dict(self, counts: ObservedCounts | None = None) -> dict[str, Any]:
        """The length rule, what it is expected to give and, of a finished run's `counts`, what it gives."""
        rule, p = self.parameters.length_rule, self.parameters
        if rule is None:
            return {}
        link = self._link(p.design_chsh_score)
        answer: dict[str, Any] = {
            "constant_bits": rule.constant_bits,
            "bits_per_loss": float(rule.free.kappa),
            "bits_per_test": float(rule.free.eta),
            "alpha_minus_one": float(rule.free.excess_order),
            "gm1": self.key_length.analysis["gm1"],
            "key_cap": p.key_bits,
            "increments": list(p.syndrome_totals),
            "expected_key_bits": self.expected_key_bits,
            "failure_probability": link.no_key_probability(rule),
        }
        if rule.length == "variable":
            answer["key_bits_deviation"] = link.deviation_bits(rule)
            answer["key_bits_5_percent"] = max(0, link.quantile_bits(rule))
        if counts is not None:
            sent = p.syndrome_bits if counts.syndrome_sent is None else counts.syndrome_sent
            found = (counts.num_losses, counts.num_tests, counts.late_losses)
            answer["key_bits"] = rule.key_bits(*found, sent)
            answer["observed"] = dataclasses.asdict(counts) | {"syndrome_sent": sent}
            answer["reason"] = None if answer["key_bits"] else _no_key_reason(rule, counts, sent)
        return answer

    @property
    def test_count_abort(self) -> float | None:
        """Probability of more than N* test rounds.

        None unless the proof limits them, as `counted` does.
        """
        if self.parameters.max_tests is None:
            return None
        gamma = float(self.parameters.gamma)
        return float(binom.sf(self.parameters.max_tests, self.parameters.num_rounds, gamma))

    @property
    def error_correction_abort(self) -> float | None:
        """Probability that error correction fails, from above; None where no campaign says anything."""
        return failure_probability_of(self.parameters) if self.parameters.key_bits else None

    @property
    def efficiency(self) -> float:
        """Syndrome length in units of the Shannon limit (eq. 17).

        Below 1 no code can correct the outcomes; eq. 23 comes to 1.26 in the published run.
        """
        p = self.parameters
        limit = p.num_rounds * shannon_limit(
            p.gamma, p.design_chsh_score, p.design_qber, p.design_second_qber
        )
        return p.syndrome_bits / limit if limit else math.inf

    @property
    def duration_s(self) -> float:
        """Seconds of acquisition without pauses, at the herald rate of the plan.

        Calibrations and reloading of ions come on top.
        """
        return self.parameters.num_rounds / self.herald_rate

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and for the table of `diqkd plan`.

        Fractions are written as text, durations in seconds, lengths in bits.
        """
        p = self.parameters
        initial_key = sum(segment_sizes(p).values())
        answer: dict[str, Any] = {
            "protocol": p.protocol,
            "proof": p.proof,
            "bound": p.bound,
            "extractor": p.extractor,
            "proof_status": p.proof_status,
            "length": p.length,
            "key_bits": self.expected_key_bits,
            "expected_key_bits": self.expected_key_bits,
            "key_rate": self.expected_key_bits / p.num_rounds,
            "num_rounds": p.num_rounds,
            "gamma": f"{p.test_numerator}/{2**p.test_bits}",
            "omega_threshold": p.omega_threshold,
            "max_losses": p.max_losses,
            "max_tests": p.max_tests,
            "max_late_losses": p.max_late_losses,
            "syndrome_bits": p.syndrome_bits,
            "syndrome_efficiency": self.efficiency,
            "soundness_error": p.soundness_error,
            "design_chsh_score": p.design_chsh_score,
            "design_qber": p.design_qber,
            "design_second_qber": p.design_second_qber,
            "seed_bits": seed_bits_for(p),
            "initial_key_bits": initial_key,
            "net_gain_bits": self.expected_key_bits - 256 if p.key_bits else 0,
            "duration_s": self.duration_s,
            "herald_rate": self.herald_rate,
            "qrng_bits": {
                role: bits * p.num_rounds for role, bits in sorted(p.random_bits_per_round.items())
            },
            "abort_probabilities": {
                "bell_test": self.bell_abort(p.design_chsh_score),
                "test_count": self.test_count_abort,
                "error_correction": self.error_correction_abort,
            },
            "certificate": self.key_length.certificate,
            "terms": dict(self.key_length.terms),
            "analysis": dict(self.key_length.analysis),
            "notes": list(self.notes),
            **self.rule_to_dict(),
        }
        if not p.key_bits:
            found = self.minimum_rounds
            answer["minimum_rounds"] = found[0] if found else None
            answer["minimum_rounds_gamma"] = f"{found[1].numerator}/{found[1].denominator}" if found else None
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedCounts:
    """Public counts of a finished run: lost rounds k, test rounds N_t, late losses v, syndrome m_j sent (None
    for m_1)."""

    num_losses: int
    num_tests: int
    late_losses: int = 0
    syndrome_sent: int | None = None


def _no_key_reason(rule: LengthRule, counts: ObservedCounts, sent: int) -> str:
    """Why these counts make no key."""
    if counts.late_losses > rule.max_late_losses:
        return f"{counts.late_losses} late losses are above the limit of {rule.max_late_losses}"
    if counts.num_losses > rule.max_losses:
        return f"{counts.num_losses} lost rounds are above the limit of {rule.max_losses}"
    most = rule.most_losses(counts.num_tests, counts.late_losses, sent)
    if most < 0:
        return "no number of losses makes a key here"
    return f"{counts.num_losses} rounds were lost; up to {most} make a key"


def make_plan(
    point: DesignPoint,
    *,
    key_bits: int | None = None,
    optimise_gamma: bool = False,
    herald_rate: float = HERALD_RATE,
    in_balls: bool = False,
    shortest_syndrome: bool = False,
) -> Plan:
    """Parameters of a run at a design point, and what to expect of it.

    Args:
        point: the link, the size of the run and the proof of its key.
        key_bits: key to aim at; the fewest rounds that give it then replace `point.num_rounds`.
        optimise_gamma: replace `point.gamma` by the k/2^8 with the longest key, or with the fewest rounds.
        herald_rate: heralds a second, for the duration of the run.
        in_balls: confirm the key length in ball arithmetic, which needs python-flint.
        shortest_syndrome: take the shortest syndrome that the shipped codes correct, instead of eq. 23;
            found in a few seconds.

    Raises ParameterError for values outside their domain, where no number of rounds gives `key_bits`, and
    where no shipped code corrects errors with a given syndrome length.
    """
    if not 0 < herald_rate < math.inf:
        raise ParameterError(f"herald_rate={herald_rate} is not positive; give heralds a second, e.g. 100")
    if key_bits is None:
        point.check_size()
    elif point.syndrome_bits is not None:
        raise ParameterError("a fixed syndrome_bits needs a fixed number of rounds; leave one of them out")
    if shortest_syndrome:
        point = _with_shortest_syndrome(point, key_bits, optimise_gamma)
    else:
        point = _sized(point, key_bits, optimise_gamma)
    parameters = point.parameters()
    notes: tuple[str, ...] = ()
    if parameters.key_bits and not point.is_scheduled:
        point, notes = _with_correctable_syndrome(point)
        if notes:
            parameters = point.parameters()
    length = key_length_of(parameters)
    if parameters.key_bits and failure_probability_of(parameters) is None:
        notes += (UNKNOWN_FAILURE_RATE,)
    if in_balls and parameters.key_bits:
        parameters, length = confirmed(parameters, length)
    minimum = None
    if not parameters.key_bits:
        smallest = dataclasses.replace(point, syndrome_bits=None).smallest_run()
        minimum = (smallest.num_rounds, smallest.gamma) if smallest else None
    return Plan(
        parameters=parameters,
        key_length=length,
        herald_rate=herald_rate,
        chosen_gamma=optimise_gamma,
        minimum_rounds=minimum,
        notes=notes,
    )


def _sized(point: DesignPoint, key_bits: int | None, optimise_gamma: bool) -> DesignPoint:
    """The point with the rounds that `key_bits` need and the best test probability, if requested."""
    if key_bits is None:
        return dataclasses.replace(point, gamma=point.best_gamma()) if optimise_gamma else point
    if optimise_gamma:
        found = point.smallest_run(key_bits)
    else:
        num_rounds = point.minimum_rounds(key_bits)
        found = dataclasses.replace(point, num_rounds=num_rounds) if num_rounds else None
    if found is None:
        raise ParameterError(
            f"no key of {key_bits} bits is possible within {MAX_NUM_ROUNDS:,} rounds on a link with "
            f"S = {point.chsh_score:g}, Q = {point.qber:g}; improve the link, or aim at fewer bits"
        )
    return found


def _with_correctable_syndrome(point: DesignPoint) -> tuple[DesignPoint, tuple[str, ...]]:
    """The point with a syndrome that a shipped code can use, and a note on what had to be changed for that.

    A length that follows eq. 23 is raised to the shortest possible one where it is too short, which happens
    on links that eq. 23 was not made for; one that was given is refused by ParameterError.
    """
    from diqkd_postproc.reconciliation.ensemble_choice import choose_ensemble

    bits, losing = point.syndrome_length, lost_test_probability(point.chsh_score)
    gamma = float(point.gamma)
    try:
        qber = equivalent_qber(point.qber, point.second_qber)
        choose_ensemble(point.num_rounds, bits, gamma, qber, losing)
    except ParameterError:
        if point.syndrome_bits is not None or point.syndrome_efficiency is not None:
            raise
        try:
            shortest = _shortest_syndrome(point)
        except ParameterError as error:
            return point, (str(error),)
        note = f"eq. 23 gives a syndrome of {bits} bits, which no shipped code serves; this is the shortest"
        return dataclasses.replace(point, syndrome_bits=shortest), (note,)
    return point, ()


def _with_shortest_syndrome(point: DesignPoint, key_bits: int | None, optimise_gamma: bool) -> DesignPoint:
    """The point, sized, with the shortest syndrome that the shipped codes correct there.

    Size, test probability and length depend on each other: the efficiency is raised until it suffices at the
    size that follows from it.
    """
    if point.syndrome_bits is not None or point.syndrome_efficiency is not None:
        raise ParameterError("give the syndrome's length, or choose the shortest, not both")
    efficiency, shortest = TYPICAL_EFFICIENCY, 0
    for attempt in range(MAX_LENGTH_REFINEMENTS):
        found = _sized(dataclasses.replace(point, syndrome_efficiency=efficiency), key_bits, optimise_gamma)
        shortest = _shortest_syndrome(found)
        if attempt and found.syndrome_length >= shortest:
            return found
        needed = shortest / (found.num_rounds * found.shannon_limit)
        efficiency = math.ceil(1e4 * needed) / 1e4
    return dataclasses.replace(found, syndrome_efficiency=None, syndrome_bits=shortest)


def _shortest_syndrome(point: DesignPoint) -> int:
    from diqkd_postproc.reconciliation.ensemble_choice import minimum_syndrome_bits

    qber = equivalent_qber(point.qber, point.second_qber)
    return minimum_syndrome_bits(point.num_rounds, float(point.gamma), point.chsh_score, qber)
