"""The weak design's defining property, exhaustively, and against randextract's construction."""

import math

import numpy as np
import pytest
import randextract
from randextract.trevisan.block_design import BlockDesign
from randextract.trevisan.finite_field_polynomial_design import FiniteFieldPolynomialDesign

from diqkd_postproc.privacy_amplification.weak_design import BlockWeakDesign, next_prime, num_design_blocks
from diqkd_postproc.protocol.errors import ParameterError

SIZES = [
    (num_sets, field_size)
    for field_size in (3, 5, 7, 11, 13)
    for num_sets in (1, 2, 3, 4, 5, 8, field_size, field_size + 1, 2 * field_size, 60, 150, 400)
]


@pytest.mark.parametrize(("num_sets", "field_size"), SIZES)
def test_overlap_of_every_set_with_its_predecessors_is_at_most_the_number_of_sets(
    num_sets: int, field_size: int
) -> None:
    design = BlockWeakDesign(num_sets, field_size)
    sets = [frozenset(design.members(index).tolist()) for index in range(num_sets)]
    for index, members in enumerate(sets):
        assert len(members) == field_size
        assert all(0 <= member < design.seed_bits for member in members)
        # Definition 13 of the SI with r = 1.
        assert sum(2 ** len(members & earlier) for earlier in sets[:index]) <= num_sets


@pytest.mark.parametrize("num_sets", [294, 1000, 20_000, 95_884])
def test_overlap_at_the_published_set_size_for_sampled_sets(num_sets: int) -> None:
    design = BlockWeakDesign(num_sets, 293)
    starts = design.block_starts
    assert starts[-1] - starts[-2] <= 293
    members = np.stack([design.members(index) for index in range(min(num_sets, 2500))])
    for index in (1, 293, num_sets // 3, 2499):
        if index < len(members):
            overlap = (members[:index] == members[index]).sum(axis=1)
            assert (2.0**overlap).sum() <= num_sets


def test_published_seed_length() -> None:
    design = BlockWeakDesign(95_884, 293)
    assert design.num_blocks == 14
    assert design.seed_bits == 1_201_886 == 14 * 293**2
    assert num_design_blocks(95_885, 293) == 14


@pytest.mark.parametrize(("num_sets", "field_size"), [(12, 7), (60, 11), (150, 13), (300, 29)])
def test_same_sets_as_randextract(num_sets: int, field_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """randextract takes 2e for the overlap of the basic design; with Ma and Tan's e the designs are equal."""
    overlap = classmethod(lambda cls: math.e)
    monkeypatch.setattr(FiniteFieldPolynomialDesign, "relative_overlap", overlap)
    oracle = BlockDesign(num_sets, field_size)
    oracle.compute_design()
    design = BlockWeakDesign(num_sets, field_size)
    assert design.seed_bits == oracle.range_design
    for index in range(num_sets):
        np.testing.assert_array_equal(design.members(index), oracle.get_set(index))


def test_basic_block_is_randextract_s_finite_field_design() -> None:
    oracle = randextract.WeakDesign.create("finite_field", number_of_sets=200, size_of_sets=17)
    oracle.compute_design()
    design = BlockWeakDesign(1000, 17)
    assert design.block_starts[1] > 200
    for index in range(200):
        np.testing.assert_array_equal(design.members(index), oracle.get_set(index))


def test_next_prime() -> None:
    assert [next_prime(number) for number in (1, 2, 8, 284, 293)] == [2, 2, 11, 293, 293]


@pytest.mark.parametrize(("num_sets", "field_size"), [(0, 7), (5, 9), (5, 2), (5, 1)])
def test_sizes_out_of_range(num_sets: int, field_size: int) -> None:
    with pytest.raises(ParameterError):
        BlockWeakDesign(num_sets, field_size)
