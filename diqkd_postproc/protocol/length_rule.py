"""Integer rule by which both nodes compute the length of a key from public counts.

With k lost rounds, N_t test rounds, v late losses and m_j syndrome bits sent (docs/variable_length.md)

    l = (1024 C_int + eta' N_t - kappa' k) div 1024 - m_j - v,    eta' = 1024 eta, kappa' = 1024 kappa,

at most `key_cap`; no key if l <= 0 or a limit is exceeded. With a `fixed` length (Theorem 2) the key is made
if kappa' k - eta' N_t <= Lambda', and C_int is its length. For Trevisan's extractor (section 5) l is the
largest whole number with l + 4 log2 l <= the same expression. Integers only: the same key to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from diqkd_postproc.protocol.errors import ParameterError

LengthKind = Literal["fixed", "variable"]

PRICE_UNIT = 1024
"""kappa and eta are whole multiples of 2^-10."""

ORDER_UNIT = 1 << 40
"""alpha - 1 is a whole multiple of 2^-40: exact in double precision, as is alpha."""


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
            raise ParameterError(f"loss_price={self.loss_price} is below 1024: the proof requires kappa >= 1")
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
class LengthRule:
    """What both nodes need to turn public counts into a key length.

    constant_bits: C_int, of a fixed length the length itself or, for Trevisan, its entropy. syndrome_bits:
    m_1 < ... < m_J. key_cap: l_cap, rows of the largest hash.
    """

    length: LengthKind
    extractor: Literal["trevisan", "toeplitz"]
    num_rounds: int
    free: FreeParameters
    constant_bits: int
    syndrome_bits: tuple[int, ...]
    max_losses: int
    max_late_losses: int
    key_cap: int

    def entropy_bits(self, num_losses: int, num_tests: int, late_losses: int, syndrome_sent: int) -> int:
        """Right-hand side of the theorem, in integers; negative where there is none. No limit is applied."""
        if self.length == "fixed":
            return self.constant_bits
        credit = self.free.test_credit * num_tests - self.free.loss_price * num_losses
        whole = (PRICE_UNIT * self.constant_bits + credit) // PRICE_UNIT
        return whole - syndrome_sent - late_losses

    def accepts(self, num_losses: int, num_tests: int, late_losses: int) -> bool:
        """Whether the counts are within the limits fixed before the run."""
        within = num_losses <= self.max_losses and late_losses <= self.max_late_losses
        if self.length == "variable":
            return within
        cost = self.free.loss_price * num_losses - self.free.test_credit * num_tests
        return within and cost <= self.free.loss_budget

    def key_bits(self, num_losses: int, num_tests: int, late_losses: int, syndrome_sent: int) -> int:
        """Length of the key at these public counts; 0 for no key. Integer arithmetic only.

        syndrome_sent: m_j, the total that Alice has ever sent. Raises ParameterError for counts that no run
        has.
        """
        n = self.num_rounds
        for name, count in (
            ("num_losses", num_losses),
            ("num_tests", num_tests),
            ("late_losses", late_losses),
        ):
            if not 0 <= count <= n:
                raise ParameterError(f"{name}={count} is outside [0, {n}], the number of rounds")
        if syndrome_sent not in self.syndrome_bits:
            raise ParameterError(f"syndrome_sent={syndrome_sent} is none of {self.syndrome_bits}")
        if not self.accepts(num_losses, num_tests, late_losses):
            return 0
        entropy = self.entropy_bits(num_losses, num_tests, late_losses, syndrome_sent)
        if self.extractor == "trevisan":
            entropy = largest_trevisan_output(entropy)
        return max(0, min(entropy, self.key_cap))

    def most_losses(self, num_tests: int, late_losses: int, syndrome_sent: int) -> int:
        """Largest number of lost rounds that still makes a key; -1 if none does."""
        low, high = -1, min(self.max_losses, self.num_rounds)
        while low < high:
            middle = (low + high + 1) // 2
            if self.key_bits(middle, num_tests, late_losses, syndrome_sent) > 0:
                low = middle
            else:
                high = middle - 1
        return low


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
