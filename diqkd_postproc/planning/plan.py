"""Choosing the parameters of a run, and what to expect of it.

Only the key length is a matter of security, and `security` proves it for whatever is chosen here. The choices
serve an honest link with independent rounds: every test round is lost with probability (4 - S)/8, every key
round wrong with probability Q. Under that model the probabilities of an abort are exact binomial tails.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from scipy.stats import binom

from diqkd_postproc.key_store.initial_key import segment_sizes
from diqkd_postproc.planning.design import (
    MAX_NUM_ROUNDS,
    check_design,
    design_parameters,
    estimated_key_length,
    minimum_rounds,
    shannon_limit,
    smallest_sufficient,
    syndrome_length,
)
from diqkd_postproc.privacy_amplification import seed_bits_for
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.parameters import BoundName, ExtractorName, ProofName, ProtocolParameters
from diqkd_postproc.security.key_length import KeyLength
from diqkd_postproc.security.proofs import key_length_of

GRID_BITS = 8
"""Test probabilities are chosen among k/2^8: eight random bits a round tell Bob whether to test."""

HERALD_RATE = 100.0
"""Heralds a second of the published link."""

MAX_REFINEMENTS = 4

TYPICAL_EFFICIENCY = 1.05
"""Syndrome length of the shipped codes in units of the Shannon limit, to begin a search with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What is known of the link, and how the run is to be secured.

    soundness_error: eps_snd. syndrome_bits: m; or syndrome_efficiency: m in units of the Shannon limit; both
    None for eq. 23. completeness_error: chance that the Bell test of an honest run fails; None for three
    standard deviations (eqs. 24 and 25). max_voided: rounds that may be voided, a bit of key each.
    """

    chsh_score: float = 2.64
    qber: float = 0.018
    soundness_error: float = 1e-10
    syndrome_bits: int | None = None
    syndrome_efficiency: float | None = None
    proof: ProofName = "paper"
    bound: BoundName | None = None
    extractor: ExtractorName = "trevisan"
    completeness_error: float | None = None
    max_voided: int = 0

    def __post_init__(self) -> None:
        if self.syndrome_efficiency is None:
            return
        if self.syndrome_bits is not None:
            raise ParameterError("give syndrome_bits or syndrome_efficiency, not both")
        if not 1.0 < self.syndrome_efficiency < 10.0:
            raise ParameterError(
                f"syndrome_efficiency={self.syndrome_efficiency} is outside (1, 10): below the Shannon limit "
                "nothing can be corrected; 1.05 is a good code, eq. 23 comes to 1.26 in the published run"
            )

    def syndrome_length(self, num_rounds: int, gamma: Fraction) -> int:
        """m for a run of this size."""
        if self.syndrome_bits is not None:
            return self.syndrome_bits
        if self.syndrome_efficiency is None:
            return syndrome_length(num_rounds, gamma, self.chsh_score, self.qber)
        limit = num_rounds * shannon_limit(gamma, self.chsh_score, self.qber)
        return min(max(1, math.ceil(self.syndrome_efficiency * limit)), num_rounds - 1)

    @property
    def _security(self) -> dict[str, Any]:
        return {
            "proof": self.proof,
            "bound": self.bound,
            "extractor": self.extractor,
            "completeness_error": self.completeness_error,
            "max_voided": self.max_voided,
        }

    def parameters(self, num_rounds: int, gamma: Fraction) -> ProtocolParameters:
        """Parameters of a run of `num_rounds` with test probability `gamma`; the key length is proven."""
        return design_parameters(
            num_rounds,
            gamma,
            self.chsh_score,
            self.qber,
            self.soundness_error,
            self.syndrome_length(num_rounds, gamma),
            **self._security,
        )

    def estimate(self, num_rounds: int, gamma: Fraction) -> float:
        """Bits of key to expect, negative where there is none; fast, not proven."""
        return estimated_key_length(
            num_rounds,
            gamma,
            self.chsh_score,
            self.qber,
            self.soundness_error,
            self.syndrome_length(num_rounds, gamma),
            **self._security,
        )

    def minimum_rounds(self, gamma: Fraction, key_bits: int = 1) -> int | None:
        """Fewest rounds that give `key_bits`; None if no number does. Of a fixed syndrome_bits, eq. 23's."""
        if self.syndrome_efficiency is None:
            return minimum_rounds(
                gamma, self.chsh_score, self.qber, self.soundness_error, key_bits, **self._security
            )
        return smallest_sufficient(
            lambda num_rounds: self.estimate(num_rounds, gamma),
            lambda num_rounds: self.parameters(num_rounds, gamma).key_bits >= key_bits,
            key_bits,
        )

    def best_gamma(self, num_rounds: int, start: Fraction | None = None) -> Fraction:
        """The test probability k/2^8 with the longest key.

        With a fixed syndrome, among those whose outcomes it can correct. `start`: where the search begins.
        """

        def length(numerator: int) -> float:
            gamma = Fraction(numerator, 2**GRID_BITS)
            limit = num_rounds * shannon_limit(gamma, self.chsh_score, self.qber)
            if self.syndrome_bits is not None and self.syndrome_bits < limit:
                return limit * -1e6
            return self.estimate(num_rounds, gamma)

        first = 13 if start is None else int(start * 2**GRID_BITS)
        return Fraction(_climb(length, first, 2**GRID_BITS - 1), 2**GRID_BITS)

    def smallest_run(self, key_bits: int = 1) -> tuple[int, Fraction] | None:
        """Fewest rounds that give `key_bits`, and their best test probability; None if no number does."""
        gamma = self.best_gamma(MAX_NUM_ROUNDS)
        num_rounds = self.minimum_rounds(gamma, key_bits)
        for _ in range(MAX_REFINEMENTS):
            if num_rounds is None:
                return None
            better = self.best_gamma(num_rounds, gamma)
            if better == gamma:
                break
            fewer = self.minimum_rounds(better, key_bits)
            if fewer is None or fewer >= num_rounds:
                break
            gamma, num_rounds = better, fewer
        return None if num_rounds is None else (num_rounds, gamma)


