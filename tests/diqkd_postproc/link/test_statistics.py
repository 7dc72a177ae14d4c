"""Link statistics against the published table, scipy's intervals and direct enumeration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from diqkd_postproc.link import statistics as link
from diqkd_postproc.protocol.errors import ParameterError

# PROTOCOL section 3: published P(A, B | X, Y), rows a, columns b, and scores that follow from it.
PUBLISHED = {
    (0, 0): [[0.415, 0.0688], [0.0961, 0.420]],
    (1, 0): [[0.3928, 0.0916], [0.0851, 0.431]],
    (0, 1): [[0.439, 0.0805], [0.0735, 0.4068]],
    (1, 1): [[0.0820, 0.437], [0.3970, 0.0841]],
    (0, 2): [[0.5017, 0.00339], [0.0110, 0.4839]],
}
PUBLISHED_CHSH_SCORE = 2.6769
PUBLISHED_QBER = 0.01439


def rounds_of_published_table(per_setting: int = 100_000) -> tuple[np.ndarray, ...]:
    """Rounds whose frequencies are the published table's, setting pair after setting pair."""
    columns = []
    for (x, y), table in PUBLISHED.items():
        for a in (0, 1):
            for b in (0, 1):
                count = round(table[a][b] * per_setting)
                columns.append(np.tile([[x], [y], [a], [b]], count))
    return tuple(np.hstack(columns).astype(np.uint8))


def test_scores_of_the_published_table() -> None:
    rounds = rounds_of_published_table()
    # The table is rounded to three or four digits and its blocks sum to 1 only within 1e-3.
    assert link.chsh_score(*rounds).value == pytest.approx(PUBLISHED_CHSH_SCORE, abs=1e-3)
    assert link.qber(*rounds).value == pytest.approx(PUBLISHED_QBER, abs=1e-5)


def test_probabilities_of_the_published_table() -> None:
    table = link.outcome_probabilities(*rounds_of_published_table())
    entries = list(table.entries())
    assert len(entries) == 20
    for x, y, a, b, probability, error in entries:
        assert probability == pytest.approx(PUBLISHED[x, y][a][b], abs=5e-4)
        assert error == pytest.approx(np.sqrt(probability * (1 - probability) / 1e5), rel=2e-3)


def test_standard_errors_of_the_published_run() -> None:
    """1 920 000 rounds at gamma = 1/2 gave Q = 1.44(2) %: and S to a few parts in a thousand."""
    generator = np.random.default_rng(1)
    n = 1_920_000
    y = np.where(generator.random(n) < 0.5, generator.integers(0, 2, n), 2)
    x = np.where(y == 2, 0, generator.integers(0, 2, n))
    a = generator.integers(0, 2, n)
    lost = generator.random(n) < np.where(y == 2, PUBLISHED_QBER, (4 - PUBLISHED_CHSH_SCORE) / 8)
    b = a ^ (x * y == 1) ^ lost
    score, errors = link.chsh_score(x, y, a, b), link.qber(x, y, a, b)
    # Five standard errors: false alarm below 1e-6 for each, and the seed is fixed.
    assert abs(score.value - PUBLISHED_CHSH_SCORE) < 5 * score.standard_error
    assert abs(errors.value - PUBLISHED_QBER) < 5 * errors.standard_error
    assert score.standard_error == pytest.approx(0.003, abs=5e-4)
    assert errors.standard_error == pytest.approx(1.2e-4, rel=0.03)
    assert score.num_rounds + errors.num_rounds == n
    winning = link.winning_probability(x, y, a, b)
    assert winning.value == pytest.approx((4 + score.value) / 8, abs=1e-4)


def test_standard_error_of_the_chsh_score_is_its_spread() -> None:
    generator = np.random.default_rng(2)
    n, scores, errors = 2000, [], []
    for _ in range(400):
        x, y = generator.integers(0, 2, n), generator.integers(0, 2, n)
        a = generator.integers(0, 2, n)
        b = a ^ (x * y) ^ (generator.random(n) < 0.16)
        estimate = link.chsh_score(x, y, a, b)
        scores.append(estimate.value)
        errors.append(estimate.standard_error)
    # The spread of 400 values is known to 3.5 % (one sigma); 20 % is beyond five sigma.
    assert np.std(scores) == pytest.approx(np.mean(errors), rel=0.2)


