"""Length of the key by the published theorem, SI Proposition 2: the `paper` proof.

The theorem holds for every choice of its free parameters, so the optimiser need not be trusted; only the
evaluation at the parameters it ends with must not exceed the true value. That evaluation is safe because

- the infimum over the winning probability w is bounded, not sampled. Up to a constant its argument is
  eta(w) - eta'(t) w - a V(w). eta is convex (see `min_tradeoff.entropy_bound_slope`). The variance is a
  parabola in w that opens downwards, and V is concave and increasing in the variance, hence V is concave
  in w. The argument is convex, so its tangents at both ends of any bracket of the minimum bound it below;
- only the *slope* of the min-tradeoff function enters: its constant cancels between the threshold and the
  infimum, and the theorem holds for any affine function, so a rounded slope is as good as an exact tangent;
- nothing else cancels. `_margin` bounds the rounding errors, with more than a thousand times the largest
  deviation from sixty-digit arithmetic that the tests find, and is subtracted before rounding down.

The smoothing parameters are the optimum in closed form: every one of them enters as -c log(e) under a linear
budget, where the optimum gives each a share of the budget in proportion to its c.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction

from scipy.optimize import minimize

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.proof_status import PROOF_STATUS
from diqkd_postproc.security.key_length import KeyLength
from diqkd_postproc.security.min_tradeoff import (
    OMEGA_MAX,
    OMEGA_MIN,
    MinTradeoffFunction,
    entropy_bound,
    entropy_bound_slope,
)

PROOF_NAME = "paper"

HASH_ERROR = 2.0**-61
"""Collision probability of the universal hash (SI S9 A)."""

NUM_HASH_ERRORS = 4
"""Hash errors in the soundness error of Proposition 2 (eq. 91)."""

MESSAGE_BITS = 258
"""Public messages besides syndrome and settings: four 64-bit tags and the flags C, F (eq. 93)."""

EXTRACTOR_BITS = 6
"""Constant of the extractor's entropy loss (eq. 53); with MESSAGE_BITS the 264 of eq. 73."""

ROUNDING_SHARE = 1 - 1e-12
"""Part of the soundness error that is spent, so that rounding in the errors' sum cannot exceed the whole."""

SEARCH_ACCURACY = 1e-4
"""Bits to which the optimum over the free parameters is found."""

LOG2_5 = math.log2(5)
LOG2_33 = math.log2(33)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisParameters:
    """Free parameters of Proposition 2.

    tangent_point: t, in (3/4, OMEGA_MAX). renyi_min: alpha' - 1, in (0, 1). renyi_max: alpha'' - 1, in
    (0, 1/log 5). extractor_error: e_PA. smoothing: e_s. smoothing_min, smoothing_max: e_s', e_s'' (eq. 72).
    accumulation_error: e_EA, equal to e_PA + 2 e_s, because both share one maximum in the soundness error.
    """

    tangent_point: float
    renyi_min: float
    renyi_max: float
    extractor_error: float
    smoothing: float
    smoothing_min: float
    smoothing_max: float
    accumulation_error: float

    @property
    def chain_smoothing(self) -> float:
        """e_s - e_s' - 2 e_s'', what is left for the chain rule (eq. 94)."""
        return self.smoothing - self.smoothing_min - 2 * self.smoothing_max

    def soundness_error(self) -> float:
        """Soundness error that these parameters prove (Proposition 2)."""
        secrecy = max(self.accumulation_error, self.extractor_error + 2 * self.smoothing)
        return secrecy + NUM_HASH_ERRORS * HASH_ERROR


def smoothing_cost(error: float) -> float:
    """theta_e = -log(1 - sqrt(1 - e^2)), eq. 66, written without cancellation."""
    return math.log2(1 + math.sqrt(1 - error * error)) - 2 * math.log2(error)


def invert_extractor_loss(entropy: float) -> float:
    """Upsilon(x): the y with y + 4 log y = x (eq. 52), for x >= 1; x itself below, where no key fits."""
    if entropy <= 1.0:
        return entropy
    length = entropy
    for _ in range(100):
        step = (length + 4 * math.log2(length) - entropy) / (1 + 4 / (math.log(2) * length))
        length = max(length - step, 0.5 * length)
        if abs(step) <= 1e-15 * length:
            break
    return length


def second_order(function: MinTradeoffFunction, omega: float) -> float:
    """V(f, q(w)), eq. 69."""
    return 0.5 * math.log(2) * (LOG2_33 + math.sqrt(2 + function.variance(omega))) ** 2


