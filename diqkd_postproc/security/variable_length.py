"""A key-length problem of the `renyi` proof and its certificate: variable (Theorem 1) or fixed (Theorem 2).

Derived for this project, not peer-reviewed. The integer rule that both nodes apply is `protocol.length_rule`.

Toeplitz: the first l rows of the full l_cap x n matrix of n + l_cap - 1 seed bits, never a prefix of [T | 1].
Trevisan: the design of the actual l, never a prefix of a longer output (rule R6). The seed is unknown to Eve
until the list of late losses is closed. alpha, kappa and eta never depend on k, T or X of the run.

`num_losses` counts the lost rounds of docs/order.md, 2.3: lost tests, tests among the late losses, key rounds
with T' = 1. `num_tests` counts T = 1 of all n indices by Bob's column, never played ones included.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.length_rule import FreeParameters, LengthKind, LengthRule
from diqkd_postproc.protocol.parameters import ProtocolParameters
from diqkd_postproc.security.paper import (
    HASH_ERROR,
    MESSAGE_BITS,
    check_gamma,
    check_rounds,
    check_soundness,
)

Order = Literal["ordered", "late-type"]
RoundBound = Literal["exact", "closed", "full", "simple"]
ExtractorKind = Literal["toeplitz", "trevisan"]

NUM_KEY_BASES: dict[str, int] = {"ordered": 1, "late-type": 2}
"""Alice's settings in key rounds: x = 0 only, or both (section 7)."""

NUM_TAGS = 3
"""Authentication tags that are verified, acknowledgement (i) of rule R4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyProblem:
    """What a session is to prove: everything of the key length but the theorem's free parameters.

    gamma: test probability k/2^b. syndrome_bits: m_1 < ... < m_J, the totals after each increment.
    max_losses: L_max, max_late_losses: V_max. message_bits: c, public bits beside the syndrome.
    num_hash_errors: N_h; None for the tags and one comparison an increment, 3 + J (Theorem 1). Raises
    ParameterError outside the domains.
    """

    num_rounds: int
    gamma: Fraction
    soundness_error: float
    syndrome_bits: tuple[int, ...]
    max_losses: int
    max_late_losses: int = 0
    order: Order = "ordered"
    bound: RoundBound = "exact"
    extractor: ExtractorKind = "toeplitz"
    length: LengthKind = "variable"
    message_bits: int = MESSAGE_BITS
    num_hash_errors: int | None = None

    def __post_init__(self) -> None:
        check_rounds(self.num_rounds)
        check_gamma(self.gamma)
        check_soundness(self.soundness_error)
        if Fraction(float(self.gamma)) != self.gamma:
            raise ParameterError(
                f"gamma={self.gamma} is not k/2^b, as random bits produce it; take e.g. 13/256"
            )
        for name, value, choices in (
            ("order", self.order, tuple(NUM_KEY_BASES)),
            ("bound", self.bound, ("exact", "closed", "full", "simple")),
            ("extractor", self.extractor, ("toeplitz", "trevisan")),
            ("length", self.length, ("variable", "fixed")),
        ):
            if value not in choices:
                raise ParameterError(f"{name}={value!r} is unknown; choose one of {', '.join(choices)}")
        if self.bound in ("full", "simple") and self.order != "ordered":
            raise ParameterError(f"bound={self.bound!r} is proven for order='ordered' only; take 'exact'")
        totals = self.syndrome_bits
        if not totals or totals[0] < 0 or any(a >= b for a, b in pairwise(totals)):
            raise ParameterError(
                f"syndrome_bits={totals} is not an increasing list of lengths; give m_1, ..., m_J"
            )
        for name, limit in (("max_losses", self.max_losses), ("max_late_losses", self.max_late_losses)):
            if not 0 <= limit <= self.num_rounds:
                raise ParameterError(
                    f"{name}={limit} is outside [0, {self.num_rounds}], the number of rounds"
                )
        if self.message_bits < 2 or (self.num_hash_errors is not None and self.num_hash_errors < 1):
            raise ParameterError("message_bits is below 2 or num_hash_errors below 1; leave them out")
        if self.secrecy_error() <= 0:
            raise ParameterError(
                f"soundness_error={self.soundness_error} does not cover {self.hash_errors} hash errors"
            )

    @property
    def hash_errors(self) -> int:
        """N_h of Theorem 1."""
        increments = len(self.syndrome_bits)
        return NUM_TAGS + increments if self.num_hash_errors is None else self.num_hash_errors

    @property
    def num_events(self) -> int:
        """|P| of Theorem 1; with a fixed length the increments only, of whose transcripts there are at most J
        2^(m_J + c)."""
        increments = len(self.syndrome_bits)
        return increments * (self.max_losses + 1) if self.length == "variable" else increments

    def secrecy_error(self) -> Fraction:
        """e' = eps_snd - N_h eps_h, exactly."""
        return Fraction(self.soundness_error) - self.hash_errors * Fraction(HASH_ERROR)


def problem_of(parameters: ProtocolParameters) -> KeyProblem:
    """What a run with these parameters is to prove; they have a length rule."""
    return KeyProblem(
        num_rounds=parameters.num_rounds,
        gamma=parameters.gamma,
        soundness_error=parameters.soundness_error,
        syndrome_bits=parameters.syndrome_totals,
        max_losses=parameters.max_losses,
        max_late_losses=parameters.max_late_losses,
        order=parameters.protocol,
        bound=parameters.bound or "exact",
        extractor=parameters.extractor,
        length=parameters.length,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCertificate:
    """A proven rule for the key length; `key_bits` needs its integers only.

    constant_bits: C_int, of a fixed length the length itself or, for Trevisan, its entropy. key_cap: l_cap,
    rows of the largest hash. round_excess: upper bound of g - 1. extractor_error, smoothing: e_PA and e_s of
    Trevisan, else e' and 0. value: C before rounding down. terms: its summands in bits. evidence: the
    arithmetic it rests on, in words.
    """

    problem: KeyProblem
    free: FreeParameters
    constant_bits: int
    key_cap: int
    round_excess: float
    extractor_error: float
    smoothing: float
    value: float
    terms: dict[str, float]
    evidence: str

    @property
    def rule(self) -> LengthRule:
        """The integers of the certificate, from which the nodes compute the length."""
        return LengthRule(
            length=self.problem.length,
            extractor=self.problem.extractor,
            num_rounds=self.problem.num_rounds,
            free=self.free,
            constant_bits=self.constant_bits,
            syndrome_bits=self.problem.syndrome_bits,
            max_losses=self.problem.max_losses,
            max_late_losses=self.problem.max_late_losses,
            key_cap=self.key_cap,
        )

    def key_bits(self, num_losses: int, num_tests: int, late_losses: int, syndrome_sent: int) -> int:
        """Length of the key at these public counts, see `LengthRule.key_bits`."""
        return self.rule.key_bits(num_losses, num_tests, late_losses, syndrome_sent)
