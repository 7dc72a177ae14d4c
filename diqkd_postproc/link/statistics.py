"""Statistics of both nodes' outcomes: CHSH score, bit error rate, probabilities, moving windows.

For characterisation runs, whose outcomes are shared, and for Bob after reconciliation. All functions take the
four arrays `x, y, a, b` of one value a round: Alice's effective setting (0 or 1; 0 in key rounds), Bob's
setting (0, 1, or 2 in key rounds), and the outcome bits, with the conventions of the sealed record: in a key
round a = b is correct, a test round is won when a xor b = x y.

Standard errors and intervals are those of independent rounds (binomial); the security of a key does not rest
on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.protocol.roles import BOB_KEY_SETTING, chsh_score_of_winning, is_test_round

SETTING_PAIRS: tuple[tuple[int, int], ...] = ((0, 0), (1, 0), (0, 1), (1, 1), (0, 2))
"""The (x, y) that occur, in the order of the published table."""

NUM_CHSH_TERMS = 4


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured quantity, its standard error, and the number of rounds behind it."""

    value: float
    standard_error: float
    num_rounds: int


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OutcomeProbabilities:
    """P(A, B | X, Y): the table of twenty entries.

    counts: (5, 2, 2) int64, indexed [setting pair in the order of SETTING_PAIRS, a, b].
    probabilities, standard_errors: (5, 2, 2) float64; NaN for settings that never occurred.
    """

    counts: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    standard_errors: NDArray[np.float64]

    def entries(self) -> Iterator[tuple[int, int, int, int, float, float]]:
        """Yield x, y, a, b, probability, standard error, twenty times."""
        for pair, (x, y) in enumerate(SETTING_PAIRS):
            for a in (0, 1):
                for b in (0, 1):
                    index = (pair, a, b)
                    yield x, y, a, b, float(self.probabilities[index]), float(self.standard_errors[index])


@dataclass(frozen=True, slots=True)
class MovingWindows:
    """Scores in windows of equal length that move along the run (Fig. 3).

    first_round: (k,) int64, index of each window's first round. chsh_score, qber: (k,) float64, NaN in
    windows without test or key rounds. The `_low` and `_high` arrays are Wilson intervals at `confidence`.
    """

    window: int
    confidence: float
    first_round: NDArray[np.int64]
    chsh_score: NDArray[np.float64]
    chsh_low: NDArray[np.float64]
    chsh_high: NDArray[np.float64]
    qber: NDArray[np.float64]
    qber_low: NDArray[np.float64]
    qber_high: NDArray[np.float64]


def outcome_counts(x: ArrayLike, y: ArrayLike, a: ArrayLike, b: ArrayLike) -> NDArray[np.int64]:
    """Number of rounds with each setting pair and outcome: (5, 2, 2) int64, as `OutcomeProbabilities.counts`.

    Raises ParameterError for arrays of different lengths or values that cannot occur.
    """
    xs, ys, outcomes_a, outcomes_b = _checked(x, y, a, b)
    cell = ((xs * 3 + ys) * 2 + outcomes_a) * 2 + outcomes_b
    counts = np.bincount(cell, minlength=24).reshape(2, 3, 2, 2)
    return np.stack([counts[pair] for pair in SETTING_PAIRS]).astype(np.int64)


def outcome_probabilities(x: ArrayLike, y: ArrayLike, a: ArrayLike, b: ArrayLike) -> OutcomeProbabilities:
    """Relative frequencies P(A, B | X, Y) with binomial standard errors.

    NaN for settings that never occurred. Raises as `outcome_counts`.
    """
    return probabilities_of_counts(outcome_counts(x, y, a, b))