def _second_order_slope(function: MinTradeoffFunction, omega: float) -> float:
    root = math.sqrt(2 + function.variance(omega))
    return 0.5 * math.log(2) * (LOG2_33 + root) / root * function.variance_slope(omega)


def third_order(function: MinTradeoffFunction, renyi: float) -> float:
    """K, eq. 70, at alpha' - 1 = `renyi`; infinite where it leaves the range of doubles."""
    range_bits = 2 + function.span
    if range_bits > 1000:
        return math.inf
    power = math.exp2(renyi * range_bits)
    logarithm = math.log(math.exp2(range_bits) + math.e**2)
    return power * logarithm**3 / (6 * (1 - renyi) ** 3 * math.log(2))


def entropy_rate_bound(function: MinTradeoffFunction, omega_threshold: float, renyi: float) -> float:
    """Lower bound of g_t(omega_thr) + inf_w (eta(w) - g_t(w) - a V(w)), bits a round, a = `renyi`.

    Bisection on the sign of the derivative brackets the minimum of the convex argument; the tangents at the
    ends of the bracket then bound it below.
    """

    def value(omega: float) -> float:
        gain = function.slope * (omega_threshold - omega)
        return gain + entropy_bound(omega) - renyi * second_order(function, omega)

    def derivative(omega: float) -> float:
        return entropy_bound_slope(omega) - function.slope - renyi * _second_order_slope(function, omega)

    low, high = OMEGA_MIN, OMEGA_MAX
    while high - low > 1e-13:
        middle = 0.5 * (low + high)
        if derivative(middle) < 0:
            low = middle
        else:
            high = middle
    bounds = []
    for end, reach in ((low, high - low), (high, low - high)):
        slope = derivative(end)
        if math.isfinite(slope):
            bounds.append(value(end) + slope * reach)
    return max(bounds)


def _terms(
    num_rounds: int,
    gamma: Fraction,
    omega_threshold: float,
    syndrome_bits: int,
    choice: AnalysisParameters,
) -> dict[str, float]:
    """Summands inside Upsilon, eq. 73, with their signs."""
    function = MinTradeoffFunction(choice.tangent_point, float(gamma))
    a, a2 = choice.renyi_min, choice.renyi_max
    conditioning = -math.log2(choice.accumulation_error)
    rate = entropy_rate_bound(function, omega_threshold, a) - a * a * third_order(function, a)
    return {
        "entropy": num_rounds * rate,
        "test_outcomes": -float(num_rounds * gamma),
        "test_outcomes_second_order": -num_rounds * a2 * LOG2_5**2,
        "smoothing_min": -(smoothing_cost(choice.smoothing_min) + (1 + a) * conditioning) / a,
        "smoothing_max": -(smoothing_cost(choice.smoothing_max) + (1 + a2) * conditioning) / a2,
        "chain_rule": -3 * smoothing_cost(choice.chain_smoothing),
        "extractor_error": 5 * math.log2(choice.extractor_error),
        "syndrome": -float(syndrome_bits),
        "messages": -float(MESSAGE_BITS),
        "extractor_constant": -float(EXTRACTOR_BITS),
    }


def _margin(num_rounds: int, terms: dict[str, float]) -> float:
    """Bits that bound the rounding errors: absolute ones of the rate (times n), relative ones of the rest."""
    return 1e-6 + 4e-12 * num_rounds + 1e-13 * sum(abs(term) for term in terms.values())


def evaluate(
    num_rounds: int,
    gamma: Fraction,
    omega_threshold: float,
    syndrome_bits: int,
    choice: AnalysisParameters,
) -> KeyLength:
    """Proposition 2 at given free parameters, rounded down safely.

    Raises ParameterError if a free parameter is outside its domain (eqs. 71, 72).
    """
    _check_choice(choice)
    terms = _terms(num_rounds, gamma, omega_threshold, syndrome_bits, choice)
    return round_down(num_rounds, terms, asdict(choice), proof=PROOF_NAME, status=PROOF_STATUS[PROOF_NAME])


