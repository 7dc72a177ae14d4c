"""Design point of a run: the expected link, the size of the run and the proof that secures its key.

One value carries all of it from the command line to the proof, so that a search changes one field and leaves
the others. A design point is a choice for an honest link with independent rounds; whatever is chosen, the
key-length theorem of `proof` decides how much key is secure.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from fractions import Fraction
from typing import Any

from diqkd_postproc.planning.design import (
    MAX_NUM_ROUNDS,
    asymptotic_rate,
    design_threshold,
    exact_gamma,
    shannon_limit,
    smallest_sufficient,
    syndrome_length,
)
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.length_rule import FreeParameters, LengthKind
from diqkd_postproc.protocol.parameters import (
    BoundName,
    ExtractorName,
    ProofName,
    ProtocolName,
    ProtocolParameters,
)
from diqkd_postproc.protocol.roles import lost_test_probability
from diqkd_postproc.reconciliation.ensemble import equivalent_qber
from diqkd_postproc.security import paper, renyi
from diqkd_postproc.security.counted import test_limit
from diqkd_postproc.security.key_length import KeyLength
from diqkd_postproc.security.link_counts import LinkCounts
from diqkd_postproc.security.min_tradeoff import MAX_CHSH_SCORE
from diqkd_postproc.security.proofs import (
    check_combination,
    key_length_for,
    key_length_of,
    losses_accepted,
)
from diqkd_postproc.security.variable_design import design_key, estimated_key
from diqkd_postproc.security.variable_length import NUM_KEY_BASES, KeyCertificate, KeyProblem

PUBLISHED_ROUNDS = 1_500_000
PUBLISHED_GAMMA = Fraction(13, 256)
PUBLISHED_CHSH_SCORE, PUBLISHED_QBER = 2.64, 0.018

GRID_BITS = 8
"""Test probabilities are chosen among k/2^8: eight random bits a round decide whether Bob tests."""

ESTIMATE_ACCURACY = 0.5
"""Bits to which estimated key lengths find their optimum."""

MAX_REFINEMENTS = 4

LATE_LOSSES_OF_A_DAY = 2000
"""Late losses of six kills of one node, at up to 305 each (docs/reliability.md)."""

TYPICAL_THRESHOLD = 1.035
"""Efficiency at which density evolution decodes the shipped codes, for estimates."""


def proposed_late_losses(length: LengthKind, num_rounds: int) -> int:
    """`max_late_losses` of a run that shall outlast a day of crashes, where only late losses that happen cost
    a bit; else 0."""
    return min(LATE_LOSSES_OF_A_DAY, num_rounds // 100) if length == "variable" else 0


@dataclass(frozen=True, slots=True)
class DesignPoint:
    """Expected link, size and security of a run; the defaults are the published run.

    Args:
        num_rounds: n, the heralded rounds of the run.
        gamma: test probability k/2^b with b <= 16, exact.
        chsh_score: S of the honest link, in [2, 2 sqrt(2)].
        qber: Q of the honest link, a fraction in [0, 0.5].
        soundness_error: eps_snd of the key.
        syndrome_bits: m; None for `syndrome_efficiency`, or for eq. 23 where that is None too.
        syndrome_efficiency: m in units of the Shannon limit, in (1, 10).
        proof, bound, extractor: theorem and extractor, see `security.proofs`; bound None means `exact`
            for `renyi`.
        length: `variable` for a key length that follows from the public counts of the run.
        increments: further lengths of the syndrome, in bits, that Bob may request. A variable length whose
            syndrome is not given takes the schedule of `reconciliation.nested_code`.
        free_parameters: alpha, kappa, eta (and Lambda) of `exact`, `closed` and variable lengths; None for
            the best at the design link.
        completeness_error: probability that the Bell test of an honest run fails; None for the threshold at
            three standard deviations (eqs. 24 and 25).
        max_late_losses: rounds without an outcome of Alice's whose types may be public: a bit of key for each
            that is allowed, or, of a variable length, for each that happens.
        end_token: whether Alice waits for the optional third token, see docs/order.md.
        protocol: order of a round, see docs/order.md.
        second_qber: Q of the key rounds with x = 1, of protocol `late-type` only; None for `qber`.

    Raises ParameterError for a value outside its domain. The number of rounds and what must be below it are
    checked by `check_size`, which `key_length` and `parameters` call: an estimate is an extrapolation and may
    leave the range that can be run.
    """

    num_rounds: int = PUBLISHED_ROUNDS
    gamma: Fraction = PUBLISHED_GAMMA
    chsh_score: float = PUBLISHED_CHSH_SCORE
    qber: float = PUBLISHED_QBER
    soundness_error: float = 1e-10
    syndrome_bits: int | None = None
    _: KW_ONLY
    syndrome_efficiency: float | None = None
    proof: ProofName = "paper"
    bound: BoundName | None = None
    extractor: ExtractorName = "trevisan"
    completeness_error: float | None = None
    max_late_losses: int = 0
    end_token: bool = False
    protocol: ProtocolName = "ordered"
    second_qber: float | None = None
    length: LengthKind = "fixed"
    increments: tuple[int, ...] = ()
    free_parameters: FreeParameters | None = None

    def __post_init__(self) -> None:
        check_combination(self.proof, self.bound, self.extractor, self.protocol, self.length)
        if not self.has_rule and (self.increments or self.free_parameters is not None):
            raise ParameterError(
                "increments and free parameters belong to a variable length, and to the bounds 'exact' and "
                "'closed'; leave them out"
            )
        if self.protocol == "ordered":
            if self.second_qber is not None:
                raise ParameterError(
                    f"second_qber={self.second_qber} belongs to protocol 'late-type'; "
                    "'ordered' has one key basis"
                )
        elif self.second_qber is None:
            object.__setattr__(self, "second_qber", self.qber)
        object.__setattr__(self, "gamma", exact_gamma(self.gamma))
        if not 2.0 <= self.chsh_score <= MAX_CHSH_SCORE:
            raise ParameterError(
                f"chsh_score={self.chsh_score} is outside [2, 2 sqrt(2)]: below 2 nothing is certified, "
                "above 2 sqrt(2) no quantum device goes; give the score that a characterisation run measured"
            )
        if not 0.0 <= self.qber <= 0.5:
            raise ParameterError(
                f"qber={self.qber} is outside [0, 0.5]; above 0.5, let Bob invert his key outcomes"
            )
        if self.second_qber is not None and not 0.0 <= self.second_qber <= 0.5:
            raise ParameterError(f"second_qber={self.second_qber} is outside [0, 0.5]")
        paper.check_soundness(self.soundness_error)
        if self.syndrome_efficiency is None:
            return
        if self.syndrome_bits is not None:
            raise ParameterError("give syndrome_bits or syndrome_efficiency, not both")
        if not 1.0 < self.syndrome_efficiency < 10.0:
            raise ParameterError(
                f"syndrome_efficiency={self.syndrome_efficiency} is outside (1, 10): below the Shannon limit "
                "nothing can be corrected; 1.05 is a good code, eq. 23 comes to 1.26 in the published run"
            )

    def check_size(self) -> None:
        """Raise ParameterError unless a run of this many rounds can be made.

        The syndrome and the number of late losses have to be below it.
        """
        paper.check_rounds(self.num_rounds)
        if not 2 <= self.num_rounds <= MAX_NUM_ROUNDS:
            raise ParameterError(
                f"num_rounds={self.num_rounds} is outside [2, {MAX_NUM_ROUNDS}]: take more, or split it"
            )
        if self.syndrome_bits is not None and not 1 <= self.syndrome_bits < self.num_rounds:
            raise ParameterError(
                f"syndrome_bits={self.syndrome_bits} is outside [1, {self.num_rounds - 1}]; "
                "leave it out to follow eq. 23"
            )
        if not 0 <= self.max_late_losses < self.num_rounds:
            raise ParameterError(
                f"max_late_losses={self.max_late_losses} is outside [0, {self.num_rounds - 1}]; "
                "0 ends a run at its first late loss"
            )

    @property
    def shannon_limit(self) -> float:
        """Smallest syndrome of the honest link, bits a round (eq. 17)."""
        return shannon_limit(self.gamma, self.chsh_score, self.qber, self.second_qber)

    @property
    def syndrome_length(self) -> int:
        """Syndrome length m, bits: as given, as the efficiency says, or by eq. 23.

        At most one bit less than the number of rounds.
        """
        if self.syndrome_bits is not None:
            return self.syndrome_bits
        if self.syndrome_efficiency is None:
            return syndrome_length(self.num_rounds, self.gamma, self.chsh_score, self.qber, self.second_qber)
        limit = self.num_rounds * self.shannon_limit
        return min(max(1, math.ceil(self.syndrome_efficiency * limit)), self.num_rounds - 1)

    @property
    def is_scheduled(self) -> bool:
        """Whether the syndrome is sent in parts whose lengths follow from the link."""
        given = self.syndrome_bits is not None or self.syndrome_efficiency is not None
        return self.length == "variable" and not given and not self.increments

    @property
    def syndrome_totals(self) -> tuple[int, ...]:
        """m_1 < ... < m_J: length of the syndrome after each part, bits."""
        if not self.is_scheduled:
            return (self.syndrome_length, *self.increments)
        from diqkd_postproc.reconciliation.nested_code import schedule

        link = (self.num_rounds, float(self.gamma), self.chsh_score, self.qber, self.second_qber)
        return schedule(*link)

    @property
    def code_design(self) -> str | None:
        """Name of the best ensemble for a syndrome in parts, so that the parties need not search for it."""
        if not self.is_scheduled:
            return None
        from diqkd_postproc.reconciliation.nested_code import best_ensemble

        qber = equivalent_qber(self.qber, self.second_qber)
        return best_ensemble(float(self.gamma), qber, lost_test_probability(self.chsh_score))[0].name

    @property
    def has_rule(self) -> bool:
        """Whether the key length follows from a rule with free parameters (docs/proofs.md)."""
        return self.length == "variable" or self.round_bound in ("exact", "closed")

    @property
    def round_bound(self) -> BoundName | None:
        """The bound of one round that the proof uses; None of proofs without one."""
        if self.proof != "renyi":
            return None
        return self.bound or "exact"

    @property
    def link(self) -> LinkCounts:
        """The counts that the design link is expected to give."""
        return LinkCounts.of_link(self.num_rounds, self.gamma, self.chsh_score)

    def certificate(self) -> KeyCertificate:
        """Certificate of the free parameters, for points with `has_rule`.

        Raises ParameterError as `key_length`.
        """
        self.check_size()
        return design_key(self._problem(), self.link, self.free_parameters)

    def _problem(self) -> KeyProblem:
        return KeyProblem(
            num_rounds=self.num_rounds,
            gamma=self.gamma,
            soundness_error=self.soundness_error,
            syndrome_bits=self.syndrome_totals,
            max_losses=losses_accepted(self.num_rounds, self.gamma, self.omega_threshold),
            max_late_losses=self.max_late_losses,
            order=self.protocol,
            bound=self.round_bound or "exact",
            extractor=self.extractor,
            length=self.length,
        )

    @property
    def omega_threshold(self) -> float:
        """Winning probability from which the Bell test accepts.

        From the exact binomial tail where a completeness error is given, else by eqs. 24 and 25. Where the
        length follows from the counts, that of S = 2: a limit costs log2 of it, and a lower one would refuse
        runs that make a key.
        """
        if self.has_rule:
            return 0.75
        return design_threshold(self.num_rounds, self.gamma, self.chsh_score, self.completeness_error)

    def key_length(self) -> KeyLength:
        """Key that the proof certifies at this threshold and syndrome length, with every term of it.

        Raises ParameterError where `check_size` does.
        """
        if self.has_rule:
            return key_length_of(self.parameters())
        self.check_size()
        return self._key_length(paper.SEARCH_ACCURACY)

    def _key_length(self, accuracy: float) -> KeyLength:
        return key_length_for(
            self.proof,
            self.bound,
            self.extractor,
            num_rounds=self.num_rounds,
            gamma=self.gamma,
            omega_threshold=self.omega_threshold,
            syndrome_bits=self.syndrome_length,
            soundness_error=self.soundness_error,
            max_late_losses=self.max_late_losses,
            accuracy=accuracy,
            protocol=self.protocol,
        )

    def parameters(self) -> ProtocolParameters:
        """Parameters of the run, to be written to the file that both nodes read.

        `key_bits` is 0 where no key is possible; `smallest_run` gives a size that would make one possible.
        """
        rule: dict[str, Any] = {}
        if self.has_rule:
            certificate = self.certificate()
            extractor_error, key_bits = certificate.extractor_error, certificate.key_cap
            rule = {"constant_bits": certificate.constant_bits, "free_parameters": certificate.free}
        else:
            length = self.key_length()
            extractor_error, key_bits = length.extractor_error, length.bits
        return ProtocolParameters(
            length=self.length,
            increments=self.syndrome_totals[1:],
            code_design=self.code_design,
            **rule,
            num_rounds=self.num_rounds,
            test_numerator=self.gamma.numerator,
            test_bits=self.gamma.denominator.bit_length() - 1,
            omega_threshold=self.omega_threshold,
            syndrome_bits=self.syndrome_totals[0],
            key_bits=key_bits,
            soundness_error=self.soundness_error,
            one_bit_error=extractor_error / max(1, key_bits),
            design_chsh_score=self.chsh_score,
            design_qber=self.qber,
            proof=self.proof,
            bound=self.round_bound,
            extractor=self.extractor,
            max_tests=test_limit(self.num_rounds, self.gamma) if self.proof == "counted" else None,
            max_late_losses=self.max_late_losses,
            end_token=self.end_token,
            protocol=self.protocol,
            design_second_qber=self.second_qber,
        )

    def estimate(self) -> float:
        """About `key_length`, in bits, negative where there is no key. Not a proof: for searches and curves.

        Of `renyi` the maximum over strategies is approximated here instead of certified, which is faster.
        """
        if self.has_rule:
            return self._rule_estimate()
        if self.round_bound is None:
            return self._key_length(ESTIMATE_ACCURACY).value
        length = renyi.estimated_length(
            self.num_rounds,
            self.gamma,
            losses_accepted(self.num_rounds, self.gamma, self.omega_threshold),
            self.syndrome_length,
            self.soundness_error,
            self.round_bound,
            self.extractor,
            NUM_KEY_BASES[self.protocol],
        )
        return length - self.max_late_losses

    def expected_bits(self) -> int:
        """Length of the key, certified; of a variable length at the mean counts of the design link."""
        if self.length == "fixed":
            return self.key_length().bits
        return math.floor(self.link.mean_bits(self.certificate().rule))

    def _rule_estimate(self) -> float:
        """Mean of a variable length, or the fixed one, without certificate."""
        point = self
        if self.is_scheduled:  # its threshold takes seconds to find, and varies little
            efficiency = TYPICAL_THRESHOLD * (1 + 5 / math.sqrt(self.num_rounds))
            point = dataclasses.replace(self, syndrome_efficiency=efficiency)
        bits = estimated_key(point._problem(), self.link, self.free_parameters)
        return bits - self.max_late_losses if self.length == "fixed" else bits

    def minimum_rounds(self, key_bits: int = 1) -> int | None:
        """Fewest rounds that give `key_bits` at this test probability; None if no number does.

        `num_rounds` and a fixed `syndrome_bits` play no part: the syndrome follows eq. 23 or the efficiency.
        The answer is proven to suffice (the key length was evaluated there) and within 0.2 % of the smallest
        one; 1e8 rounds are the most it tries. Raises ParameterError unless `key_bits` is positive.
        """
        if key_bits < 1:
            raise ParameterError(f"key_bits={key_bits} is below 1; choose at least one bit")
        rate = math.inf  # of two key bases and of the exact value: left to the estimate
        if self.protocol == "ordered" and not self.has_rule:
            rate = asymptotic_rate(self.gamma, self.chsh_score, self.qber, proof=self.proof, bound=self.bound)
        if rate <= 0:
            return None

        def at(num_rounds: int) -> DesignPoint:
            return dataclasses.replace(self, num_rounds=num_rounds, syndrome_bits=None)

        return smallest_sufficient(
            lambda num_rounds: at(num_rounds).estimate(),
            lambda num_rounds: at(num_rounds).expected_bits() >= key_bits,
            key_bits,
        )

    def best_gamma(self, start: Fraction = PUBLISHED_GAMMA) -> Fraction:
        """Test probability k/2^8 with the longest key for this number of rounds.

        With a fixed syndrome, among those whose outcomes it can correct. start: where the search begins.
        """

        def length(numerator: int) -> float:
            gamma = Fraction(numerator, 2**GRID_BITS)
            point = dataclasses.replace(self, gamma=gamma)
            limit = self.num_rounds * point.shannon_limit
            if self.syndrome_bits is not None and self.syndrome_bits < limit:
                return limit * -1e6
            return point.estimate()

        first = int(start * 2**GRID_BITS)
        return Fraction(_climb(length, first, 2**GRID_BITS - 1), 2**GRID_BITS)

    def smallest_run(self, key_bits: int = 1) -> DesignPoint | None:
        """Fewest rounds that give `key_bits`, at their best test probability; None if no number does."""
        largest = dataclasses.replace(self, num_rounds=MAX_NUM_ROUNDS)
        point = dataclasses.replace(largest, gamma=largest.best_gamma())
        num_rounds = point.minimum_rounds(key_bits)
        if num_rounds is None:
            return None
        point = dataclasses.replace(point, num_rounds=num_rounds)
        for _ in range(MAX_REFINEMENTS):
            better = dataclasses.replace(point, gamma=point.best_gamma(point.gamma))
            if better == point:
                break
            fewer = better.minimum_rounds(key_bits)
            if fewer is None or fewer >= point.num_rounds:
                break
            point = dataclasses.replace(better, num_rounds=fewer)
        return point


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
