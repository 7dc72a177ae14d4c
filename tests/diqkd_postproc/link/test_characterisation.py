"""Characterisation runs: their parameters, live view and refusals."""

from fractions import Fraction

import numpy as np
import pytest

from diqkd_postproc.link.characterisation import BlockScores, characterisation_parameters
from diqkd_postproc.link.statistics import chsh_score, qber
from diqkd_postproc.protocol.errors import ParameterError


@pytest.mark.parametrize(
    ("asked", "gamma"), [(0.5, Fraction(1, 2)), (13 / 256, Fraction(13, 256)), (0.3, Fraction(77, 256))]
)
def test_parameters_allow_no_key(asked: float, gamma: Fraction) -> None:
    parameters = characterisation_parameters(1000, asked)
    assert parameters.gamma == gamma
    assert parameters.key_bits == 0


@pytest.mark.parametrize(("rounds", "asked"), [(1000, 0.0), (1000, 1.0), (1, 0.5)])
def test_impossible_runs_are_refused(rounds: int, asked: float) -> None:
    with pytest.raises(ParameterError, match="give at least 2 rounds"):
        characterisation_parameters(rounds, asked)


def test_blocks_are_those_of_their_rounds() -> None:
    rng = np.random.default_rng(4)
    n = 3000
    y = rng.integers(0, 3, n)
    x = np.where(y == 2, 0, rng.integers(0, 2, n))
    a = rng.integers(0, 2, n)
    b = a ^ (x & (y == 1)) ^ (rng.random(n) < 0.1)
    blocks = BlockScores(block_rounds=900)
    for number, start in enumerate(range(0, n, 500)):
        part = slice(start, start + 500)
        blocks.add(float(number), x[part], y[part], a[part], b[part])
    assert blocks.rows[:, 0].tolist() == [1.0, 3.0, 5.0]
    for row, part in zip(blocks.rows, (slice(0, 1000), slice(1000, 2000), slice(2000, 3000)), strict=True):
        score, error = (
            chsh_score(x[part], y[part], a[part], b[part]),
            qber(x[part], y[part], a[part], b[part]),
        )
        np.testing.assert_allclose(
            row[1:], [score.value, score.standard_error, error.value, error.standard_error]
        )


def test_a_block_waits_for_every_setting() -> None:
    blocks = BlockScores(block_rounds=10)
    blocks.add(0.0, np.zeros(50, int), np.full(50, 2), np.zeros(50, int), np.zeros(50, int))
    assert blocks.rows.shape == (0, 5)