def round_down(
    num_rounds: int, terms: dict[str, float], analysis: Mapping[str, float], proof: str, status: str
) -> KeyLength:
    """The key length that summands inside Upsilon prove, less a margin for rounding errors.

    analysis: the free parameters, with `extractor_error` among them.
    """
    entropy = math.fsum(terms.values()) if all(map(math.isfinite, terms.values())) else -math.inf
    value = invert_extractor_loss(entropy)
    terms = terms | {"extractor_length": value - entropy if math.isfinite(value) else 0.0}
    margin = _margin(num_rounds, terms)
    bits = max(0, math.floor(value - margin)) if math.isfinite(value) else 0
    while bits > 0 and bits + 4 * math.log2(bits) > entropy - margin:
        bits -= 1
    return KeyLength(
        bits=bits,
        value=value,
        proof=proof,
        status=status,
        terms=terms,
        analysis=analysis,
        hash_error=HASH_ERROR,
        extractor_error=analysis["extractor_error"],
        margin=margin,
        certificate=f"double precision; {margin:.2g} bits subtracted for its rounding errors",
    )


def key_length(
    num_rounds: int,
    gamma: Fraction,
    omega_threshold: float,
    syndrome_bits: int,
    soundness_error: float,
    extractor_error: float | None = None,
    accuracy: float = SEARCH_ACCURACY,
) -> KeyLength:
    """Longest key that Proposition 2 proves, over its free parameters.

    num_rounds: n. gamma: test probability, exact. omega_threshold: CHSH winning probability that is accepted.
    syndrome_bits: m. soundness_error: eps_snd. extractor_error: e_PA, None for the optimum. accuracy: bits
    to which the search finds the optimum; any outcome of it is safe. `bits` of the answer is 0 where no key
    is possible. Raises ParameterError for values outside their domain.
    """
    gamma = Fraction(gamma)
    check_problem(num_rounds, gamma, omega_threshold, syndrome_bits, soundness_error)
    budget = error_budget(soundness_error, extractor_error)

    def choose(point: tuple[float, float]) -> AnalysisParameters:
        tangent = 0.75 + (OMEGA_MAX - 0.75) * unit_interval(point[0])
        return _smoothing_choice(num_rounds, tangent, unit_interval(point[1]), budget, extractor_error)

    def cost(point: tuple[float, float]) -> float:
        terms = _terms(num_rounds, gamma, omega_threshold, syndrome_bits, choose(point))
        total = math.fsum(terms.values()) if math.isfinite(terms["entropy"]) else -math.inf
        return -total if math.isfinite(total) else 1e300

    best = search(cost, starting_point(num_rounds, gamma, omega_threshold, budget), accuracy)
    return evaluate(num_rounds, gamma, omega_threshold, syndrome_bits, choose(best))


def search(
    cost: Callable[[tuple[float, float]], float], start: tuple[float, float], accuracy: float
) -> tuple[float, float]:
    """The point of smallest cost, by Nelder and Mead's method, restarted where it ends.

    The optimum need not be proven: the theorem holds at every point.
    """
    for size in (0.3, 0.01) if accuracy < 0.1 else (0.3,):
        simplex = [start, (start[0] + size, start[1]), (start[0], start[1] + size)]
        options = {"xatol": 1e-2 * accuracy, "fatol": accuracy, "maxiter": 400}
        found = minimize(cost, start, method="Nelder-Mead", options=options | {"initial_simplex": simplex})
        start = (float(found.x[0]), float(found.x[1]))
    return start


def error_budget(
    soundness_error: float, extractor_error: float | None, num_hash_errors: int = NUM_HASH_ERRORS
) -> float:
    """What the soundness error leaves for e_PA + 2 e_s, after the hash errors.

    Raises ParameterError if e_PA leaves nothing.
    """
    budget = (soundness_error - num_hash_errors * HASH_ERROR) * ROUNDING_SHARE
    if extractor_error is not None and not 0 < extractor_error < budget:
        raise ParameterError(
            f"an extractor error of {extractor_error:.4g} is outside (0, {budget:.4g}), what "
            f"soundness_error={soundness_error} leaves beside the hash; lower one_bit_error"
        )
    return budget