def _climb(value: Callable[[int], float], start: int, largest: int) -> int:
    """Where a function of one peak is largest on 1 ... largest: steps that double, then halve."""
    known: dict[int, float] = {}

    def at(point: int) -> float:
        if point not in known:
            known[point] = value(point) if 1 <= point <= largest else -math.inf
        return known[point]

    best, step = min(max(start, 1), largest), 1
    while True:
        ahead = max((best - step, best + step), key=at)
        if at(ahead) <= at(best):
            break
        best, step = ahead, 2 * step
    while step > 1:
        step //= 2
        best = max((best, best - step, best + step), key=at)
    while (ahead := max((best - 1, best + 1), key=at)) and at(ahead) > at(best):
        best = ahead
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Parameters of a run and what to expect of it.

    minimum_rounds: only where there is no key: rounds that would give one (and their test probability), None
    where no number would. chosen_gamma: whether the test probability was optimised. notes: what the user
    should know besides. The failure rate of a code is not computed but measured: `diqkd codes evaluate`.
    """

    parameters: ProtocolParameters
    key_length: KeyLength
    herald_rate: float
    chosen_gamma: bool
    minimum_rounds: tuple[int, Fraction] | None = None
    notes: tuple[str, ...] = ()

    @property
    def losing_probability(self) -> float:
        """Probability that a round of the honest link is a lost test round."""
        return float(self.parameters.gamma) * self.parameters.design_test_error

    def bell_abort(self, chsh_score: float) -> float:
        """Probability that a link of this CHSH score loses more test rounds than are accepted."""
        losing = float(self.parameters.gamma) * (4.0 - chsh_score) / 8.0
        return float(binom.sf(self.parameters.max_losses, self.parameters.num_rounds, losing))

    @property
    def test_count_abort(self) -> float | None:
        """Probability of more than N* test rounds; None unless the proof limits them."""
        if self.parameters.max_tests is None:
            return None
        gamma = float(self.parameters.gamma)
        return float(binom.sf(self.parameters.max_tests, self.parameters.num_rounds, gamma))

    @property
    def efficiency(self) -> float:
        """Syndrome length in units of the Shannon limit; below 1 no code can correct the outcomes."""
        p = self.parameters
        limit = p.num_rounds * shannon_limit(p.gamma, p.design_chsh_score, p.design_qber)
        return p.syndrome_bits / limit if limit else math.inf

    @property
    def duration_s(self) -> float:
        """Seconds of acquisition without pauses."""
        return self.parameters.num_rounds / self.herald_rate

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and for the table."""
        p = self.parameters
        initial_key = sum(segment_sizes(p).values())
        answer: dict[str, Any] = {
            "proof": p.proof,
            "bound": p.bound,
            "extractor": p.extractor,
            "proof_status": p.proof_status,
            "key_bits": p.key_bits,
            "key_rate": p.key_bits / p.num_rounds,
            "num_rounds": p.num_rounds,
            "gamma": f"{p.test_numerator}/{2**p.test_bits}",
            "omega_threshold": p.omega_threshold,
            "max_losses": p.max_losses,
            "max_tests": p.max_tests,
            "max_voided": p.max_voided,
            "syndrome_bits": p.syndrome_bits,
            "syndrome_efficiency": self.efficiency,
            "soundness_error": p.soundness_error,
            "design_chsh_score": p.design_chsh_score,
            "design_qber": p.design_qber,
            "seed_bits": seed_bits_for(p),
            "initial_key_bits": initial_key,
            "net_gain_bits": p.key_bits - 256 if p.key_bits else 0,
            "duration_s": self.duration_s,
            "herald_rate": self.herald_rate,
            "qrng_bits": {
                role: bits * p.num_rounds for role, bits in sorted(p.setting_bits_per_round.items())
            },
            "abort_probabilities": {
                "bell_test": self.bell_abort(p.design_chsh_score),
                "test_count": self.test_count_abort,
                "error_correction": None,
            },
            "certificate": self.key_length.certificate,
            "terms": dict(self.key_length.terms),
            "analysis": dict(self.key_length.analysis),
            "notes": list(self.notes),
        }
        if not p.key_bits:
            found = self.minimum_rounds
            answer["minimum_rounds"] = found[0] if found else None
            answer["minimum_rounds_gamma"] = f"{found[1].numerator}/{found[1].denominator}" if found else None
        return answer


