from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diqkd_postproc.protocol.errors import ParameterError, QrngFailure
from diqkd_postproc.records.health_tests import (
    START_UP_BYTES,
    AdaptiveProportionTest,
    HealthTested,
    RepetitionCountTest,
    proportion_cutoff,
    repetition_cutoff,
)


class Replay:
    """A source that plays back prepared bytes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def read(self, num_bytes: int) -> bytes:
        self.position += num_bytes
        return self.data[self.position - num_bytes : self.position]

    def ping(self) -> bool:
        return True

    def close(self) -> None:
        self.data = b""


def random_bytes(seed: int, num_bytes: int) -> bytes:
    return np.random.default_rng(seed).bytes(num_bytes)


def test_cutoffs_against_published_values() -> None:
    # SP 800-90B 4.4.1 and 4.4.2: H = 1, alpha = 2^-20 gives 21, and 589 for windows of 1024.
    assert repetition_cutoff(1, -20) == 21
    assert proportion_cutoff(1, 1024, -20) == 589
    # The table of the Linux kernel's jitter entropy source: H = 1, alpha = 2^-30, windows of 512.
    assert proportion_cutoff(1) == 325


@pytest.mark.parametrize("min_entropy", [0.5, 1, 4, 7, 7.5, 8])
def test_proportion_cutoff_is_the_smallest(min_entropy: float) -> None:
    with mpmath.workdps(60):
        p = mpmath.mpf(2) ** -min_entropy
        alpha = mpmath.mpf(2) ** -30

        def tail(k: int) -> mpmath.mpf:
            """P(at least k of 512)."""
            return mpmath.fsum(mpmath.binomial(512, j) * p**j * (1 - p) ** (512 - j) for j in range(k, 513))

        cutoff = proportion_cutoff(min_entropy)
        assert tail(cutoff) <= alpha < tail(cutoff - 1)


@given(st.lists(st.integers(0, 2), max_size=60), st.lists(st.integers(0, 60), max_size=4), st.integers(2, 6))
def test_repetition_count_across_calls(samples: list[int], cuts: list[int], cutoff: int) -> None:
    longest = max((len(list(run)) for _, run in itertools.groupby(samples)), default=0)
    test = RepetitionCountTest(cutoff)
    parts = np.split(np.array(samples, dtype=np.uint8), sorted(min(c, len(samples)) for c in cuts))
    assert all([test.passes(part) for part in parts]) == (longest < cutoff)


@given(st.lists(st.integers(0, 2), max_size=60), st.lists(st.integers(0, 60), max_size=4), st.integers(2, 8))
def test_adaptive_proportion_across_calls(samples: list[int], cuts: list[int], cutoff: int) -> None:
    windows = [samples[i : i + 8] for i in range(0, len(samples), 8)]
    worst = max((window.count(window[0]) for window in windows), default=0)
    test = AdaptiveProportionTest(cutoff, window=8)
    parts = np.split(np.array(samples, dtype=np.uint8), sorted(min(c, len(samples)) for c in cuts))
    assert all([test.passes(part) for part in parts]) == (worst < cutoff)


def test_good_source_passes_and_start_up_bytes_are_discarded() -> None:
    # False alarm below 1e-6: 1 MB at 2^-40 a byte (repetition), 2000 windows at far below 2^-30.
    data = random_bytes(1, START_UP_BYTES + 1_000_000)
    source = HealthTested(Replay(data))
    assert source.ping()
    assert source.read(1_000_000) == data[START_UP_BYTES:]


@pytest.mark.parametrize(
    ("faulty", "name"),
    [
        (bytes(4096), "repetition count"),
        (b"\xa5" * 4096, "adaptive proportion"),
        (b"\x00\x01" * 2048, "adaptive proportion"),
        (b"\x00\x01\x02\x03\x04\x05\x06\x07" * 512, "adaptive proportion"),
    ],
)
def test_faulty_source_fails_at_start_and_later_for_good(faulty: bytes, name: str) -> None:
    with pytest.raises(QrngFailure, match=name):
        HealthTested(Replay(faulty))
    good = random_bytes(2, 2 * START_UP_BYTES)
    source = HealthTested(Replay(good + faulty + good))
    source.read(START_UP_BYTES)
    with pytest.raises(QrngFailure, match=name):
        source.read(len(faulty))
    with pytest.raises(QrngFailure, match=name):
        source.read(1)
    assert not source.ping()


def test_min_entropy_range() -> None:
    with pytest.raises(ParameterError, match="min_entropy=9"):
        HealthTested(Replay(b""), min_entropy=9)