def probabilities_of_counts(counts: NDArray[np.int64]) -> OutcomeProbabilities:
    """As `outcome_probabilities`, from the (5, 2, 2) table of counts."""
    totals = counts.sum(axis=(1, 2), keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        probabilities = counts / totals
        errors = np.sqrt(probabilities * (1 - probabilities) / totals)
    return OutcomeProbabilities(counts, probabilities, errors)


def chsh_score(x: ArrayLike, y: ArrayLike, a: ArrayLike, b: ArrayLike) -> Estimate:
    """CHSH score S = E00 + E01 + E10 - E11, each correlator from the rounds with its settings.

    Raises ParameterError if one of the four test settings never occurred.
    """
    return chsh_score_of_probabilities(outcome_probabilities(x, y, a, b))


def chsh_score_of_probabilities(table: OutcomeProbabilities) -> Estimate:
    """CHSH score from the table of probabilities, see `chsh_score`.

    The standard error is that of four independent correlators: sqrt(sum (1 - E^2) / N).
    """
    tests = table.probabilities[:NUM_CHSH_TERMS]
    rounds = table.counts[:NUM_CHSH_TERMS].sum(axis=(1, 2))
    missing = [pair for pair, value in zip(SETTING_PAIRS, tests, strict=False) if np.isnan(value).any()]
    if missing:
        raise ParameterError(
            f"no rounds with settings (x, y) = {missing}: the CHSH score needs all four test settings"
        )
    correlators = tests[:, 0, 0] + tests[:, 1, 1] - tests[:, 0, 1] - tests[:, 1, 0]
    signs = np.array([(-1) ** (x * y) for x, y in SETTING_PAIRS[:NUM_CHSH_TERMS]])
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.sum(np.maximum(1 - correlators**2, 0.0) / rounds)
    return Estimate(float(signs @ correlators), float(np.sqrt(variance)), int(rounds.sum()))


def qber(x: ArrayLike, y: ArrayLike, a: ArrayLike, b: ArrayLike) -> Estimate:
    """Quantum bit error rate Q: fraction of key rounds with different outcomes.

    Raises ParameterError if there are no key rounds.
    """
    key_counts = outcome_counts(x, y, a, b)[NUM_CHSH_TERMS]
    total = int(key_counts.sum())
    if total == 0:
        raise ParameterError(
            "no key rounds (y = 2): the bit error rate needs some; lower the test probability"
        )
    rate = float(key_counts[0, 1] + key_counts[1, 0]) / total
    return Estimate(rate, float(np.sqrt(rate * (1 - rate) / total)), total)


def winning_probability(x: ArrayLike, y: ArrayLike, a: ArrayLike, b: ArrayLike) -> Estimate:
    """Fraction of test rounds that were won, a xor b = x y: what the protocol's threshold is held against.

    Raises ParameterError if there are no test rounds.
    """
    counts = outcome_counts(x, y, a, b)[:NUM_CHSH_TERMS]
    total = int(counts.sum())
    if total == 0:
        raise ParameterError("no test rounds (y = 0 or 1): the CHSH game was never played")
    won = sum(int(np.trace(c) if x * y == 0 else c[0, 1] + c[1, 0]) for (x, y), c in _with_settings(counts))
    rate = won / total
    return Estimate(rate, float(np.sqrt(rate * (1 - rate) / total)), total)


def local_realism_p_value(won: int, tests: int) -> float:
    """Chance that devices whose answers are fixed in advance win at least `won` of `tests` CHSH rounds.

    The binomial tail at 3/4. It holds for devices with memory too, if x and y are uniform and unknown before
    they are used in every round (Bierhorst, J. Phys. A 48, 195302 (2015); Elkouss and Wehner, npj Quantum
    Inf. 2, 16026 (2016)), and if the number of tests was not chosen after the outcomes.
    """
    return float(stats.binom.sf(won - 1, tests, 0.75))


@dataclass(frozen=True, slots=True)
class SignallingCheck:
    """One party's probability of outcome 1 with a setting, less the same where the other party's test setting
    was the other one: 0 where no signal passes between the devices."""

    party: str
    setting: int
    difference: float
    standard_error: float


def no_signalling_checks(counts: NDArray[np.int64]) -> tuple[SignallingCheck, ...]:
    """The four of test rounds; counts: (5, 2, 2) as `OutcomeProbabilities`. NaN where a setting lacks."""
    pairs = {pair: index for index, pair in enumerate(SETTING_PAIRS)}
    checks = []
    for party, axis in (("alice", 0), ("bob", 1)):
        for own in (0, 1):
            pair = [(own, other) if axis == 0 else (other, own) for other in (0, 1)]
            tables = [counts[pairs[settings]] for settings in pair]
            rounds = np.array([table.sum() for table in tables], dtype=float)
            ones = np.array([table.sum(axis=1 - axis)[1] for table in tables], dtype=float)
            with np.errstate(invalid="ignore", divide="ignore"):
                rates = ones / rounds
                error = float(np.sqrt(np.sum(rates * (1 - rates) / rounds)))
            checks.append(SignallingCheck(party, own, float(rates[1] - rates[0]), error))
    return tuple(checks)


def wilson_bounds(
    successes: ArrayLike, trials: ArrayLike, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score intervals of binomial probabilities: cover `confidence` on average, also near 0 and 1.

    successes, trials: (n,) int64; without trials the bounds are NaN. scipy's binomtest gives the same for one
    pair of numbers, in a third of a millisecond: too slow for the thousands of windows of a run.
    """
    _check_confidence(confidence)
    successes, trials = np.asarray(successes), np.asarray(trials)
    z = float(special.ndtri(0.5 + confidence / 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = successes / trials
        centre = rate + z * z / (2 * trials)
        half_width = z * np.sqrt(rate * (1 - rate) / trials + (z / (2 * trials)) ** 2)
        scale = 1 + z * z / trials
        low = np.where(successes == 0, 0.0, (centre - half_width) / scale)
        high = np.where(successes == trials, 1.0, (centre + half_width) / scale)
    empty = trials == 0
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def moving_windows(
    x: ArrayLike,
    y: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    window: int = 100_000,
    step: int | None = None,
    confidence: float = 0.95,
) -> MovingWindows:
    """CHSH score and bit error rate in moving windows of `window` rounds, one every `step` rounds.

    The defaults are those of Fig. 3; `step` defaults to a hundredth of the window. In a window S = 8 w - 4,
    from the fraction w of won test rounds. Raises ParameterError if the run is shorter than a window.
    """
    xs, ys, outcomes_a, outcomes_b = _checked(x, y, a, b)
    num_rounds = len(xs)
    if not 1 <= window <= num_rounds:
        raise ParameterError(
            f"window={window} is outside [1, {num_rounds}], the number of rounds; shorten it"
        )
    if step is None:
        step = max(1, window // 100)
    if step < 1:
        raise ParameterError(f"step={step} is below 1")
    _check_confidence(confidence)
    first = np.arange(0, num_rounds - window + 1, step, dtype=np.int64)

    def in_windows(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
        running = np.concatenate(([0], np.cumsum(flags, dtype=np.int64)))
        return np.asarray(running[first + window] - running[first], dtype=np.int64)

    is_test = is_test_round(ys)
    different = outcomes_a != outcomes_b
    num_tests = in_windows(is_test)
    won = in_windows(is_test & (different == (xs * ys == 1)))
    errors = in_windows(~is_test & different)
    with np.errstate(invalid="ignore", divide="ignore"):
        won_fraction = won / num_tests
        error_fraction = errors / (window - num_tests)
    won_low, won_high = wilson_bounds(won, num_tests, confidence)
    qber_low, qber_high = wilson_bounds(errors, window - num_tests, confidence)
    return MovingWindows(
        window=window,
        confidence=confidence,
        first_round=first,
        chsh_score=chsh_score_of_winning(won_fraction),
        chsh_low=chsh_score_of_winning(won_low),
        chsh_high=chsh_score_of_winning(won_high),
        qber=error_fraction,
        qber_low=qber_low,
        qber_high=qber_high,
    )


def _with_settings(counts: NDArray[np.int64]) -> Iterator[tuple[tuple[int, int], NDArray[np.int64]]]:
    yield from zip(SETTING_PAIRS[:NUM_CHSH_TERMS], counts, strict=True)


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ParameterError(f"confidence={confidence} is outside (0, 1); the usual choice is 0.95")


def _checked(
    x: ArrayLike, y: ArrayLike, a: ArrayLike, b: ArrayLike
) -> tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.int8], NDArray[np.int8]]:
    """The four arrays as int8, after checking shapes, ranges and that key rounds have x = 0."""
    arrays = {"x": np.asarray(x), "y": np.asarray(y), "a": np.asarray(a), "b": np.asarray(b)}
    for name, array in arrays.items():
        if array.ndim != 1 or array.shape != arrays["x"].shape:
            raise ParameterError(
                f"{name} has shape {array.shape}, x has {arrays['x'].shape}: give one value a round in each; "
                "are the records of the same run?"
            )
        if array.dtype.kind not in "biu":
            raise ParameterError(f"{name} has dtype {array.dtype}; give integers")
        highest = BOB_KEY_SETTING if name == "y" else 1
        if array.size and not (array.min() >= 0 and array.max() <= highest):
            raise ParameterError(f"{name} has values outside [0, {highest}]; is it the right dataset?")
    xs, ys, outcomes_a, outcomes_b = (array.astype(np.int8) for array in arrays.values())
    overlooked = int(np.count_nonzero(~is_test_round(ys) & (xs != 0)))
    if overlooked:
        raise ParameterError(
            f"{overlooked} key rounds have x = 1: Alice's setting must be overridden to 0 there"
        )
    return xs, ys, outcomes_a, outcomes_b
