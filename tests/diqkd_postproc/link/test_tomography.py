"""Tomography against the published data set, exact states, another optimiser, and brute force."""

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import unitary_group

from diqkd_postproc.link.tomography import (
    analyse,
    bell_phase,
    closest_maximally_entangled_state,
    maximum_likelihood,
    outcome_distribution,
    projectors,
)
from diqkd_postproc.link.tomography_counts import OBSERVABLES, TomographyCounts
from diqkd_postproc.protocol.errors import ParameterError
from tests.support.paths import ROOT

PUBLISHED = ROOT / "docs" / "data" / "published_tomography.csv"  # SI Table S2
ROUNDS_A_SETTING = 1000.0


def bell_state(phase: float) -> np.ndarray:
    vector = np.array([0, 1, np.exp(1j * phase), 0]) / np.sqrt(2)
    return np.outer(vector, vector.conj())


def random_state(rng: np.random.Generator, rank: int) -> np.ndarray:
    factor = rng.normal(size=(4, rank)) + 1j * rng.normal(size=(4, rank))
    rho = factor @ factor.conj().T
    return rho / np.trace(rho).real


def exact_states() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "Bell state": bell_state(1.805),
        "product state": np.diag([0.0, 1, 0, 0]).astype(complex),
        "Werner state": 0.7 * bell_state(-0.4) + 0.3 * np.eye(4) / 4,
        "completely mixed": np.eye(4, dtype=complex) / 4,
        **{f"random, rank {rank}": random_state(rng, rank) for rank in (1, 2, 3, 4)},
    }


def test_published_data_set() -> None:
    """SI Table S2 in, SI section S2 B and Fig. S3 out. The panels of Fig. S3 do not come in the order of the
    table: its matrices, and with them the fidelities, are those of 0101, 1010, 0011 and 1100."""
    counts = TomographyCounts.read(PUBLISHED)
    assert counts.num_heralds == 180_000
    assert [int(table.sum()) for table in counts.by_pattern.values()] == [43182, 43524, 46016, 47278]
    result = analyse(counts, num_resamples=60)
    fidelities = {name: round(100 * p.fidelity.value, 1) for name, p in result.by_pattern.items()}
    assert fidelities == {"0011": 95.8, "0101": 96.1, "1010": 96.4, "1100": 95.8}
    errors = {name: 100 * p.fidelity.standard_error for name, p in result.by_pattern.items()}
    assert errors == pytest.approx({"0011": 0.2, "0101": 0.3, "1010": 0.1, "1100": 0.2}, abs=0.12)
    assert round(100 * result.mean_fidelity.value, 1) == 96.0
    assert round(100 * result.mean_fidelity.standard_error, 1) == 0.1
    # Fig. S3: |rho| of (01,00) and (10,00), (10,01), (11,00), and (11,01) and (11,10).
    figure = {
        "0101": (0.047, 0.055, 0.465, 0.004, 0.020, 0.026),
        "1010": (0.043, 0.049, 0.468, 0.003, 0.021, 0.028),
        "0011": (0.037, 0.039, 0.467, 0.004, 0.019, 0.022),
        "1100": (0.044, 0.047, 0.465, 0.001, 0.008, 0.012),
    }
    for name, printed in figure.items():
        rho = np.abs(result.by_pattern[name].state.rho)
        estimated = [*sorted((rho[1, 0], rho[2, 0])), rho[2, 1], rho[3, 0], *sorted((rho[3, 1], rho[3, 2]))]
        np.testing.assert_allclose(estimated, printed, atol=6e-4)


@pytest.mark.parametrize("name", exact_states())
def test_exact_frequencies_give_the_state(name: str) -> None:
    rho = exact_states()[name]
    counts = ROUNDS_A_SETTING * outcome_distribution(rho)[None]
    (estimate,) = maximum_likelihood(counts, max_gap=1e-3)
    # A gap g leaves |p - p'|^2 below about 2 g / 1000 in every setting (Pinsker): 1.4e-3, and 1e-4 in fact.
    np.testing.assert_allclose(
        outcome_distribution(estimate.rho), outcome_distribution(rho), rtol=0, atol=2e-4
    )
    found, _ = closest_maximally_entangled_state(estimate.rho)
    expected, _ = closest_maximally_entangled_state(rho)
    assert found == pytest.approx(expected, abs=2e-4)