def test_deterministic_and_perfect_strategies() -> None:
    x, y = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    zeros = np.zeros(4, dtype=np.uint8)
    assert link.chsh_score(x, y, zeros, zeros).value == 2.0
    assert link.winning_probability(x, y, zeros, zeros).value == 0.75
    assert link.chsh_score(x, y, zeros, x * y).value == 4.0


outcome_bits = hnp.arrays(np.uint8, st.just(60), elements=st.integers(0, 1))


@given(
    outcome_bits, hnp.arrays(np.uint8, st.just(60), elements=st.integers(0, 2)), outcome_bits, outcome_bits
)
def test_counts_match_enumeration(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    x = np.where(y == 2, 0, x)
    counts = link.outcome_counts(x, y, a, b)
    for index, pair in enumerate(link.SETTING_PAIRS):
        for i in (0, 1):
            for j in (0, 1):
                expected = sum(
                    (p, q) == pair and (r, s) == (i, j) for p, q, r, s in zip(x, y, a, b, strict=True)
                )
                assert counts[index, i, j] == expected
    assert counts.sum() == 60


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0.5, 0.999999))
def test_intervals_match_scipy(trials: int, fraction: float, confidence: float) -> None:
    successes = round(trials * fraction)
    low, high = link.wilson_bounds(successes, trials, confidence)
    oracle = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert (low, high) == pytest.approx((oracle.low, oracle.high), abs=1e-9)


def _wilson(estimate: link.Estimate) -> tuple[float, float]:
    """The 90 % interval of a fraction of rounds, by scipy."""
    test = stats.binomtest(round(estimate.value * estimate.num_rounds), estimate.num_rounds)
    return tuple(test.proportion_ci(0.9, method="wilson"))


def test_moving_windows_match_slices() -> None:
    generator = np.random.default_rng(3)
    n, window, step = 3000, 700, 130
    y = generator.integers(0, 3, n)
    x = np.where(y == 2, 0, generator.integers(0, 2, n))
    a, b = generator.integers(0, 2, n), generator.integers(0, 2, n)
    windows = link.moving_windows(x, y, a, b, window=window, step=step, confidence=0.9)
    assert list(windows.first_round) == list(range(0, n - window + 1, step))
    for k, start in enumerate(windows.first_round):
        part = [array[start : start + window] for array in (x, y, a, b)]
        errors = link.qber(*part)
        assert windows.qber[k] == pytest.approx(errors.value)
        interval = _wilson(errors)
        assert (windows.qber_low[k], windows.qber_high[k]) == pytest.approx(interval)
        winning = link.winning_probability(*part)
        assert windows.chsh_score[k] == pytest.approx(8 * winning.value - 4)
        won = _wilson(winning)
        assert windows.chsh_low[k] == pytest.approx(8 * won[0] - 4)
        assert windows.chsh_high[k] == pytest.approx(8 * won[1] - 4)


def test_windows_without_key_rounds_are_not_numbers() -> None:
    zeros = np.zeros(10, dtype=np.uint8)
    windows = link.moving_windows(zeros, zeros, zeros, zeros, window=10)
    assert np.isnan(windows.qber).all()
    assert np.isnan(windows.qber_low).all()
    assert windows.chsh_score[0] == 4.0


def test_bad_input_is_named() -> None:
    zeros = np.zeros(4, dtype=np.uint8)
    twos = zeros + 2
    cases = [
        ((zeros, zeros, zeros, zeros[:3]), "b has shape"),
        ((zeros, zeros + 3, zeros, zeros), "y has values"),
        ((zeros, zeros, twos, zeros), "a has values"),
        ((zeros, zeros, zeros, zeros * 0.5), "b has dtype"),
        ((zeros + 1, twos, zeros, zeros), "4 key rounds have x = 1"),
    ]
    for arrays, message in cases:
        with pytest.raises(ParameterError, match=message):
            link.outcome_counts(*arrays)
    with pytest.raises(ParameterError, match="four test settings"):
        link.chsh_score(zeros, zeros, zeros, zeros)
    with pytest.raises(ParameterError, match="no key rounds"):
        link.qber(zeros, zeros, zeros, zeros)
    with pytest.raises(ParameterError, match="no test rounds"):
        link.winning_probability(zeros, twos, zeros, zeros)
    with pytest.raises(ParameterError, match="window=5"):
        link.moving_windows(zeros, zeros, zeros, zeros, window=5)
    with pytest.raises(ParameterError, match="step=0"):
        link.moving_windows(zeros, zeros, zeros, zeros, window=2, step=0)
    with pytest.raises(ParameterError, match="confidence=1"):
        link.wilson_bounds(1, 2, 1.0)