def make_plan(
    link: Link,
    *,
    num_rounds: int | None = None,
    key_bits: int | None = None,
    gamma: Fraction | None = None,
    herald_rate: float = HERALD_RATE,
    in_balls: bool = False,
    shortest_syndrome: bool = False,
) -> Plan:
    """A plan for `num_rounds`, or for as many as `key_bits` need; gamma is optimised where it is None.

    in_balls: confirm the key length in ball arithmetic, which needs python-flint. shortest_syndrome: take
    the shortest that the shipped codes serve, instead of eq. 23; found in a few seconds. Raises
    ParameterError for values outside their domain, where no number of rounds gives `key_bits`, and where no
    shipped code serves a given syndrome length.
    """
    if (num_rounds is None) == (key_bits is None):
        raise ParameterError("give either the number of rounds or the key bits to aim at")
    if not 0 < herald_rate < math.inf:
        raise ParameterError(f"herald_rate={herald_rate} is not positive; give heralds a second, e.g. 100")
    check_design(
        num_rounds or MAX_NUM_ROUNDS,
        gamma if gamma is not None else Fraction(13, 256),
        link.chsh_score,
        link.qber,
        link.soundness_error,
        link.syndrome_bits,
    )
    chosen = gamma is None
    if shortest_syndrome:
        link = _with_shortest_syndrome(link, num_rounds, key_bits, gamma)
    if key_bits is not None:
        num_rounds, gamma = _rounds_for(link, key_bits, gamma)
    assert num_rounds is not None
    if gamma is None:
        gamma = link.best_gamma(num_rounds)
    parameters = link.parameters(num_rounds, gamma)
    notes: tuple[str, ...] = ()
    if parameters.key_bits:
        link, notes = served(link, num_rounds, gamma)
        if notes:
            parameters = link.parameters(num_rounds, gamma)
    length = key_length_of(parameters)
    if in_balls and parameters.key_bits:
        from diqkd_postproc.security.ball_arithmetic import confirm

        length = confirm(parameters, length)
        parameters = parameters.model_copy(update={"key_bits": min(length.bits, parameters.key_bits)})
    minimum = None
    if not parameters.key_bits:
        minimum = dataclasses.replace(link, syndrome_bits=None).smallest_run()
    return Plan(
        parameters=parameters,
        key_length=length,
        herald_rate=herald_rate,
        chosen_gamma=chosen,
        minimum_rounds=minimum,
        notes=notes,
    )