def log_likelihood(counts: np.ndarray, rho: np.ndarray) -> float:
    return float((counts * np.log(np.maximum(outcome_distribution(rho), 1e-300))).sum())


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_another_optimiser_finds_the_same_maximum(rank: int) -> None:
    """BFGS over a triangular factor of rho, on few counts, where the estimate lies on the boundary."""
    rng = np.random.default_rng(rank)
    truth = random_state(rng, rank)
    counts = rng.multinomial(12, outcome_distribution(truth)).astype(float)
    operators = projectors()

    def state(parameters: np.ndarray) -> np.ndarray:
        factor = np.zeros((4, 4), dtype=complex)
        factor[np.tril_indices(4)] = parameters[:10]
        factor[np.tril_indices(4, -1)] += 1j * parameters[10:]
        rho = factor @ factor.conj().T
        return rho / np.trace(rho).real

    def cost(parameters: np.ndarray) -> float:
        probabilities = np.einsum("ij,skji->sk", state(parameters), operators).real
        return -float((counts * np.log(np.maximum(probabilities, 1e-12))).sum())

    starts = [rng.normal(size=16) for _ in range(2)]
    best = min((minimize(cost, start, options={"maxiter": 600}) for start in starts), key=lambda r: r.fun)
    (estimate,) = maximum_likelihood(counts[None], max_gap=1e-5)
    assert estimate.log_likelihood == pytest.approx(log_likelihood(counts, estimate.rho), abs=1e-8)
    assert estimate.log_likelihood >= -best.fun - 1e-5
    assert estimate.log_likelihood == pytest.approx(-best.fun, abs=2e-3)
    ours, _ = closest_maximally_entangled_state(estimate.rho)
    theirs, _ = closest_maximally_entangled_state(state(best.x))
    assert ours == pytest.approx(theirs, abs=5e-3)


def test_the_certificate_holds() -> None:
    """Even with a coarse tolerance no state beats the estimate by more than the stated gap."""
    rng = np.random.default_rng(5)
    counts = rng.multinomial(50, outcome_distribution(random_state(rng, 2))).astype(float)
    (coarse,) = maximum_likelihood(counts[None], max_gap=3.0)
    (fine,) = maximum_likelihood(counts[None], max_gap=1e-6)
    assert 0 < fine.log_likelihood - coarse.log_likelihood <= coarse.log_likelihood_gap <= 3.0


