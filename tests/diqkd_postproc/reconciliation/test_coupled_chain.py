"""The spatially coupled code: shape of the chain, trimming, decoding by plain sum-product."""

import numpy as np
import pytest

from diqkd_postproc.protocol.errors import ParameterError
from diqkd_postproc.reconciliation import belief_propagation, decode, flooding
from diqkd_postproc.reconciliation.coupled_chain import Protograph, grow_chain, protograph_for
from diqkd_postproc.reconciliation.density_evolution import threshold_efficiency
from diqkd_postproc.reconciliation.ensemble import SC_LDPC, DegreeEnsemble
from diqkd_postproc.reconciliation.syndrome_code import build_code

GAMMA, QBER, TEST_ERROR = 13 / 256, 0.018, (4 - 2.64) / 8


def test_published_length_needs_the_protograph_of_five_variables() -> None:
    """SI equation 11: (1 + 3/80) / 5 = 0.2075 is the first overhead above 296 517 / 1.5e6."""
    assert protograph_for(1_500_000, 296_517, 80, 4) == Protograph(1, 5)


@pytest.mark.parametrize("syndrome_bits", [12_000, 61_000, 77_777, 200_000, 299_999])
def test_protograph_is_long_enough_and_hardly_longer(syndrome_bits: int) -> None:
    checks, variables = protograph_for(300_000, syndrome_bits, 80, 4)
    overhead = checks * 83 / (80 * variables)
    assert syndrome_bits / 300_000 <= overhead <= 1.13 * syndrome_bits / 300_000


@pytest.mark.parametrize(("n", "m"), [(4000, 830), (4001, 800), (5999, 1051), (4000, 1900)])
def test_trimmed_graph_has_the_shape_asked_for(n: int, m: int) -> None:
    row_start, column = grow_chain(n, m, 80, 4, seed=1)
    degree = np.diff(row_start)
    assert degree.size == m
    assert degree.min() >= 1
    assert column.max() == n - 1
    # Two merged checks that had a neighbour in common have it once.
    assert 3.9 * n < column.size <= 4 * n
    rows = np.repeat(np.arange(m), degree)
    assert np.unique(rows * n + column).size == column.size


def test_untrimmed_chain_is_regular_but_for_its_ends() -> None:
    """40 copies of one check and two variables, lifted by 10: SI figure S12 with d_v = 3, w = 2."""
    row_start, column = grow_chain(800, 420, 40, 3, seed=1)
    degree = np.diff(row_start).reshape(42, 10)
    assert np.all(degree[2:40] == 6)
    assert degree[[0, 1, 40, 41], :].tolist() == [[k] * 10 for k in (2, 4, 4, 2)]
    assert np.all(np.bincount(column) == 3)
    place = column // 20
    check_place = np.repeat(np.arange(420) // 10, degree.ravel())
    assert set(check_place - place) == {0, 1, 2}


def test_flooding_is_sum_product_of_the_equations() -> None:
    """One iteration of SI equations 14 and 15 in double precision."""
    rng = np.random.default_rng(1)
    row_start = np.array([0, 3, 7, 9], dtype=np.int32)
    column = np.array([0, 1, 2, 1, 2, 3, 4, 0, 4], dtype=np.int32)
    prior = rng.normal(1, 2, 5).astype(np.float32)
    posterior = (prior + rng.normal(0, 1, 5)).astype(np.float32)
    message = rng.normal(0, 1, 9).astype(np.float32)
    sign = np.array([1, -1, 1], dtype=np.float32)
    expected = prior.astype(np.float64)
    new = np.empty(9)
    tanh = np.tanh((posterior[column].astype(float) - message) / 2)
    for row in range(3):
        edges = range(row_start[row], row_start[row + 1])
        for edge in edges:
            new[edge] = 2 * np.arctanh(sign[row] * np.prod([tanh[e] for e in edges if e != edge]))
            expected[column[edge]] += new[edge]
    parity = [
        sign[r] * np.prod(np.sign(posterior[column[row_start[r] : row_start[r + 1]]])) for r in range(3)
    ]
    following = np.empty(5, dtype=np.float32)
    violated = flooding.flood(posterior, message, sign, prior, row_start, column, following)
    assert violated == sum(p < 0 for p in parity)
    assert message == pytest.approx(new, abs=1e-4)
    assert following == pytest.approx(expected, abs=1e-4)


def test_decodes_twice_the_limit_at_a_short_block() -> None:
    n, m = 20_000, 6_600
    code = build_code(n, m, GAMMA, "sc-ldpc", seed=1)
    assert code.ensemble is SC_LDPC
    for seed in range(3):
        rng = np.random.default_rng(seed)
        is_test = (rng.random(n) < GAMMA).astype(np.uint8)
        truth = rng.integers(0, 2, n, dtype=np.uint8)
        error = (rng.random(n) < np.where(is_test, TEST_ERROR, QBER)).astype(np.uint8)
        syndrome = code.syndrome(truth, is_test)
        result = decode(code, syndrome, truth ^ error, is_test, QBER, TEST_ERROR)
        assert result.converged
        assert np.array_equal(result.bits, truth)
        assert result.iterations > 0


def test_round_types_do_not_order_the_positions() -> None:
    code = build_code(4000, 1200, GAMMA, "sc-ldpc", seed=1)
    is_test = np.zeros(4000, dtype=np.uint8)
    is_test[::7] = 1
    assert np.array_equal(code.positions(is_test), code.positions(1 - is_test))
    assert np.array_equal(np.sort(code.positions(is_test)), np.arange(4000))


def test_construction_is_deterministic_and_depends_on_the_seed() -> None:
    first, again, other = (build_code(4000, 900, GAMMA, "sc-ldpc", seed=s) for s in (1, 1, 2))
    assert first.digest == again.digest
    assert first.digest != other.digest


def test_unknown_and_unfit_designs_are_refused() -> None:
    with pytest.raises(ParameterError, match="no code design 'polar'"):
        build_code(4000, 900, GAMMA, "polar", seed=1)
    with pytest.raises(ParameterError, match="num_rounds=300 is too short for a chain"):
        build_code(300, 100, GAMMA, "sc-ldpc", seed=1)
    with pytest.raises(ParameterError, match="coupled chain has one degree"):
        DegreeEnsemble.from_dict(SC_LDPC.to_dict() | {"key_degrees": {"3": 1.0, "4": 1.0}})
    assert DegreeEnsemble.from_dict(SC_LDPC.to_dict()) == SC_LDPC


def test_density_evolution_passes_a_chain_by() -> None:
    """Its threshold is not that of the regular code which it couples."""
    assert threshold_efficiency(SC_LDPC, GAMMA, QBER, TEST_ERROR) == SC_LDPC.threshold


def test_hard_decision_counts_no_violation_of_the_right_word() -> None:
    code = build_code(4000, 1500, GAMMA, "sc-ldpc", seed=3)
    bits = np.random.default_rng(1).integers(0, 2, 4000, dtype=np.uint8)
    parity = np.empty(1500, dtype=np.uint8)
    belief_propagation.syndrome_of(bits, 1, code.row_start, code.edge_column, code.edge_shift, parity)
    expected = [
        bits[code.edge_column[a:b]].sum() % 2
        for a, b in np.stack((code.row_start[:-1], code.row_start[1:])).T
    ]
    assert parity.tolist() == expected
