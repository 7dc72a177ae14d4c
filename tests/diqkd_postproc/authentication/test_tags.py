"""The universal hash: its proof checked exhaustively on small fields, and the code against the formula."""

import itertools
import random
from collections import Counter

import galois
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diqkd_postproc.authentication import (
    HASH_COLLISION_PROBABILITY,
    HASH_SEED_BITS,
    one_time_tag,
    universal_hash,
    verify,
)
from diqkd_postproc.fields.carryless import instruction_sets
from diqkd_postproc.protocol.errors import ParameterError

seeds = st.binary(min_size=32, max_size=32)
pads = st.binary(min_size=8, max_size=8)


def formula(
    field: type[galois.FieldArray], blocks: list[int], length: int, point: int, multiplier: int
) -> int:
    """s P_m(r), from the definition, in any field."""
    total = field(length) * field(point)
    for index, block in enumerate(reversed(blocks)):
        total += field(block) * field(point) ** (index + 2)
    return int(field(multiplier) * total)


@pytest.mark.parametrize(("degree", "hash_bits"), [(3, 1), (4, 2)])
def test_construction_is_almost_delta_universal_on_small_fields(degree: int, hash_bits: int) -> None:
    """All seeds, all pairs of messages of up to two blocks, all differences: the proof's bound holds.

    The length takes the place of the bit count, and needs to be a distinct non-zero field element a length.
    """
    field = galois.GF(2**degree)
    size = 2**degree
    messages = [
        (list(blocks), len(blocks))
        for count in (0, 1, 2)
        for blocks in itertools.product(range(size), repeat=count)
    ]
    if degree == 4:
        messages = messages[:20] + random.Random(4).sample(messages[20:], 50)
    seeds_of_field = list(itertools.product(range(size), repeat=2))
    points, multipliers = (field([seed[i] for seed in seeds_of_field]) for i in (0, 1))
    hashes = []
    for blocks, length in messages:
        total = field(length) * points
        for index, block in enumerate(reversed(blocks)):
            total = total + field(block) * points ** (index + 2)
        hashes.append(np.asarray(multipliers * total) % 2**hash_bits)
    for left, right in itertools.combinations(range(len(messages)), 2):
        num_blocks = max(messages[left][1], messages[right][1])
        bound = 2.0**-hash_bits + (num_blocks + 1) / size
        worst = np.bincount(hashes[left] ^ hashes[right]).max()
        assert worst <= bound * len(seeds_of_field)


def test_without_the_length_the_construction_would_fail() -> None:
    """The check above has teeth: without the length, zeros in front change nothing."""
    field = galois.GF(2**4)
    counts = Counter(
        formula(field, [5], 0, point, 3) ^ formula(field, [0, 5], 0, point, 3) for point in range(16)
    )
    assert counts[0] == 16


def test_hash_against_the_formula_in_galois_field() -> None:
    field = galois.GF(2**128, irreducible_poly="x^128 + x^7 + x^2 + x + 1", verify=False)
    generator = random.Random(128)
    for length in (0, 1, 15, 16, 17, 40, 200):
        seed, message = generator.randbytes(32), generator.randbytes(length)
        blocks = [int.from_bytes(message[i : i + 16], "little") for i in range(0, length, 16)]
        point, multiplier = (int.from_bytes(seed[i : i + 16], "little") for i in (0, 16))
        expected = formula(field, blocks, 8 * length, point, multiplier) % 2**64
        assert universal_hash(seed, message) == expected.to_bytes(8, "little")


@given(seeds, st.binary(max_size=400))
@settings(max_examples=50)
def test_instruction_sets_agree(seed: bytes, message: bytes) -> None:
    assert len({universal_hash(seed, message, instruction_set=name) for name in instruction_sets()}) == 1


@pytest.mark.parametrize("length", [1_000_000, 1_000_001])
def test_long_messages_and_any_buffer(length: int) -> None:
    generator = random.Random(length)
    seed, message = generator.randbytes(32), generator.randbytes(length)
    expected = universal_hash(seed, message, instruction_set="portable")
    for view in (message, bytearray(message), memoryview(message), np.frombuffer(message, np.uint8)):
        assert universal_hash(seed, view) == expected  # type: ignore[arg-type]
    changed = bytearray(message)
    changed[length // 2] ^= 1
    assert universal_hash(seed, bytes(changed)) != expected


def test_lengths_are_told_apart() -> None:
    seed = random.Random(1).randbytes(32)
    assert len({universal_hash(seed, bytes(length)) for length in range(100)}) == 100


def test_seed_and_error_meet_the_published_ones() -> None:
    assert HASH_SEED_BITS <= 1280
    assert HASH_COLLISION_PROBABILITY <= 2**-61


@given(seeds, pads, st.binary(max_size=64))
@settings(max_examples=50)
def test_tag_is_the_padded_hash_and_verifies(seed: bytes, pad: bytes, message: bytes) -> None:
    tag = one_time_tag(seed, pad, message)
    assert int.from_bytes(tag, "big") == int.from_bytes(
        universal_hash(seed, message), "big"
    ) ^ int.from_bytes(pad, "big")
    assert verify(seed, pad, message, tag)


def test_what_was_changed_does_not_verify() -> None:
    generator = random.Random(9)
    seed, pad, message = generator.randbytes(32), generator.randbytes(8), generator.randbytes(100)
    tag = one_time_tag(seed, pad, message)
    forgeries = [(seed, pad, message, bytes([tag[0] ^ 1]) + tag[1:]), (seed, pad, message, tag[:7])]
    forgeries += [(seed, pad, message, b""), (seed, pad, message, tag + b"\0")]
    forgeries += [
        (seed, pad, message + b"\0", tag),
        (seed, bytes(8), message, tag),
        (bytes(32), pad, message, tag),
    ]
    for forgery in forgeries:
        assert not verify(*forgery)


def test_wrong_lengths_are_refused() -> None:
    with pytest.raises(ParameterError, match="256"):
        universal_hash(bytes(31), b"")
    with pytest.raises(ParameterError, match="64"):
        one_time_tag(bytes(32), bytes(9), b"")
    with pytest.raises(ParameterError, match="instruction_set"):
        universal_hash(bytes(32), b"", instruction_set="sse9")