def test_stacks_are_as_good_as_single_tables() -> None:
    rng = np.random.default_rng(6)
    tables = rng.multinomial(40, outcome_distribution(np.array([random_state(rng, 2) for _ in range(5)])))
    together = maximum_likelihood(tables)
    for table, estimate in zip(tables, together, strict=True):
        (alone,) = maximum_likelihood(table[None])
        np.testing.assert_allclose(alone.rho, estimate.rho, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_fully_entangled_fraction_against_brute_force(rank: int) -> None:
    """Maximised over local unitaries, of which one side's suffice: (U x 1)|Phi+> are all of them."""
    rng = np.random.default_rng(10 + rank)
    rho = random_state(rng, rank)
    fraction, state = closest_maximally_entangled_state(rho)
    assert (state.conj() @ rho @ state).real == pytest.approx(fraction, abs=1e-12)
    reduced = np.einsum("ij,kj->ik", state.reshape(2, 2), state.reshape(2, 2).conj())
    np.testing.assert_allclose(reduced, np.eye(2) / 2, atol=1e-12)

    def overlap(angles: np.ndarray) -> float:
        a, b, c = angles
        unitary = np.array(
            [
                [np.exp(1j * b) * np.cos(a), np.exp(1j * c) * np.sin(a)],
                [-np.exp(-1j * c) * np.sin(a), np.exp(-1j * b) * np.cos(a)],
            ]
        )
        vector = unitary.reshape(4) / np.sqrt(2)
        return -float((vector.conj() @ rho @ vector).real)

    best = min(minimize(overlap, rng.uniform(0, 2 * np.pi, 3)).fun for _ in range(8))
    assert fraction == pytest.approx(-best, abs=1e-7)
    random = unitary_group.rvs(2, size=200, random_state=3).reshape(-1, 4) / np.sqrt(2)
    assert np.einsum("ni,ij,nj->n", random.conj(), rho, random).real.max() <= fraction + 1e-12


@pytest.mark.parametrize("phase", [0.0, 1.7, -2.9])
def test_phase_of_a_bell_state(phase: float) -> None:
    fraction, state = closest_maximally_entangled_state(bell_state(phase))
    assert fraction == pytest.approx(1)
    assert bell_phase(state) == pytest.approx(phase)


def test_stated_errors_cover_the_truth() -> None:
    """A slice of `campaigns/tomography.py`, which does this a hundred times at the published size.

    4 runs of 4 patterns; 1.96 standard errors, known to a fifth, miss with probability below 0.1, and more
    than 10 of 16 misses have probability below 1e-6 (binomial). The seed is fixed."""
    rng = np.random.default_rng(7)
    phases = {"0011": 1.7, "0101": -1.3, "1010": -1.5, "1100": 1.8}
    truth = np.array([0.95 * bell_state(phase) + 0.05 * np.eye(4) / 4 for phase in phases.values()])
    expected, _ = closest_maximally_entangled_state(truth)
    misses = 0
    for seed in range(4):
        tables = rng.multinomial(400, outcome_distribution(truth))
        result = analyse(TomographyCounts(dict(zip(phases, tables, strict=True))), 16, seed)
        for pattern, value in zip(result.by_pattern.values(), expected, strict=True):
            misses += abs(pattern.fidelity.value - value) > 1.96 * pattern.fidelity.standard_error
    assert misses <= 10


def test_table_survives_a_file(tmp_path: Path) -> None:
    counts = TomographyCounts.read(PUBLISHED)
    counts.write(tmp_path / "counts.csv")
    again = TomographyCounts.read(tmp_path / "counts.csv")
    assert list(again.by_pattern) == list(counts.by_pattern)
    for name, table in counts.by_pattern.items():
        np.testing.assert_array_equal(again.by_pattern[name], table)


def test_rounds_are_counted() -> None:
    pattern = np.array([3, 3, 12, 3], dtype=np.uint8)
    pair = np.array([0, 0, 24, 7])
    counts = TomographyCounts.of_rounds(pattern, pair, np.array([1, 1, 3, 0]))
    assert set(counts.by_pattern) == {"0011", "1100"}
    assert counts.by_pattern["0011"][0].tolist() == [0, 2, 0, 0]
    assert counts.by_pattern["0011"][5 * OBSERVABLES.index("Y") + OBSERVABLES.index("-X")].tolist() == [
        *(1, 0, 0, 0)
    ]
    assert counts.by_pattern["1100"][24].tolist() == [0, 0, 0, 1]


HEADER = "pattern,OA,OB,+A+B,+A-B,-A+B,-A-B\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "begins with ''"),
        ("pattern;OA;OB\n", "begins with"),
        (HEADER, "has no counts"),
        (HEADER + "0011,X,W,1,2,3,4\n", "'W' is none of X, Y, -X, -Y, Z"),
        (HEADER + "0011,X,X,1,2,3\n", "6 columns, not 7"),
        (HEADER + "0011,X,X,1,2,3,-4\n", "'-4' is not a count"),
        (HEADER + "0011,X,X,1,2,3,4\n0011,X,X,1,2,3,4\n", r"row 3 .* comes a second time"),
    ],
)
def test_damaged_tables_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ParameterError, match=complaint):
        TomographyCounts.from_csv(text, "counts.csv")


def test_impossible_requests_are_refused() -> None:
    counts = TomographyCounts.read(PUBLISHED)
    with pytest.raises(ParameterError, match="num_resamples=1"):
        analyse(counts, num_resamples=1)
    with pytest.raises(ParameterError, match="shape"):
        maximum_likelihood(np.zeros((25, 4)))
    with pytest.raises(ParameterError, match="without counts"):
        maximum_likelihood(np.zeros((1, 25, 4)))