def served(link: Link, num_rounds: int, gamma: Fraction) -> tuple[Link, tuple[str, ...]]:
    """The link with a syndrome that a shipped code serves, and what had to be changed for that.

    A length that follows eq. 23 is raised to the shortest served where it is not, which happens on links that
    eq. 23 was not made for; one that was asked for is refused by ParameterError.
    """
    from diqkd_postproc.reconciliation.ensemble_choice import choose_ensemble, minimum_syndrome_bits

    bits, losing = link.syndrome_length(num_rounds, gamma), (4.0 - link.chsh_score) / 8.0
    try:
        choose_ensemble(num_rounds, bits, float(gamma), link.qber, losing)
    except ParameterError:
        if link.syndrome_bits is not None or link.syndrome_efficiency is not None:
            raise
        try:
            shortest = minimum_syndrome_bits(num_rounds, float(gamma), link.chsh_score, link.qber)
        except ParameterError as error:
            return link, (str(error),)
        note = f"eq. 23 gives a syndrome of {bits} bits, which no shipped code serves; this is the shortest"
        return dataclasses.replace(link, syndrome_bits=shortest), (note,)
    return link, ()


def _with_shortest_syndrome(
    link: Link, num_rounds: int | None, key_bits: int | None, gamma: Fraction | None
) -> Link:
    """The link with the efficiency of the shipped codes where its run will be; rounded up to 1e-4."""
    from diqkd_postproc.reconciliation.ensemble_choice import minimum_syndrome_bits

    if link.syndrome_bits is not None or link.syndrome_efficiency is not None:
        raise ParameterError("give the syndrome's length, or ask for the shortest, not both")
    rough = dataclasses.replace(link, syndrome_efficiency=TYPICAL_EFFICIENCY)
    if key_bits is not None:
        num_rounds, gamma = _rounds_for(rough, key_bits, gamma)
    assert num_rounds is not None
    if gamma is None:
        gamma = rough.best_gamma(num_rounds)
    shortest = minimum_syndrome_bits(num_rounds, float(gamma), link.chsh_score, link.qber)
    efficiency = shortest / (num_rounds * shannon_limit(gamma, link.chsh_score, link.qber))
    return dataclasses.replace(link, syndrome_efficiency=math.ceil(1e4 * efficiency + 1) / 1e4)


def _rounds_for(link: Link, key_bits: int, gamma: Fraction | None) -> tuple[int, Fraction]:
    if link.syndrome_bits is not None:
        raise ParameterError("a fixed syndrome_bits needs a fixed number of rounds; leave one of them out")
    if gamma is None:
        found = link.smallest_run(key_bits)
    else:
        num_rounds = link.minimum_rounds(gamma, key_bits)
        found = None if num_rounds is None else (num_rounds, gamma)
    if found is None:
        raise ParameterError(
            f"no key of {key_bits} bits is possible within {MAX_NUM_ROUNDS:,} rounds on a link with "
            f"S = {link.chsh_score:g}, Q = {link.qber:g}; improve the link, or ask for fewer bits"
        )
    return found