def _smoothing_choice(
    num_rounds: int, tangent: float, renyi: float, budget: float, extractor_error: float | None
) -> AnalysisParameters:
    """The optimal errors and alpha'' for given t and alpha', to leading order in the errors.

    The budget e_PA + 2 (e_s' + 2 e_s'' + rest) is shared in proportion to the weights 5, 2/a, 2/a2, 6 with
    which the logarithms of the errors enter; a2 balances its linear against its inverse term.
    """
    renyi_max = 0.5 / LOG2_5
    conditioning = -math.log2(budget)
    smoothing_max = 0.0
    weight = 0.0
    for _ in range(4):
        weight = 11 + 2 / renyi + 2 / renyi_max
        smoothing_max = budget * (2 / renyi_max) / weight / 4
        best = math.sqrt((smoothing_cost(smoothing_max) + conditioning) / num_rounds) / LOG2_5
        renyi_max = min(best, 0.999 / LOG2_5)
    # A given e_PA takes its part of the budget first, the others share the rest as before.
    share = budget * 5 / weight if extractor_error is None else extractor_error
    rest = (budget - share) / (budget * (1 - 5 / weight))
    return AnalysisParameters(
        tangent_point=tangent,
        renyi_min=renyi,
        renyi_max=renyi_max,
        extractor_error=share,
        smoothing=(budget - share) / 2,
        smoothing_min=rest * budget * (2 / renyi) / weight / 2,
        smoothing_max=rest * smoothing_max,
        accumulation_error=budget,
    )


def starting_point(
    num_rounds: int, gamma: Fraction, omega_threshold: float, budget: float
) -> tuple[float, float]:
    """Tangent near the threshold, and the Renyi parameter that balances V against the smoothing cost."""
    tangent = min(max(omega_threshold, 0.77), OMEGA_MAX - 0.005)
    spread = second_order(MinTradeoffFunction(tangent, float(gamma)), tangent)
    renyi = min(0.5, math.sqrt(-3 * math.log2(budget) / (num_rounds * spread)))
    return _logit((tangent - 0.75) / (OMEGA_MAX - 0.75)), _logit(renyi)


def unit_interval(value: float) -> float:
    """Map the real line into the open unit interval, clear of its ends."""
    return 1e-12 + (1 - 2e-12) / (1 + math.exp(-min(max(value, -40.0), 40.0)))


def _logit(fraction: float) -> float:
    return math.log(fraction / (1 - fraction))


def _check_choice(choice: AnalysisParameters) -> None:
    domains = {
        "renyi_min": (choice.renyi_min, 0.0, 1.0),
        "renyi_max": (choice.renyi_max, 0.0, 1.0 / LOG2_5),
        "extractor_error": (choice.extractor_error, 0.0, 1.0),
        "smoothing_min": (choice.smoothing_min, 0.0, 1.0),
        "smoothing_max": (choice.smoothing_max, 0.0, 1.0),
        "e_s - e_s' - 2 e_s''": (choice.chain_smoothing, 0.0, 1.0),
        "accumulation_error": (choice.accumulation_error, 0.0, 1.0),
    }
    for name, (value, low, high) in domains.items():
        if not low < value < high:
            raise ParameterError(f"{name}={value} is outside ({low}, {high:.6g}) of Proposition 2")


def check_problem(
    num_rounds: int,
    gamma: Fraction,
    omega_threshold: float,
    syndrome_bits: int,
    soundness_error: float,
) -> None:
    """Raise ParameterError naming the first value outside the domain of Proposition 2, and the remedy.

    Checked before any evaluation, because a formula outside its domain still returns a number.
    """
    check_rounds(num_rounds)
    check_gamma(gamma)
    check_soundness(soundness_error)
    if not 0.5 < omega_threshold <= OMEGA_MAX:
        raise ParameterError(
            f"omega_threshold={omega_threshold} is outside (0.5, {OMEGA_MAX:.7f}]: no device wins more; "
            "choose a threshold below the winning probability (4 + S) / 8 of the link"
        )
    if syndrome_bits < 0:
        raise ParameterError(f"syndrome_bits={syndrome_bits} is negative; give the length of the syndrome")


def check_rounds(num_rounds: int) -> None:
    """Raise ParameterError unless there is at least one round."""
    if num_rounds < 1:
        raise ParameterError(f"num_rounds={num_rounds} is below 1; ask for more rounds")


def check_gamma(gamma: Fraction) -> None:
    """Raise ParameterError unless the test probability is inside (0, 1)."""
    if not 0 < gamma < 1:
        raise ParameterError(
            f"gamma={gamma} is outside (0, 1): both test rounds and key rounds are needed, e.g. 13/256"
        )


def check_soundness(soundness_error: float) -> None:
    """Raise ParameterError unless the soundness error leaves room beside the hash errors."""
    lowest = 2 * NUM_HASH_ERRORS * HASH_ERROR
    if not lowest <= soundness_error <= 0.1:
        raise ParameterError(
            f"soundness_error={soundness_error} is outside [{lowest:.3g}, 0.1]: the hash alone errs with "
            f"probability {NUM_HASH_ERRORS} x {HASH_ERROR:.3g}; the usual choice is 1e-10"
        )
