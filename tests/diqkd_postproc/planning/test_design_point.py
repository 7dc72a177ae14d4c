"""S and Q from records of a characterisation run."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from diqkd_postproc.link.characterisation import characterise, read_records
from diqkd_postproc.planning.design_point import DesignPoint
from diqkd_postproc.planning.plan import make_plan
from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.records.sealed_record import RoundRecord, undisturbed
from tests.support.example_parameters import small_parameters

NUM_ROUNDS = 40_000


def parameters(key_bits=0):
    return small_parameters(NUM_ROUNDS, test_numerator=1, test_bits=1, key_bits=key_bits)


def records(folder, chsh_score=2.677, qber=0.0144, key_bits=0, run_id="ab" * 16, seed=4):
    """Paths of both records of a link with independent errors."""
    random = np.random.default_rng(seed)
    test = random.random(NUM_ROUNDS) < 0.5
    x = np.where(test, random.integers(0, 2, NUM_ROUNDS), 0).astype(np.uint8)
    y = np.where(test, random.integers(0, 2, NUM_ROUNDS), 2).astype(np.uint8)
    a = random.integers(0, 2, NUM_ROUNDS).astype(np.uint8)
    wrong = random.random(NUM_ROUNDS) < np.where(test, (4 - chsh_score) / 8, qber)
    b = (a ^ wrong ^ (test & (x == 1) & (y == 1))).astype(np.uint8)
    paths = []
    for role, setting, outcome in (("alice", x, a), ("bob", y, b)):
        record = RoundRecord(
            role=role,
            parameters=parameters(key_bits),
            run_id=run_id,
            setting=setting,
            outcome=outcome,
            **undisturbed(test.astype(np.uint8)),
            herald_pattern=np.full(NUM_ROUNDS, 0b0011, dtype=np.uint8),
            timestamp_mu=np.arange(NUM_ROUNDS, dtype=np.int64),
            lost=np.zeros(NUM_ROUNDS, dtype=np.uint8),
        )
        path = folder / f"{role}-{seed}.h5"
        record.write(path)
        paths.append(path)
    return paths


def measured(first, second):
    return characterise(*read_records(first, second))


@pytest.fixture
def folder(tmp_path):
    private = tmp_path / "run"
    private.mkdir(mode=0o700)
    return private


def test_link_is_measured_within_its_uncertainty(folder):
    """5 standard errors, seed fixed: a false alarm has probability below 1e-6."""
    found = measured(*records(folder))
    assert abs(found.chsh_score.value - 2.677) < 5 * found.chsh_score.standard_error
    assert abs(found.qber.value - 0.0144) < 5 * found.qber.standard_error
    score, error = found.design_point(2.0)
    assert score == pytest.approx(found.chsh_score.value - 2 * found.chsh_score.standard_error)
    errors = round(found.qber.value * found.qber.num_rounds)
    two_deviations = math.erf(2 / math.sqrt(2))
    interval = binomtest(errors, found.qber.num_rounds).proportion_ci(two_deviations, method="wilson")
    assert error == pytest.approx(interval.high)


def test_uncertainty_of_the_score_makes_aborts_likelier(folder):
    found = measured(*records(folder))
    score, error = found.design_point(0.0)
    plan = make_plan(DesignPoint(chsh_score=score, qber=error), optimise_gamma=True)
    assert 10 * plan.bell_abort(score) < plan.mean_bell_abort(found.chsh_score) < 0.5
    # The same average by sampling: 5 standard errors of 20 000 draws.
    random = np.random.default_rng(1)
    draws = found.chsh_score.value + found.chsh_score.standard_error * random.standard_normal(20_000)
    sampled = np.mean([plan.bell_abort(float(s)) for s in draws[:2000]])
    assert plan.mean_bell_abort(found.chsh_score) == pytest.approx(sampled, abs=5 * 0.5 / math.sqrt(2000))
    score, error = found.design_point(4.0)
    safe = make_plan(DesignPoint(chsh_score=score, qber=error), optimise_gamma=True)
    assert safe.mean_bell_abort(found.chsh_score) < 1e-3


def test_runs_that_make_a_key_are_never_compared(folder):
    with pytest.raises(ParameterError, match="may not be compared"):
        measured(*records(folder, key_bits=10))


def test_records_that_do_not_belong_together_are_refused(folder):
    alice, bob = records(folder)
    other_alice, _ = records(folder, run_id="cd" * 16, seed=5)
    with pytest.raises(ParameterError, match="both alice's"):
        measured(alice, other_alice)
    with pytest.raises(ParameterError, match="different runs"):
        measured(other_alice, bob)


def test_classical_links_are_refused(folder):
    found = measured(*records(folder, chsh_score=2.0))
    with pytest.raises(ParameterError, match="deviations above 2"):
        found.design_point(2.0)
