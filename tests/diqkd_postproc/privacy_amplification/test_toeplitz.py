"""Toeplitz hashing against the matrix itself, and its exact collision probability."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import toeplitz

from diqkd_postproc.fields.number_theoretic_transform import (
    GENERATOR,
    PRIME,
    cyclic_convolution,
)
from diqkd_postproc.privacy_amplification.toeplitz import ToeplitzExtractor, toeplitz_seed_bits
from diqkd_postproc.protocol.errors import ParameterError


def by_matrix(source: np.ndarray, seed: np.ndarray, num_output_bits: int) -> np.ndarray:
    """T a mod 2 with scipy's matrix: first column s[n-1:], first row s[n-1::-1]."""
    n = source.size
    matrix = toeplitz(seed[n - 1 :], seed[n - 1 :: -1]).astype(np.int64)
    assert matrix.shape == (num_output_bits, n)
    return matrix @ source % 2


def test_prime_field() -> None:
    assert PRIME == 3_221_225_473
    assert all(PRIME % d for d in range(2, 56_756))
    for factor in (2, 3):
        assert pow(GENERATOR, (PRIME - 1) // factor, PRIME) != 1


@settings(max_examples=200)
@given(st.data(), st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_random_small_instances(data: st.DataObject, num_input_bits: int, random_seed: int) -> None:
    num_output_bits = data.draw(st.integers(1, num_input_bits))
    random = np.random.default_rng(random_seed)
    extractor = ToeplitzExtractor(num_input_bits, num_output_bits)
    source = random.integers(0, 2, num_input_bits, dtype=np.uint8)
    seed = random.integers(0, 2, extractor.seed_bits, dtype=np.uint8)
    key = extractor.extract(source, seed)
    assert key.dtype == np.uint8
    assert np.array_equal(key, by_matrix(source, seed, num_output_bits))


def test_across_cache_blocks() -> None:
    """Longer than one block of the transform; every output bit against a sum of its own."""
    random = np.random.default_rng(5)
    extractor = ToeplitzExtractor(60_000, 300)
    source = random.integers(0, 2, 60_000, dtype=np.uint8)
    seed = random.integers(0, 2, extractor.seed_bits, dtype=np.uint8)
    assert np.array_equal(extractor.extract(source, seed), by_matrix(source, seed, 300))


def test_largest_counts_are_exact() -> None:
    """All ones: counts 1, 2, ..., n, the largest that can occur."""
    n = 100_000
    ones = np.ones(n, dtype=np.uint8)
    counts = cyclic_convolution(ones, np.ones(2 * n - 1, dtype=np.uint8), 18)
    assert np.array_equal(counts[n - 1 : 2 * n - 1], np.full(n, n))


def test_different_inputs_collide_with_exact_probability() -> None:
    """Over all seeds, every difference d != 0 hashes to zero 2^-l of the times."""
    n, length = 4, 3
    extractor = ToeplitzExtractor(n, length)
    seeds = [np.array(s, dtype=np.uint8) for s in itertools.product((0, 1), repeat=extractor.seed_bits)]
    for difference in itertools.product((0, 1), repeat=n):
        if any(difference):
            source = np.array(difference, dtype=np.uint8)
            zeros = sum(not extractor.extract(source, seed).any() for seed in seeds)
            assert zeros * 2**length == len(seeds)


def test_seed_length_and_progress() -> None:
    assert toeplitz_seed_bits(1_500_000, 440_835) == 1_940_834
    reports: list[tuple[int, int]] = []
    extractor = ToeplitzExtractor(10, 4)
    extractor.extract(
        np.zeros(10, dtype=np.uint8), np.ones(13, dtype=np.uint8), lambda *report: reports.append(report)
    )
    assert reports[0] == (0, 4) and reports[-1] == (4, 4)
    assert repr(extractor) == "ToeplitzExtractor(10, 4)"


@pytest.mark.parametrize(("inputs", "outputs"), [(0, 1), (10, 0), (10, 11), (2**30, 2)])
def test_illegal_sizes_are_refused(inputs: int, outputs: int) -> None:
    with pytest.raises(ParameterError):
        ToeplitzExtractor(inputs, outputs)


@pytest.mark.parametrize(
    ("source", "seed", "message"),
    [
        (np.zeros(9, np.uint8), np.zeros(13, np.uint8), "source has shape"),
        (np.zeros(10, np.uint8), np.zeros(12, np.uint8), "seed has shape"),
        (np.zeros(10, np.int64), np.zeros(13, np.uint8), "dtype uint8"),
        (np.full(10, 2, np.uint8), np.zeros(13, np.uint8), "other than 0 and 1"),
    ],
)
def test_illegal_arrays_are_refused(source: np.ndarray, seed: np.ndarray, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        ToeplitzExtractor(10, 4).extract(source, seed)
