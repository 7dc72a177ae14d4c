"""The simulated generator: reproducible with a seed, and never short."""

import pytest

from diqkd_node.controllers.simulated_quantis import SimulatedQuantis


def test_seeded_stream_does_not_depend_on_how_it_is_read() -> None:
    whole = SimulatedQuantis(seed=5, stream="alice").read(200_000)
    parts = SimulatedQuantis(seed=5, stream="alice")
    assert b"".join(parts.read(n) for n in (1, 65_535, 70_000, 64_464)) == whole
    assert SimulatedQuantis(seed=5, stream="bob").read(64) != whole[:64]
    assert SimulatedQuantis(seed=6, stream="alice").read(64) != whole[:64]


def test_without_a_seed_streams_differ() -> None:
    assert SimulatedQuantis().read(32) != SimulatedQuantis().read(32)


def test_negative_length_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        SimulatedQuantis(seed=1).read(-1)
