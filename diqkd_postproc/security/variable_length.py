"""Integer rule for the length of a key that depends on public counts.

Derived for this project, not peer-reviewed.

With k lost rounds, N_t test rounds, v late losses and m_j syndrome bits sent (VARIABLE_LENGTH.md, Theorem 1;
section 8, 3)

    l = (1024 C_int + eta' N_t - kappa' k) div 1024 - m_j - v,    eta' = 1024 eta, kappa' = 1024 kappa,

at most `key_cap`; no key if l <= 0 or a limit is exceeded. With a `fixed` length (Theorem 2) the key is made
if kappa' k - eta' N_t <= Lambda', and C_int is its length. For Trevisan's extractor (section 5) l is the
largest whole number with l + 4 log2 l <= the same expression. Both nodes compute in integers: the same key to
the bit.

Toeplitz: the first l rows of the full l_cap x n matrix of n + l_cap - 1 seed bits, never a prefix of [T | 1].
Trevisan: the design of the actual l, never a prefix of a longer output (rule R6). The seed is unknown to Eve
until the list of late losses is closed (0a.4). alpha, kappa and eta never depend on k, T or X of the run.

`num_losses` counts the lost rounds of ORDER.md, 2.3: lost tests, tests among the late losses, key rounds with
T' = 1. `num_tests` counts T = 1 of all n indices by Bob's column, never played ones included (0a.3, 0a.7).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.security.paper import (
    HASH_ERROR,
    MESSAGE_BITS,
    check_gamma,
    check_rounds,
    check_soundness,
)

LengthKind = Literal["variable", "fixed"]
Order = Literal["ordered", "late-type"]
RoundBound = Literal["exact", "closed", "full", "simple"]
ExtractorKind = Literal["toeplitz", "trevisan"]

NUM_KEY_BASES: dict[str, int] = {"ordered": 1, "late-type": 2}
"""Alice's settings in key rounds: x = 0 only, or both (section 7)."""

PRICE_UNIT = 1024
"""kappa and eta are whole multiples of 2^-10 (section 8, 1)."""

ORDER_UNIT = 1 << 40
"""alpha - 1 is a whole multiple of 2^-40: exact in double precision, as is alpha."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeParameters:
    """Free parameters of the theorem, as integers: any choice is safe, the best one gives the longest key.

    order_minus_one: (alpha - 1) 2^40. loss_price, test_credit: kappa' and eta', 1024 kappa and 1024 eta.
    loss_budget: Lambda' = 1024 Lambda of a fixed length. They are chosen before the first round (section 2).
    """

    order_minus_one: int
    loss_price: int
    test_credit: int = 0
    loss_budget: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.order_minus_one <= ORDER_UNIT:
            raise ParameterError(
                f"order_minus_one={self.order_minus_one} is outside (0, 2^40]: alpha in (1, 2]"
            )
        if self.loss_price < PRICE_UNIT:
            raise ParameterError(
                f"loss_price={self.loss_price} is below 1024: the proof requires kappa >= 1 (0a.3)"
            )
        if self.test_credit < 0:
            raise ParameterError(f"test_credit={self.test_credit} is negative; 0 is always allowed")

    @property
    def excess_order(self) -> Fraction:
        """alpha - 1."""
        return Fraction(self.order_minus_one, ORDER_UNIT)

    @property
    def kappa(self) -> Fraction:
        """Bits a lost round costs."""
        return Fraction(self.loss_price, PRICE_UNIT)

    @property
    def eta(self) -> Fraction:
        """Bits a test round is credited with."""
        return Fraction(self.test_credit, PRICE_UNIT)

    @staticmethod
    def rounded(
        order_minus_one: float, kappa: float, eta: float = 0.0, loss_budget: float = 0.0
    ) -> FreeParameters:
        """The nearest integers."""
        return FreeParameters(
            order_minus_one=min(max(1, round(order_minus_one * ORDER_UNIT)), ORDER_UNIT),
            loss_price=max(PRICE_UNIT, round(kappa * PRICE_UNIT)),
            test_credit=max(0, round(eta * PRICE_UNIT)),
            loss_budget=round(loss_budget * PRICE_UNIT),
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

    def entropy_bits(self, num_losses: int, num_tests: int, late_losses: int, syndrome_sent: int) -> int:
        """Right-hand side of the theorem, in integers; negative where there is none. No limit is applied."""
        if self.problem.length == "fixed":
            return self.constant_bits
        credit = self.free.test_credit * num_tests - self.free.loss_price * num_losses
        whole = (PRICE_UNIT * self.constant_bits + credit) // PRICE_UNIT
        return whole - syndrome_sent - late_losses

    def accepts(self, num_losses: int, num_tests: int, late_losses: int) -> bool:
        """Whether the counts are within the limits fixed before the run."""
        within = num_losses <= self.problem.max_losses and late_losses <= self.problem.max_late_losses
        if self.problem.length == "variable":
            return within
        cost = self.free.loss_price * num_losses - self.free.test_credit * num_tests
        return within and cost <= self.free.loss_budget

    def key_bits(self, num_losses: int, num_tests: int, late_losses: int, syndrome_sent: int) -> int:
        """Length of the key at these public counts; 0 for no key. Integer arithmetic only.

        syndrome_sent: m_j, the total that Alice has ever sent, one of the problem's. Raises ParameterError
        for counts that no run has.
        """
        n = self.problem.num_rounds
        for name, count in (
            ("num_losses", num_losses),
            ("num_tests", num_tests),
            ("late_losses", late_losses),
        ):
            if not 0 <= count <= n:
                raise ParameterError(f"{name}={count} is outside [0, {n}], the number of rounds")
        if syndrome_sent not in self.problem.syndrome_bits:
            raise ParameterError(f"syndrome_sent={syndrome_sent} is none of {self.problem.syndrome_bits}")
        if not self.accepts(num_losses, num_tests, late_losses):
            return 0
        entropy = self.entropy_bits(num_losses, num_tests, late_losses, syndrome_sent)
        if self.problem.extractor == "trevisan":
            entropy = largest_trevisan_output(entropy)
        return max(0, min(entropy, self.key_cap))


def largest_trevisan_output(entropy: int) -> int:
    """Largest whole l with l + 4 log2 l <= entropy, that is l^4 <= 2^(entropy - l); 0 if there is none."""
    low, high = 0, max(0, entropy)
    while low < high:
        middle = (low + high + 1) // 2
        if (middle**4 - 1).bit_length() <= entropy - middle:
            low = middle
        else:
            high = middle - 1
    return low
